"""The cohort generated from label maps: right anatomy, right contrast, clear errors."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import ndimage

from label_phantom import affine_of, labels, write_labels
from twinvae.cohort.phantom import generate_cohort
from twinvae.cohort.phantom.brain import draw_load, hyperintensities, sample_tissue, subject_grid
from twinvae.cohort.phantom.labels import NAMES, TISSUES, label_maps, load_anatomy, tissue_table
from twinvae.cohort.phantom.scanner import Acquisition, Sequence, acquire, draw_contrast
from twinvae.cohort.phantom.subject import label_map_of, labelled_body, make_labelled_subject
from twinvae.config import PhantomConfig, load_config
from twinvae.errors import ConfigError, DataError

CONTRASTS = ("T2w", "FLAIR", "T1w")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two label maps, one larger and displaced."""
    out = tmp_path_factory.mktemp("labels")
    write_labels(out / "a.nii.gz", labels())
    write_labels(out / "b.nii.gz", labels(shift=(3, -6, 5), scale=1.06))
    return out


def options(folder, **changes):
    values = {"healthy": 2, "mixed": 2, "seed": 5, "spacing_mm": 4.0, "labels": folder}
    return PhantomConfig(**values | changes)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def test_cohort_has_the_contrasts_names_and_the_same_bytes_again(folder, tmp_path):
    config = options(folder, contrast="FLAIR", healthy=2, mixed=2)
    generate_cohort(tmp_path / "a", config, jobs=1)
    generate_cohort(tmp_path / "b", config, jobs=1)
    first = contents(tmp_path / "a")
    assert first == contents(tmp_path / "b")
    assert "healthy/sub-H001/anat/sub-H001_FLAIR.nii.gz" in first
    assert "mixed/derivatives/masks/sub-M002/anat/sub-M002_label-lesion_mask.nii.gz" in first
    table = pd.read_csv(tmp_path / "a/healthy/participants.tsv", sep="\t")
    assert sorted(table["label_map"]) == ["a.nii.gz", "b.nii.gz"]
    assert str(folder) not in first["phantom.json"].decode()
    generate_cohort(tmp_path / "a", options(folder, contrast="T1w"), jobs=1)
    assert not any("FLAIR" in name for name in contents(tmp_path / "a"))


def test_another_label_map_makes_the_cohort_anew(folder, tmp_path):
    mine = tmp_path / "labels"
    write_labels(mine / "a.nii.gz", labels())
    generate_cohort(tmp_path / "out", options(mine, healthy=1, mixed=1), jobs=1)
    before = contents(tmp_path / "out")
    write_labels(mine / "a.nii.gz", labels(scale=0.95))
    generate_cohort(tmp_path / "out", options(mine, healthy=1, mixed=1), jobs=1)
    name = "healthy/sub-H001/anat/sub-H001_T2w.nii.gz"
    assert contents(tmp_path / "out")[name] != before[name]


def test_every_map_is_used_before_one_comes_again(folder):
    config = options(folder)
    for start in range(0, 10, 2):
        pair = {label_map_of(config, "healthy", i).name for i in (start, start + 1)}
        assert pair == {"a.nii.gz", "b.nii.gz"}
    first = [label_map_of(config, "healthy", i).name for i in range(0, 20, 2)]
    assert len(set(first)) == 2


def test_any_orientation_and_pose_gives_the_same_anatomy(tmp_path):
    data = labels()
    affine = affine_of(2)
    turn = np.deg2rad(12)
    turned = np.eye(4)
    turned[1:3, 1:3] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    turned[:3, 3] = (30, -20, 45)
    plain = load_anatomy(write_labels(tmp_path / "plain.nii.gz", data, affine))
    oblique = load_anatomy(write_labels(tmp_path / "oblique.nii.gz", data, turned @ affine))
    las = affine.copy()
    las[0, 0], las[0, 3] = -2, 83
    mirrored = load_anatomy(write_labels(tmp_path / "las.nii.gz", data[::-1].copy(), las))
    for other in (oblique, mirrored):
        for name in ("caudate", "hippocampus", "brainstem", "ventricles"):
            a, b = (centre(anatomy, name) for anatomy in (plain, other))
            np.testing.assert_allclose(a, b, atol=0.7)


def centre(anatomy, name):
    """Centre of the right half of a tissue, in mm."""
    places = np.argwhere(anatomy.tissue == 1 + NAMES.index(name)) + anatomy.maps.origin_mm
    return places[places[:, 0] > 0].mean(axis=0)


