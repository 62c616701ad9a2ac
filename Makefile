# Two commands on a fresh machine: `make demo` and `make test`. Both do all the set-up themselves.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Torch: the build for this machine is chosen below. TORCH_INDEX_URL, when set, names the package
# index to take it from (PyTorch's install page lists one for CPU-only builds).
TORCH_VERSION ?= 2.13.0
TORCH_INDEX_URL ?=
# Peers live in an environment of their own: what they need must not change what twinvae runs with.
PEERS_VENV ?= .venv-peers

.PHONY: setup demo test lint bench-domain bench-prepare bench-scores bench-evaluation bench-peers campaign clean
setup: $(VENV)/.installed

$(VENV)/.installed: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@if $(BIN)/python -c 'import torch' 2>/dev/null; then echo "torch: keeping the one installed"; \
	elif [ -n "$(TORCH_INDEX_URL)" ]; then echo "torch: from $(TORCH_INDEX_URL)"; \
	  $(BIN)/pip install --quiet torch --index-url $(TORCH_INDEX_URL); \
	elif nvidia-smi >/dev/null 2>&1; then echo "torch: NVIDIA driver found, taking the CUDA build"; \
	  $(BIN)/pip install --quiet 'torch>=2.6'; \
	else echo "torch: no NVIDIA driver, taking a CPU build where the package index offers one"; \
	  $(BIN)/pip install --quiet torch==$(TORCH_VERSION); fi
	$(BIN)/pip install --quiet --editable '.[dev]'
	@touch $@

demo: setup  ## generate a cohort; the paper's two models, then preset best on the same scans
	$(BIN)/twinvae run demo --out runs/demo
	$(BIN)/twinvae run best --out runs/best --set cohort.phantom=null \
	  --set cohort.manifest=runs/demo/manifest.tsv \
	  --set training.healthy.epochs=4 --set training.mixed.epochs=5

test: setup lint  ## every check that a change must pass
	$(BIN)/pytest -n 2 --cov --cov-report=term --cov-fail-under=90

lint: setup
	$(BIN)/ruff check src tests benchmarks
	$(BIN)/ruff format --check src tests benchmarks
	$(BIN)/mypy
	$(BIN)/lint-imports

bench-domain: setup  ## which real and changed scans are out of domain: make bench-domain DATA=DIR
	@test -n "$(DATA)" || { echo "bench-domain: expected DATA=FOLDER (see benchmarks/domain.py)"; exit 2; }
	$(BIN)/python benchmarks/domain.py $(DATA)

bench-prepare: setup  ## seconds and memory a scan, beside TorchIO and MONAI
	$(BIN)/python benchmarks/prepare.py

bench-scores: setup  ## what scores add to the networks' passes, with the paper's networks
	$(BIN)/python benchmarks/scoring_cost.py --further

bench-evaluation: setup  ## seconds for 2,000 resamples of 30 scores on 5,000 slices
	$(BIN)/python benchmarks/evaluation_cost.py

$(PEERS_VENV)/.peers: pyproject.toml
	$(MAKE) setup VENV=$(PEERS_VENV)
	$(PEERS_VENV)/bin/pip install --quiet --editable '.[peers]'
	@touch $@

bench-peers: $(PEERS_VENV)/.peers  ## peers beside a finished run's scores: make bench-peers RUN=runs/demo
	@test -n "$(RUN)" || { echo "bench-peers: expected RUN=FOLDER of a finished run"; exit 2; }
	$(PEERS_VENV)/bin/python benchmarks/peers.py $(RUN)
	$(PEERS_VENV)/bin/twinvae evaluate $(RUN)/peers.tsv -o $(RUN)/peers

campaign: setup  ## kills, full disks, damaged files; ONLY=kills,headers SEED=0 (docs/reliability.md)
	$(BIN)/python benchmarks/campaign $(if $(ONLY),--only $(ONLY)) --seed $(or $(SEED),0)

clean:
	rm -rf $(VENV) $(PEERS_VENV) build dist src/*.egg-info
