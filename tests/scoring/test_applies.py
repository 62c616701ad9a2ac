"""Which scores which kinds of model can give: each is finite, or says that it does not apply."""

from __future__ import annotations

import pytest
import torch
from test_scores import NET, batch, brains, fitted

from twinvae.config import ModelConfig
from twinvae.errors import ConfigError
from twinvae.models import MODELS, Model, build_model
from twinvae.scoring import SCORES, Models, select_scores

NEED_ELBO = ("healthy_kl", "healthy_elbo", "image_nll", "gradient_")
CODES = ("dense_ae", "spatial_ae", "adversarial_ae", "constrained_adversarial_ae")
TOO_DEEP = ("features_l2_3", "features_l2_4", "features_l2_5")  # the networks here have two layers


def network(kind: str, seed: int) -> Model:
    options = {"steps": 2} if kind == "restoration_vae" else {}
    values = NET.model_dump() | {"kind": kind, "latent_size": 64, "options": options}
    return build_model(ModelConfig.model_validate(values), seed).eval()


def twins(healthy: str, mixed: str) -> Models:
    first = network(healthy, 0)
    second = first if first.conditional and mixed == healthy else network(mixed, 1)
    return Models(first.for_role("healthy"), second.for_role("mixed"))


def refused(models: Models) -> set[str]:
    return {name for name, entry in SCORES.items() if not entry.applies(models)}


def beginning(*prefixes: str) -> set[str]:
    return {name for name in SCORES if name.startswith(prefixes)}


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_every_score_is_finite_or_does_not_apply(kind: str) -> None:
    models = twins(kind, kind)
    x, brain = brains(3)
    seen = batch(x, brain, models)
    seen.fitted = fitted(models)
    able = set(SCORES) - refused(models)
    with torch.no_grad():
        for name in sorted(able):
            found = SCORES[name].compute(seen)
            assert found.shape == (3,), name
            assert found.isfinite().all(), name


@pytest.mark.parametrize("kind", sorted(MODELS))
def test_what_does_not_apply_is_what_the_kind_lacks(kind: str) -> None:
    expected = beginning(*TOO_DEEP)
    if kind in CODES:
        expected |= beginning(*NEED_ELBO)
    if kind in ("denoising_ae", "healing_unet", "slab_unet"):
        expected |= beginning(*NEED_ELBO, "latent_", "healthy_mean_norm")
    assert refused(twins(kind, kind)) == expected


def test_each_model_is_asked_for_what_it_alone_must_give() -> None:
    deep = beginning(*TOO_DEEP)
    healthy_lacks = refused(twins("denoising_ae", "vae")) - deep
    assert healthy_lacks == beginning(*NEED_ELBO, "healthy_mean_norm")
    mixed_lacks = refused(twins("vae", "denoising_ae")) - deep
    assert mixed_lacks == beginning("latent_")
    assert refused(twins("vae", "dense_ae")) == deep


def test_what_does_not_apply_is_refused_by_name_and_left_out_of_patterns() -> None:
    models = twins("vae", "denoising_ae")
    with pytest.raises(ConfigError, match="these models can give, found latent_l2"):
        select_scores(["latent_l2"], models)
    chosen = {entry.name for entry in select_scores(["all"], models)}
    assert chosen == set(SCORES) - refused(models)
