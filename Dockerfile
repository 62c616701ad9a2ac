# The BIDS App twinvae-bids: docs/bids.md. Research software, not for clinical use.
FROM python:3.13-slim
ARG TORCH_INDEX_URL=""
WORKDIR /build
COPY pyproject.toml README.md LICENSE ./
COPY .ci/install-app .ci/
COPY src src
RUN .ci/install-app && rm -rf /build
RUN useradd --create-home app
USER app
WORKDIR /tmp
# Whoever --user names may have no home.
ENV HOME=/tmp MPLCONFIGDIR=/tmp/matplotlib DENO_DIR=/tmp/deno
ENTRYPOINT ["twinvae-bids"]
