"""Single scores and maps against the formulas of their docstrings."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.ndimage import gaussian_filter
from test_scores import FITTED, MODELS, SIDE, batch, brains, lesion

from twinvae.models import mirror
from twinvae.scoring import SCORES, SliceBatch, write_fitted, write_scores
from twinvae.scoring.image import structural_similarity
from twinvae.scoring.registry import MAPS, Score
from twinvae.scoring.table import area_unit, areas, pixel_range_mm2

SIGMA = 8 / 2.354820045 / 3.0  # 8 mm full width, pixels of 3 mm


def smooth(image: torch.Tensor) -> np.ndarray:
    return np.stack(
        [gaussian_filter(each.double().numpy(), SIGMA, mode="constant", truncate=6)
         for each in image[:, 0]]
    )  # fmt: skip


@pytest.fixture
def seen() -> SliceBatch:
    x, brain = brains()
    return batch(lesion(x, 0.7), brain, MODELS, FITTED)


def of(name: str, seen: SliceBatch) -> np.ndarray:
    with torch.no_grad():
        return MAPS[name].of(seen)[:, 0].numpy()


@pytest.mark.parametrize(("suffix", "sign"), [("", 1.0), ("_negative", -1.0)])
def test_three_counterparts_are_put_together_as_they_say(
    seen: SliceBatch, suffix: str, sign: float
) -> None:
    with torch.no_grad():
        core = seen.core.float()
        residual = smooth((sign * (seen.x - seen.x_h)).clamp(min=0) * core)
        both = core * mirror(seen.brain.float(), seen.brain)
        excess = smooth(sign * (seen.x - mirror(seen.x, seen.brain)) * both).clip(min=0)
        learned = FITTED["healthy_pixels"]
        place = (seen.position * 20).round().long()
        z = (seen.x[:, 0] - learned["mean"][place]) / learned["deviation"][place]
        unusual = (
            smooth((sign * z).clamp(min=0)[:, None] * core) * learned["deviation"].mean().item()
        )
    inside = seen.brain[:, 0].numpy()
    expected = {
        "residual_mirrored": np.sqrt((residual * excess).clip(min=0)),
        "residual_or_mirror": residual + 0.5 * excess,
        "residual_mirror_zscore": residual + 0.5 * excess + 0.25 * unusual,
        # test_mirror.py holds this excess against its own formula
        "residual_or_window": residual + of(f"excess_mirror{suffix}", seen),
    }
    if suffix:
        del expected["residual_mirrored"]  # of bright ones alone
    for name, image in expected.items():
        found = of(name + suffix, seen)
        np.testing.assert_allclose(found, image * inside, atol=2e-4, err_msg=name)
        with torch.no_grad():
            highest = SCORES[f"{name}{suffix}_local"].compute(seen).numpy()
        np.testing.assert_allclose(highest, (image * inside).max((1, 2)), atol=2e-4)


def test_similarity_of_a_window_by_hand() -> None:
    """At the middle pixel, with weights of the window written out."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.rand(1, 1, 13, 13, generator=generator, dtype=torch.float64) for _ in range(2))
    at = torch.arange(-6, 7, dtype=torch.float64)
    line = (-0.5 * (at / 1.5) ** 2).exp()
    line = line / line.sum()
    weight = line[:, None] * line
    mean_a, mean_b = (weight * a).sum(), (weight * b).sum()
    var_a, var_b = ((weight * z * z).sum() - m * m for z, m in ((a, mean_a), (b, mean_b)))
    cov = (weight * a * b).sum() - mean_a * mean_b
    top = (2 * mean_a * mean_b + 0.0001) * (2 * cov + 0.0009)
    expected = top / ((mean_a**2 + mean_b**2 + 0.0001) * (var_a + var_b + 0.0009))
    found = structural_similarity(a, b)[0, 0, 6, 6]
    assert found.item() == pytest.approx(expected.item(), abs=1e-4)