def test_pose_is_that_of_mni(folder):
    anatomy = load_anatomy(folder / "b.nii.gz")
    np.testing.assert_allclose(centre(anatomy, "hippocampus"), (26, -22, -14), atol=4)
    np.testing.assert_allclose(centre(anatomy, "thalamus"), (11, -19, 7), atol=4)


def test_brain_mask_holds_the_brain_and_no_holes(folder):
    anatomy = load_anatomy(folder / "a.nii.gz")
    brain = anatomy.maps.brain > 127
    solid = (anatomy.tissue > 0) & (anatomy.tissue != 1 + NAMES.index("csf"))
    assert (brain & solid).sum() > 0.97 * solid.sum()
    assert ndimage.label(brain)[1] == 1
    assert ndimage.binary_fill_holes(brain).sum() == brain.sum()
    assert brain.sum() < 1.25 * ndimage.binary_closing(solid, iterations=3).sum()


def test_labels_stand_for_the_tissues_freesurfer_names():
    table = tissue_table()
    known = {3: "cortex", 1024: "cortex", 2035: "cortex", 11130: "cortex", 41: "white"}
    known |= {3024: "white", 253: "white", 77: "white_lesion", 49: "thalamus", 15: "ventricles"}
    for label, name in known.items():
        assert table[label] == 1 + NAMES.index(name), label
    assert not table[[0, 29, 165, 258, 507, 516]].any()


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_tissues_keep_the_order_of_the_contrast(contrast):
    for seed in range(60):
        drawn = draw_contrast(np.random.default_rng(seed), contrast)
        grey, csf, water = drawn["cortex"], drawn["ventricles"], drawn.level(np.float32([0.3]))[0]
        assert drawn["white"] == pytest.approx(1)
        if contrast == "T2w":
            assert csf > 2.4 > 2.0 > grey > 1.15
            assert drawn["pallidum"] < drawn["hippocampus"]
            assert water > grey
        elif contrast == "FLAIR":
            assert 1.0 < grey < 2.0
            assert csf < 0.6
            assert water > 1.2
        else:
            assert csf < grey < 1.05
            assert water < grey


def test_signal_follows_the_closed_forms():
    t1, t2, density = (np.array([v], np.float32) for v in (1000, 80, 0.7))
    spin = Sequence("spin echo", 500, 15).signal(t1, t2, density)[0]
    assert spin == pytest.approx(0.7 * (1 - np.exp(-0.5)) * np.exp(-15 / 80), rel=1e-5)
    # At TI = T1·ln 2 with full recovery, inversion recovery nulls a tissue.
    null = Sequence("inversion recovery", 1e6, 0, 1000 * np.log(2)).signal(t1, t2, density)[0]
    assert null == pytest.approx(0, abs=1e-6)
    late = Sequence("prepared gradient echo", 1e6, 0, 1e5).signal(t1, t2, density)[0]
    assert late == pytest.approx(0.7, rel=1e-5)
    assert all(t.t2_ms < t.t1_ms for t in TISSUES.values())


@pytest.mark.parametrize("contrast", CONTRASTS)
def test_scans_look_like_their_contrast_and_lesions_too(folder, contrast):
    config = options(folder, contrast=contrast, spacing_mm=3.0, tumour_share=1.0)
    well = config.model_copy(update={"tumour_share": 0.0})
    gains = []
    for index in range(4):
        sick, healthy = (make_labelled_subject(c, "mixed", index) for c in (config, well))
        np.testing.assert_array_equal(sick.brain, healthy.brain)
        np.testing.assert_array_equal(sick.picture > 0, sick.brain)
        assert sick.lesion.any()
        assert not (sick.lesion & ~sick.brain).any()
        assert not healthy.lesion.any()
        median = np.median(healthy.picture[healthy.brain])
        change = sick.picture.astype(float) - healthy.picture
        gains.append(np.median(change[sick.lesion]) / median)
        low, high = np.percentile(healthy.picture[healthy.brain] / median, [2, 98])
        assert (high - 1 > 1 - low) == (contrast == "T2w")  # which end of the scale CSF is at
    assert np.median(gains) < -0.05 if contrast == "T1w" else np.median(gains) > 0.1


