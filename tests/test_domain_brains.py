"""Out of domain, on generated brains of 2 mm: what the recipe makes equal is no reason.

No network is needed: the check compares what the recipe made of a scan with healthy scans.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy import ndimage

from twinvae.cohort.phantom.subject import make_subject
from twinvae.config import PhantomConfig, load_config
from twinvae.decision.domain import LIMIT, distances, domain_of, outside, scan_facts
from twinvae.errors import DataError
from twinvae.imaging import FittedRecipe, ScanFiles, prepare_scan

STEPS = load_config("demo").recipe
RECIPE = FittedRecipe(STEPS, tuple({} for _ in STEPS))
HEALTHY = 6
TWO_MM = PhantomConfig(seed=5, spacing_mm=2.0, tumour_share=1.0)
ONE_MM = PhantomConfig(seed=5, spacing_mm=1.0)


def facts_of(voxels: np.ndarray, affine: np.ndarray, folder: Path) -> dict[str, float]:
    """What detection would compare, of a scan written to a file."""
    path = folder / "scan.nii.gz"
    nib.save(nib.Nifti1Image(np.ascontiguousarray(voxels, np.float32), affine), path)
    scan = prepare_scan(ScanFiles("s", path), RECIPE)
    return scan_facts(scan.images, scan.brain, scan.statistics, pd.DataFrame())


@pytest.fixture(scope="module")
def domain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = tmp_path_factory.mktemp("healthy")
    people = [make_subject(TWO_MM, "healthy", i) for i in range(HEALTHY)]
    facts = [facts_of(one.picture, one.affine, folder) for one in people]
    return domain_of(facts, [str(i) for i in range(HEALTHY)])


@pytest.fixture(scope="module")
def other() -> Any:
    """A healthy person whom the domain does not know."""
    return make_subject(TWO_MM, "healthy", HEALTHY + 1)


def test_a_new_healthy_brain_is_inside(domain, other, tmp_path: Path) -> None:
    assert outside(domain, facts_of(other.picture, other.affine, tmp_path)) == ()


def test_one_mm_is_no_reason_where_the_healthy_have_two(domain, tmp_path: Path) -> None:
    fine = make_subject(ONE_MM, "healthy", HEALTHY + 1)
    facts = facts_of(fine.picture, fine.affine, tmp_path)
    assert facts["slice_mm"] == 1
    assert outside(domain, facts) == ()


def test_finer_pixels_than_the_networks_are_no_reason(domain, other, tmp_path: Path) -> None:
    fine = other.picture.repeat(4, 0).repeat(4, 1)
    facts = facts_of(fine, other.affine @ np.diag([0.25, 0.25, 1, 1]), tmp_path)
    assert outside(domain, facts) == ()
    assert facts["in_plane_mm"] == pytest.approx(200 / 64)


@pytest.mark.parametrize("index", range(3))
def test_tumours_are_no_reason(domain, tmp_path: Path, index: int) -> None:
    patient = make_subject(TWO_MM, "mixed", index)
    assert patient.lesion.any()
    assert outside(domain, facts_of(patient.picture, patient.affine, tmp_path)) == ()


@pytest.mark.parametrize("side", [-1, 1])
def test_a_lesion_of_seven_cm_is_no_reason(domain, other, tmp_path: Path, side: int) -> None:
    brain = other.picture > 0
    middle = np.add(ndimage.center_of_mass(brain), [side * 14, 4, 4])
    far = np.linalg.norm(np.indices(brain.shape).T - middle, axis=-1).T * 2.0
    bright = np.percentile(other.picture[brain], 97)
    voxels = np.where(brain & (far < 35), bright, other.picture)
    assert outside(domain, facts_of(voxels, other.affine, tmp_path)) == ()


def _half(voxels: np.ndarray, *, keep: str) -> np.ndarray:
    lines = np.flatnonzero(voxels.any((0, 1)))
    middle = (lines[0] + lines[-1]) // 2
    cut = voxels.copy()
    cut[:, :, slice(middle, None) if keep == "bottom" else slice(None, middle)] = 0
    return cut


def _noise(voxels: np.ndarray) -> np.ndarray:
    return np.where(voxels > 0, np.random.default_rng(0).uniform(1, 900, voxels.shape), 0)


def _negative(voxels: np.ndarray) -> np.ndarray:
    """Dark where T2w is bright, and the other way round: the order of tissues in T1w."""
    brain = voxels > 0
    top = np.percentile(voxels[brain], 99)
    return np.where(brain, np.maximum(1.2 * top - voxels, 1), 0)


ODD: dict[str, tuple[Callable[[np.ndarray], np.ndarray], str]] = {
    "upside down": (lambda v: v[:, :, ::-1], "shape_turned"),
    "upside down, turned about the ears": (lambda v: v[:, ::-1, ::-1], "shape_turned"),
    "back to front": (lambda v: v[:, ::-1], "shape_turned"),
    "without its top half": (lambda v: _half(v, keep="bottom"), "shape_correlation"),
    "without its bottom half": (lambda v: _half(v, keep="top"), "shape_correlation"),
    "noise": (_noise, "smoothness"),
    "another contrast": (_negative, "white_over_grey"),
}


@pytest.mark.parametrize("how", ODD)
def test_what_the_recipe_cannot_make_equal_is_out(domain, other, tmp_path: Path, how: str) -> None:
    change, statistic = ODD[how]
    found = outside(domain, facts_of(change(other.picture), other.affine, tmp_path))
    assert statistic in [one.statistic for one in found]
    named = next(one for one in found if one.statistic == statistic)
    assert f"limit {LIMIT:g}" in str(named)


def test_slices_of_five_mm_are_out(domain, tmp_path: Path) -> None:
    fine = make_subject(ONE_MM, "healthy", HEALTHY + 1)
    count = fine.picture.shape[2] // 5
    groups = fine.picture[:, :, : 5 * count].reshape(*fine.picture.shape[:2], count, 5)
    thick = np.where((groups > 0).mean(3) >= 0.5, groups.mean(3), 0)
    found = outside(domain, facts_of(thick, fine.affine @ np.diag([1, 1, 5, 1]), tmp_path))
    (named,) = [one for one in found if one.statistic == "slice_mm"]
    assert (named.value, named.healthy_high) == (5, 2)


def test_a_box_of_no_head_is_out(domain, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    voxels = np.zeros((70, 80, 70))
    voxels[10:60, 10:70, 10:60] = ndimage.gaussian_filter(rng.normal(size=(50, 60, 50)), 3) + 1
    names = [
        one.statistic
        for one in outside(domain, facts_of(voxels, np.diag([2.0, 2, 2, 1]), tmp_path))
    ]
    assert "shape_correlation" in names


def test_a_domain_of_other_statistics_says_what_to_do(domain) -> None:
    old = {"statistics": {"spacing_x_mm": dict.fromkeys(("median", "spread", "low", "high"), 1.0)}}
    with pytest.raises(DataError, match=r"spacing_x_mm.*twinvae calibrate RUN --force"):
        distances(old, {name: 0.5 for name in domain["statistics"]})