def test_features_are_laid_on_a_grid_that_need_not_be_square() -> None:
    x = torch.rand(2, 1, SIDE, 2 * SIDE, generator=torch.Generator().manual_seed(0))
    wide = batch(x, x > 0)
    wide.__dict__["features"] = [torch.zeros(2, 3, 4, 8)]
    wide.__dict__["features_h"] = [torch.full((2, 3, 4, 8), 2.0)]
    found = MAPS["features_l2_1"].of(wide)
    assert found.shape == x.shape
    torch.testing.assert_close(found, torch.full_like(x, 12**0.5))


def test_likelihood_map_is_minus_the_log_density(seen: SliceBatch) -> None:
    config = MODELS.healthy.config
    with torch.no_grad():
        mean, variance = MODELS.healthy.decode(MODELS.healthy.encode(seen.x).mean)
        x = seen.x.clamp(config.clip, 1 - config.clip)
        normal = torch.distributions.Normal(mean, variance.sqrt())
        density = normal.log_prob(x.logit()) - x.log() - (1 - x).log()
    np.testing.assert_allclose(of("image_nll", seen), -density[:, 0].numpy(), atol=1e-3)


def test_every_map_has_the_scores_that_it_says() -> None:
    sums = ("gradient", "latent_gradient", "image_nll", "image_l1_symmetric")
    for name in MAPS:
        joined = name.startswith(("residual_m", "residual_or", "excess_mirror", "learned"))
        local = not name.startswith((*sums, "latent_occlusion", "excess_mirror"))
        assert (f"{name}_local" in SCORES) is local, name
        summed = not joined and name != "latent_occlusion"  # a layer's distance is a score too
        assert (name in SCORES) is summed, name
    assert {"latent_occlusion", "gradient_kl", "image_ssim", "residual"} <= set(MAPS)


def test_sums_and_means_over_all_pixels(seen: SliceBatch) -> None:
    with torch.no_grad():
        for name in ("residual", "image_l1", "gradient_kl"):
            total = of(name, seen).sum((1, 2), dtype=np.float64)
            np.testing.assert_allclose(SCORES[name].compute(seen), total, rtol=1e-4)
        mean = of("image_ssim", seen).mean((1, 2), dtype=np.float64)
        np.testing.assert_allclose(SCORES["image_ssim"].compute(seen), mean, rtol=1e-4)


def test_a_score_is_out_of_context_until_it_is_asked_for() -> None:
    plain = Score("one", "about", "somebody", lambda batch: batch.position)
    assert not plain.context
    assert plain.fit is None
    told = plain.in_context()
    assert (told.name, told.context, told.compute) == ("one_context", True, plain.compute)
    assert told.summary == "about; in context"


def test_nothing_learned_leaves_no_file_where_there_was_none(tmp_path: Path) -> None:
    write_fitted(tmp_path / "fitted.safetensors", {})
    assert list(tmp_path.iterdir()) == []


def test_areas_are_pixels_times_their_own_pixels_area() -> None:
    table = pd.DataFrame({"brain_px": [10, 20], "tumour_px": [1.0, np.nan]})
    assert areas(table, "brain").tolist() == [10.0, 20.0]
    assert (area_unit(table), pixel_range_mm2(table)) == ("px", None)
    known = table.assign(spacing_mm=[2.0, 0.5])
    assert areas(known, "brain").tolist() == [40.0, 5.0]
    np.testing.assert_array_equal(areas(known, "tumour"), [4.0, np.nan])
    assert (area_unit(known), pixel_range_mm2(known)) == ("mm2", (0.25, 4.0))
    assert pixel_range_mm2(known.iloc[:0]) is None


@pytest.mark.parametrize(("count", "written"), [([3.0, 4.0], "3"), ([3.5, 4.0], "3.5")])
def test_whole_counts_are_written_whole(tmp_path: Path, count: list, written: str) -> None:
    table = pd.DataFrame(
        {
            "subject": ["a", "b"], "source": "s", "role": "mixed", "split": "test",
            "slice": [0, 1], "position": 0.5, "brain_px": [7.0, 9.0], "tumour_px": count,
            "latent_l2": [0.5, 0.25],
        }
    )  # fmt: skip
    write_scores(tmp_path / "scores.tsv", table)
    first = pd.read_csv(tmp_path / "scores.tsv", sep="\t", dtype=str).iloc[0]
    assert (first["brain_px"], first["tumour_px"]) == ("7", written)
