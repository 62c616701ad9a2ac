"""Scores and maps are float32 arithmetic whatever the networks run in: bf16 beside fp32, for all.

Two tolerances would hide which of the two is off: with real networks there is one for every score
and map, and it is for what bf16 does to a network's answers. With networks that answer the same in
both, nothing may change.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import pytest
import torch
from test_scores import ALL, MODELS, brains, lesion, trained  # noqa: F401  (a fixture)

from twinvae.config import ScoringConfig
from twinvae.models import DiagonalGaussian, LatentModel, Model
from twinvae.scoring import SCORES, Models
from twinvae.scoring.fitted import score_and_fit
from twinvae.scoring.loop import batches, map_batch
from twinvae.scoring.registry import MAPS
from twinvae.training import Compute

BF16 = 0.15
"""Largest root mean square of bf16 less fp32 over slices (of a map: over pixels), as a share of
fp32's. Eight bits of every product leave a twentieth of the small difference of two encodings
unsure (their divergences, which square it, twice as much)."""
ARITHMETIC = 1e-5
"""The same where the networks' answers are the same: nothing but float32's own rounding."""
FULL = Compute(torch.device("cpu"), bf16=False)
HALF = Compute(torch.device("cpu"), bf16=True)
NAMES = [*ALL, *(f"map {name}" for name, entry in MAPS.items() if entry.applies(MODELS))]
HEALTHY = 48
OPTIONS = ScoringConfig(local_fwhm_mm=8, rim_mm=3)


@dataclass
class Slices:
    """What a store gives, in memory."""

    images: np.ndarray
    brain: np.ndarray
    index: pd.DataFrame
    mirror: None = None


def slices() -> Slices:
    """Healthy slices for training and validation; twelve to judge, with lesions bright and dark."""
    parts = [brains(HEALTHY // 2, seed=11), brains(HEALTHY // 2, seed=12), brains(6, seed=3)]
    parts.append(parts[-1])
    x = torch.cat([parts[0][0], parts[1][0], lesion(parts[2][0]), lesion(parts[3][0], 0.02)])
    brain = torch.cat([mask for _, mask in parts])
    n = len(x)
    index = pd.DataFrame(
        {
            "source": ["healthy"] * HEALTHY + ["mixed"] * 12,
            "subject": [f"s{i // 3}" for i in range(n)],
            "session": "",
            "role": ["healthy"] * HEALTHY + ["mixed"] * 12,
            "split": ["train"] * (HEALTHY // 2) + ["val"] * (HEALTHY // 2) + ["test"] * 12,
            "slice": range(n),
            "position": np.tile(np.linspace(0.2, 0.9, 6), n // 6),
            "brain_px": brain.flatten(1).sum(1).numpy(),
            "spacing_mm": 3.0,
            "pixel_mm": 3.0,
            "tumour_px": 0.0,
        }
    )
    return Slices((x[:, 0].numpy() * 65535).round().astype(np.uint16), brain[:, 0].numpy(), index)


def everything(models: Models, compute: Compute) -> dict[str, np.ndarray]:
    """Every score and every map of the slices that are judged, as a run gets them."""
    given = slices()
    rows = np.arange(
        HEALTHY // 2, HEALTHY + 12
    )  # the validation slices too: some scores are fitted on them
    table, fitted = score_and_fit(given, rows, models, [SCORES[n] for n in ALL], OPTIONS, compute)
    found = {name: table[name].to_numpy()[-12:] for name in ALL}
    maps = [MAPS[name.removeprefix("map ")] for name in NAMES if name.startswith("map ")]
    (batch,) = batches(given, rows[-12:], models, OPTIONS, compute, fitted)
    return found | {f"map {k}": v for k, v in map_batch(batch, maps, compute).items()}


def error(half: np.ndarray, full: np.ndarray) -> float:
    def size(of: np.ndarray) -> float:
        return float(np.sqrt(np.square(of, dtype=np.float64).mean()))

    return size(half - full) / size(full)


class _Steady(torch.nn.Module):
    """Mixed into a network: its passes are in float32 whatever is around them."""

    finds_lesions = False

    @staticmethod
    def of(model: Model) -> Model:
        kind = type(model)

        def steady(name: str):
            def run(self, *given):
                with torch.autocast("cpu", enabled=False):
                    return getattr(kind, name)(self, *(each.float() for each in given))

            return run

        passes = {name: steady(name) for name in ("features", "encode", "decode")}
        # As batch.x_h has it: the pass of its own is for kinds that reconstruct otherwise.
        passes["reconstruct"] = LatentModel.reconstruct
        twin = kind(model.config)
        twin.load_state_dict(model.state_dict())
        twin.__class__ = type("Steady", (kind,), passes)
        return twin.eval()


@pytest.fixture(scope="module", params=["random", "trained"])
def models(request: pytest.FixtureRequest, trained: Models) -> Models:  # noqa: F811
    return trained if request.param == "trained" else MODELS


@pytest.fixture(scope="module")
def beside(models: Models) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    return everything(models, HALF), everything(models, FULL)


@pytest.fixture(scope="module")
def steady(models: Models) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    same = Models(_Steady.of(models.healthy), _Steady.of(models.mixed))
    return everything(same, HALF), everything(same, FULL)


@pytest.mark.parametrize("name", NAMES)
def test_bf16_agrees_with_fp32(name: str, beside) -> None:
    half, full = beside
    assert np.isfinite(half[name]).all()
    assert error(half[name], full[name]) <= BF16


@pytest.mark.parametrize("name", NAMES)
def test_arithmetic_is_in_float32(name: str, steady) -> None:
    half, full = steady
    assert error(half[name], full[name]) <= ARITHMETIC


def test_networks_run_in_the_precision_asked_for(models: Models) -> None:
    for compute, expected in ((HALF, torch.bfloat16), (FULL, torch.float32)):
        seen: set[tuple[int, torch.dtype]] = set()
        hooks = [
            layer.register_forward_hook(lambda _, __, out, k=k, seen=seen: seen.add((k, out.dtype)))
            for k, model in enumerate((models.healthy, models.mixed))
            for layer in model.modules()
            if isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d)
        ]
        (batch,) = batches(slices(), np.arange(6), models, OPTIONS, compute)
        given = (batch.x_h, batch.own, batch.posterior.mean, batch.posterior_h.variance)
        answers = [*given, batch.healthy_posterior.mean, *batch.features, *batch.features_h]
        for hook in hooks:
            hook.remove()
        assert seen == {(0, expected), (1, expected)}
        assert {answer.dtype for answer in answers} == {torch.float32}


def test_a_view_in_bf16_shares_its_weights_and_leaves_the_model_as_it_was() -> None:
    model = MODELS.mixed
    x, _ = brains(2)
    view, before = HALF.network(model), model.encode(x).mean
    assert FULL.network(model) is model
    assert type(view) is type(model)
    assert all(a is b for a, b in zip(view.parameters(), model.parameters(), strict=True))
    assert not torch.equal(view.encode(x).mean, before)
    assert torch.equal(model.encode(x).mean, before)
    assert view.decode(before)[1].dtype == torch.float32


def test_likelihood_and_divergence_of_shorter_numbers_are_in_float32() -> None:
    from twinvae.models import log_density
    from twinvae.models.contract import sum_pixels

    x, _ = brains(2)
    for likelihood in ("logit_normal", "gaussian", "laplace"):
        config = MODELS.healthy.config.model_copy(update={"likelihood": likelihood})
        mean, variance = torch.randn(x.shape).bfloat16(), torch.tensor(0.3).bfloat16()
        found = log_density(x, mean, variance, config)
        assert found.dtype == torch.float32
        assert torch.equal(found, log_density(x, mean.float(), variance.float(), config))
    many = torch.full((1, 1, 64, 64), 1.01).bfloat16()
    assert sum_pixels(many, None).item() == pytest.approx(4096 * many[0, 0, 0, 0].item())
    q = DiagonalGaussian(torch.full((1, 512), 0.1).bfloat16(), torch.full((1, 512), 1.0).bfloat16())
    exact = DiagonalGaussian(q.mean.double(), q.variance.double()).kl_to_prior()
    assert q.kl_to_prior().item() == pytest.approx(exact.item(), rel=1e-4)
