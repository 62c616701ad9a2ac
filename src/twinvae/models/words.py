"""What a kind of model is, in words: for `models list` and `models show`."""

from __future__ import annotations

from collections.abc import Iterator

from twinvae.config import documented_fields
from twinvae.models.registry import model_class


def model_lines(kind: str) -> Iterator[str]:
    """What it is, where it was published, what it offers, and its own options."""
    model = model_class(kind)
    yield f"{kind}: {(model.__doc__ or '').splitlines()[0]}"
    yield f"source: {model.source}"
    if model.conditional:
        yield "training: one for both roles; models.healthy and models.mixed must be the same"
    if not model.has_encoding:
        encoding = "none; latent scores need another mixed model"
    else:
        learned = "a posterior with learned variances"
        encoding = learned if model.variational else "a code, given as N(code, I)"
    yield f"encoding: {encoding}"
    options = list(documented_fields(model.Options, "options."))
    yield from options or ["options: none of its own"]