def test_a_subject_is_one_patient_in_every_contrast(folder, monkeypatch):
    """The same brain, lesion and white matter disease, so that scans of contrasts can be joined."""
    drawn = []

    def noted(*args):
        drawn.append(hyperintensities(*args))
        return drawn[-1]

    monkeypatch.setattr("twinvae.cohort.phantom.subject.hyperintensities", noted)
    made = [
        make_labelled_subject(options(folder, contrast=c, tumour_share=1.0), "mixed", 0)
        for c in CONTRASTS
    ]
    for other, disease in zip(made[1:], drawn[1:], strict=True):
        np.testing.assert_array_equal(other.brain, made[0].brain)
        np.testing.assert_array_equal(other.lesion, made[0].lesion)
        np.testing.assert_array_equal(disease, drawn[0])
    assert drawn[0].max() > 0.1


def test_half_the_subjects_are_mirrored_and_ventricles_widen(folder):
    config = options(folder)
    bodies = [labelled_body(config, "healthy", i) for i in range(300)]
    assert 0.4 < np.mean([b.size[0] < 0 for b in bodies]) < 0.6
    assert np.corrcoef([b.age for b in bodies], [b.ventricle_mm for b in bodies])[0, 1] > 0.2
    loads = {
        age: [draw_load(np.random.default_rng(i), age) for i in range(200)] for age in (25, 75)
    }
    assert np.mean(loads[75]) > np.mean(loads[25]) + 0.2


def test_thick_slices_blur_along_z_alone(folder):
    config = options(folder, spacing_mm=2.0)
    maps = load_anatomy(folder / "a.nii.gz").maps
    grid = subject_grid(2.0)
    body = labelled_body(config, "healthy", 0)
    tissue = sample_tissue(np.random.default_rng(0), body, grid, maps)
    signal = np.random.default_rng(1).uniform(1, 2, len(tissue.rim)).astype(np.float32)

    def roughness(slice_mm):
        how = Acquisition(1.0, slice_mm, 0.3, 0.0, 0.0, 1.0, 1000.0)
        scan = acquire(np.random.default_rng(0), tissue, signal, how).astype(float)
        inner = ndimage.binary_erosion(scan > 0, iterations=4)
        both = [inner & np.roll(inner, -1, axis) for axis in (0, 2)]
        steps = [np.abs(np.roll(scan, -1, axis) - scan) for axis in (0, 2)]
        return [step[where].mean() for step, where in zip(steps, both, strict=True)]

    thin, thick = roughness(2.0), roughness(6.0)
    assert thin[1] > 0.7 * thin[0]
    assert thick[1] < 0.5 * thick[0]


def test_folders_and_files_that_are_no_label_maps_are_named(folder, tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        label_maps(tmp_path / "gone")
    with pytest.raises(ConfigError, match="no label maps, expected FreeSurfer"):
        label_maps(tmp_path)
    for data, said in (
        (labels() * np.float32(0.3), "expected whole numbers as labels"),
        ((labels() > 0).astype(np.int16), r"found no cortex, white, ventricles among labels 1"),
        (labels() - 5, "expected labels from 0 to 14999, found -5"),
        (np.where(np.isin(labels(), (2, 3, 4, 41, 42, 43)), labels(), 0), "structures"),
        (labels()[:, :, 0], "3 dimensions"),
    ):
        path = write_labels(tmp_path / "odd.nii.gz", data.astype(data.dtype))
        with pytest.raises(DataError, match=said) as raised:
            load_anatomy(path)
        assert str(path) in str(raised.value)
    broken = tmp_path / "broken.nii.gz"
    broken.write_bytes(b"nothing")
    with pytest.raises(DataError, match="readable label map"):
        load_anatomy(broken)


def test_contrasts_need_label_maps_and_paths_follow_the_file(tmp_path):
    with pytest.raises(ValidationError, match="contrast FLAIR needs labels"):
        PhantomConfig(contrast="FLAIR")
    with pytest.raises(ValidationError):
        PhantomConfig(contrast="PDw", labels=tmp_path)
    file = tmp_path / "c.yaml"
    file.write_text("preset: demo\ncohort: {phantom: {labels: maps, contrast: T1w}}\n")
    phantom = load_config(file).cohort.phantom
    assert phantom is not None
    assert phantom.labels == tmp_path / "maps"


def test_other_voxel_sizes_are_read(folder, tmp_path):
    fine = load_anatomy(write_labels(tmp_path / "fine.nii.gz", labels(step=1), affine_of(1)))
    coarse = load_anatomy(folder / "a.nii.gz")
    volumes = [(a.maps.brain > 127).sum() / 1e6 for a in (coarse, fine)]
    assert volumes[0] == pytest.approx(volumes[1], rel=0.03)
