"""One scan through NIfTI, MetaImage and DICOM: the same slices and the run's own scores."""

from __future__ import annotations

from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dicom_files import classic, enhanced
from twinvae.config import BrainMask, CropResize, PercentileScale, Reorient, SelectSlices
from twinvae.detection.detect import detect_scans
from twinvae.imaging import ScanFiles, SliceStore, fit_recipe, prepare_scan
from twinvae.runs.folder import Run
from twinvae.scoring import read_scores

STEPS = (
    Reorient(),
    BrainMask(),
    PercentileScale(low=0, high=99.5, level=0.8),
    SelectSlices(keep="brain", min_area_mm2=100),
    CropResize(field_of_view_mm=60, size=32),
)


def write_all(folder: Path, data, affine, slope=1.0, inter=0.0) -> dict[str, Path]:
    """The same stored numbers, slope and place in every format."""
    folder.mkdir(parents=True, exist_ok=True)
    image = nib.Nifti1Image(data, affine)
    nib.save(image, folder / "scan.nii")
    raw = bytearray((folder / "scan.nii").read_bytes())
    raw[112:120] = np.array([slope, inter], "<f4").tobytes()  # scl_slope, scl_inter
    (folder / "scan.nii").write_bytes(bytes(raw))
    real = data if (slope, inter) == (1, 0) else (data * slope + inter).astype(np.float32)
    meta = sitk.GetImageFromArray(np.ascontiguousarray(real.T))
    lps = np.diag([-1.0, -1, 1, 1]) @ affine
    sides = np.linalg.norm(lps[:3, :3], axis=0)
    meta.SetSpacing(sides.tolist())
    meta.SetDirection((lps[:3, :3] / sides).ravel().tolist())
    meta.SetOrigin(lps[:3, 3].tolist())
    sitk.WriteImage(meta, str(folder / "scan.mha"))
    slopes = None if (slope, inter) == (1, 0) else [(slope, inter)] * data.shape[2]
    return {
        "nifti": folder / "scan.nii",
        "mha": folder / "scan.mha",
        "classic": classic(folder / "classic", data, affine, slopes=slopes),
        "enhanced": enhanced(folder / "enhanced.dcm", data, affine, slopes=slopes),
    }


def test_detection_gives_the_runs_scores_through_every_format(
    tiny_run: Run, tmp_path: Path
) -> None:
    scores = read_scores(tiny_run.scores)
    test = scores[(scores["role"] == "mixed") & (scores["split"] == "test")]
    subject = test["subject"].iloc[0]
    mine = test[test["subject"] == subject]
    scan = next((tiny_run.folder / "cohort/mixed").glob(f"*{subject}/anat/*_T2w.nii.gz"))
    mask = next((tiny_run.folder / "cohort/mixed/derivatives").rglob(f"*{subject}*brain_mask*"))
    image = nib.load(scan)
    stored = np.asarray(image.dataobj)
    assert (stored == np.rint(stored)).all(), "the phantom's scans hold whole numbers"
    paths = write_all(tmp_path / "scan", stored.astype(np.int16), image.affine)
    names = [n for n in SliceStore.open(tiny_run.slices).index.columns if n in mine.columns]
    for kind, path in {"own": scan, **paths}.items():
        out = tmp_path / "out" / kind
        (found,) = detect_scans(tiny_run.bundle, [path], out, brain_masks=[mask], threads=1)
        assert found.slices["slice"].tolist() == mine["slice"].tolist()
        columns = [c for c in mine.columns if c in found.slices and c not in names]
        assert len(columns) >= 3
        for column in columns:
            np.testing.assert_allclose(found.slices[column], mine[column], rtol=1e-6, atol=1e-6)
        maps = nib.load(found.folder / "residual.nii.gz")
        back = nib.load(found.folder / "healthy.nii.gz")
        assert sorted(maps.shape) == sorted(stored.shape) == sorted(back.shape)
        assert np.abs(np.linalg.det(maps.affine)) == pytest.approx(
            np.abs(np.linalg.det(image.affine)), rel=1e-5
        )


def _head(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """A lopsided bright ball on a background of zero."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    inside = sum(
        (g - c) ** 2 / r for g, c, r in zip(grid, (0.1, -0.05, 0), (0.6, 0.7, 0.8), strict=True)
    )
    values = 60 + 30 * grid[0] + 20 * grid[1] - 10 * grid[2] + rng.integers(0, 20, shape)
    return np.where(inside < 1, np.clip(values, 1, 120), 0)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    axes=st.permutations([0, 1, 2]),
    signs=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    tilt=st.tuples(*[st.floats(-0.3, 0.3)] * 3),
    dtype=st.sampled_from(["u1", "i2", "u2"]),
    slope=st.sampled_from([(1.0, 0.0), (0.5, 0.0), (2.25, 0.0)]),
    seed=st.integers(0, 99),
)
def test_one_scan_prepares_alike_from_every_format(
    tmp_path_factory, axes, signs, tilt, dtype, slope, seed
):
    """Axial, coronal, sagittal, flipped, oblique; every type of voxel; every slope."""
    spacing, shape = np.array([1.5, 1.7, 3.0]), (30, 34, 14)
    data = _head(np.random.default_rng(seed), shape)
    affine = np.eye(4)
    direction = np.eye(3)[:, list(axes)] * np.array(signs)
    for axis, angle in enumerate(tilt):
        a, b = [i for i in range(3) if i != axis]
        turn = np.eye(3)
        turn[[a, a, b, b], [a, b, a, b]] = [np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)]  # fmt: skip  # noqa: E501
        direction = turn @ direction
    # axes of the array are shuffled as the directions are, so the head keeps its shape
    affine[:3, :3] = direction * spacing[list(axes)]
    affine[:3, 3] = [-20, 7, 33]
    data = data.transpose(axes).astype(dtype)
    paths = write_all(tmp_path_factory.mktemp("one"), data, affine, *slope)
    recipe = fit_recipe(STEPS)
    made = {kind: prepare_scan(ScanFiles("s", path), recipe) for kind, path in paths.items()}
    first = made.pop("nifti")
    assert len(first.index) >= 5
    for kind, other in made.items():
        assert other.index["slice"].tolist() == first.index["slice"].tolist(), kind
        assert abs(other.images.astype(int) - first.images).max() <= 1, kind
        np.testing.assert_array_equal(other.brain, first.brain, kind)
