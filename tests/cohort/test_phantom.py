"""The generated cohort: reproducible files, believable anatomy, lesions that are what they say."""

import dataclasses
import gzip
import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError
from scipy import ndimage

from twinvae.cohort.phantom import generate_cohort
from twinvae.cohort.phantom import mni152 as maps_module
from twinvae.cohort.phantom.brain import Grid, draw_body, sample_tissue, smooth_field, subject_grid
from twinvae.cohort.phantom.lesion import draw_plan, grow, push_aside
from twinvae.cohort.phantom.mni152 import load_maps
from twinvae.cohort.phantom.subject import has_tumour, make_subject
from twinvae.config import PhantomConfig
from twinvae.errors import DataError, OutputError

SMALL = PhantomConfig(healthy=2, mixed=3, seed=5, spacing_mm=4.0)
COUNT = 6


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    out = tmp_path_factory.mktemp("cohort")
    generate_cohort(out, SMALL, jobs=1)
    return out


@pytest.fixture(scope="module")
def sick():
    """Mixed subjects that all carry a lesion."""
    options = PhantomConfig(seed=3, spacing_mm=3.0, tumour_share=1.0)
    return [make_subject(options, "mixed", i) for i in range(COUNT)]


@pytest.fixture(scope="module")
def well():
    """The same subjects without it."""
    options = PhantomConfig(seed=3, spacing_mm=3.0, tumour_share=0.0)
    return [make_subject(options, "mixed", i) for i in range(COUNT)]


def contents(folder: Path) -> dict[str, bytes]:
    return {
        str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("[!.]*") if p.is_file()
    }


def test_same_seed_gives_same_bytes_whatever_the_number_of_processes(cohort, tmp_path):
    generate_cohort(tmp_path, SMALL, jobs=2)
    assert contents(tmp_path) == contents(cohort)


def test_another_seed_gives_other_scans(cohort, tmp_path):
    generate_cohort(tmp_path, SMALL.model_copy(update={"seed": 6, "mixed": 1}), jobs=1)
    name = "healthy/sub-H001/anat/sub-H001_T2w.nii.gz"
    assert contents(tmp_path)[name] != contents(cohort)[name]


def test_bids_layout(cohort):
    assert set(contents(cohort)) == {
        "phantom.json",
        *(
            f"{role}/{file}"
            for role in ("healthy", "mixed")
            for file in (
                "dataset_description.json",
                "derivatives/masks/dataset_description.json",
                "participants.json",
                "participants.tsv",
            )
        ),
        *(
            f"healthy/{folder}{s}/anat/{s}_{file}"
            for s in ("sub-H001", "sub-H002")
            for folder, file in (
                ("", "T2w.nii.gz"),
                ("derivatives/masks/", "label-brain_mask.nii.gz"),
            )
        ),
        *(
            f"mixed/{folder}{s}/anat/{s}_{file}"
            for s in ("sub-M001", "sub-M002", "sub-M003")
            for folder, file in (
                ("", "T2w.nii.gz"),
                ("derivatives/masks/", "label-brain_mask.nii.gz"),
                ("derivatives/masks/", "label-lesion_mask.nii.gz"),
            )
        ),
    }
    for role in ("healthy", "mixed"):
        described = json.loads((cohort / role / "dataset_description.json").read_text())
        assert described["BIDSVersion"] == "1.9.0"
        assert described["DatasetType"] == "raw"


def test_volumes_are_skull_stripped_ras_in_mm(cohort):
    path = cohort / "mixed/sub-M002/anat/sub-M002_T2w.nii.gz"
    image = nib.load(path)
    brain = nib.load(
        cohort / "mixed/derivatives/masks/sub-M002/anat/sub-M002_label-brain_mask.nii.gz"
    )
    assert image.get_data_dtype() == np.int16
    assert nib.aff2axcodes(image.affine) == ("R", "A", "S")
    assert image.header.get_zooms() == (4.0, 4.0, 4.0)
    assert image.header["sform_code"] == image.header["qform_code"] == 2
    np.testing.assert_array_equal(image.get_qform(), image.get_sform())
    np.testing.assert_array_equal(image.affine, brain.affine)
    np.testing.assert_array_equal(np.asarray(image.dataobj) > 0, np.asarray(brain.dataobj) == 1)
    centre = nib.affines.apply_affine(image.affine, np.argwhere(np.asarray(brain.dataobj)).mean(0))
    assert np.abs(centre - [0, -18, 8]).max() < 15


def test_participants_say_what_the_masks_hold(cohort):
    table = pd.read_csv(cohort / "mixed/participants.tsv", sep="\t", index_col="participant_id")
    assert list(table.tumour) == ["no", "yes", "yes"]
    for name, row in table.iterrows():
        file = f"mixed/derivatives/masks/{name}/anat/{name}_label-lesion_mask.nii.gz"
        mm3 = np.asarray(nib.load(cohort / file).dataobj).sum() * 64
        assert row.tumour_mm3 == mm3
        assert (mm3 > 0) == (row.tumour == "yes")
        if mm3:
            assert row.tumour_diameter_mm == pytest.approx(np.cbrt(6 * mm3 / np.pi), abs=0.06)
    healthy = pd.read_csv(cohort / "healthy/participants.tsv", sep="\t")
    assert list(healthy.columns) == ["participant_id", "age"]
    assert healthy.age.between(20, 70).all()
    assert not list((cohort / "healthy").glob("**/*lesion*"))


def test_only_what_is_missing_is_made_again(cohort, tmp_path):
    generate_cohort(tmp_path, SMALL, jobs=1)
    kept = tmp_path / "healthy/sub-H001/anat/sub-H001_T2w.nii.gz"
    before = kept.stat().st_mtime_ns
    (tmp_path / "mixed/sub-M002/anat/sub-M002_T2w.nii.gz").unlink()
    (tmp_path / "mixed/participants.tsv").unlink()
    generate_cohort(tmp_path, SMALL, jobs=1)
    assert kept.stat().st_mtime_ns == before
    assert contents(tmp_path) == contents(cohort)


def test_a_smaller_cohort_leaves_no_surplus_and_other_options_start_afresh(cohort, tmp_path):
    generate_cohort(tmp_path, SMALL, jobs=1)
    generate_cohort(tmp_path, SMALL.model_copy(update={"mixed": 1}), jobs=1)
    assert not list(tmp_path.glob("mixed/**/*M002*"))
    generate_cohort(tmp_path, PhantomConfig(healthy=1, mixed=1, seed=9, spacing_mm=4), jobs=1)
    name = "healthy/sub-H001/anat/sub-H001_T2w.nii.gz"
    assert contents(tmp_path)[name] != contents(cohort)[name]


def test_a_folder_of_somebody_elses_is_refused_untouched(tmp_path):
    scan = tmp_path / "healthy/sub-H001/scan.nii.gz"
    scan.parent.mkdir(parents=True)
    scan.write_bytes(b"precious")
    with pytest.raises(OutputError, match="found healthy, which twinvae did not write"):
        generate_cohort(tmp_path, SMALL, jobs=1)
    assert contents(tmp_path) == {"healthy/sub-H001/scan.nii.gz": b"precious"}


def test_bad_options_are_refused(tmp_path):
    with pytest.raises(ValueError, match="jobs must be at least 1, found 0"):
        generate_cohort(tmp_path, SMALL, jobs=0)
    for bad in ({"spacing_mm": 0.5}, {"tumour_share": 1.5}, {"healthy": 0}, {"colour": 1}):
        with pytest.raises(ValidationError):
            PhantomConfig(**bad)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 1.0])
def test_share_of_tumours_is_kept_over_every_prefix(share):
    options = PhantomConfig(tumour_share=share)
    carried = np.cumsum([has_tumour(options, i) for i in range(100)])
    assert np.abs(carried - share * np.arange(1, 101)).max() <= 1


def test_any_spacing_shows_the_same_person():
    options = PhantomConfig(seed=2)
    fine, coarse = (
        make_subject(options.model_copy(update={"spacing_mm": mm}), "healthy", 0)
        for mm in (2.0, 4.0)
    )
    litres = [s.brain.sum() * mm**3 / 1e6 for s, mm in ((fine, 2.0), (coarse, 4.0))]
    assert litres[0] == pytest.approx(litres[1], rel=0.1)
    assert make_subject(PhantomConfig(spacing_mm=2.7), "mixed", 1).lesion.any()


def test_people_differ_and_their_brains_are_of_human_size(sick):
    litres = np.array([s.brain.sum() * 27 / 1e6 for s in sick])
    assert litres.min() > 1.1
    assert litres.max() < 2.0
    assert litres.std() > 0.03
    overlap = 2 * (sick[0].brain & sick[1].brain).sum()
    dice = overlap / (sick[0].brain.sum() + sick[1].brain.sum())
    assert 0.85 < dice < 0.99


def test_wider_ventricles_hold_more_csf_and_come_with_age():
    maps, grid = load_maps(), subject_grid(3.0)
    bodies = [draw_body(np.random.default_rng(s), older=s % 2 == 0) for s in range(200)]
    age, growth = ([getattr(body, name) for body in bodies] for name in ("age", "ventricle_mm"))
    assert np.corrcoef(age, growth)[0, 1] > 0.6
    assert np.mean(age[::2]) > np.mean(age[1::2]) + 5

    def csf_ml(growth_mm: float) -> float:
        body = dataclasses.replace(bodies[0], ventricle_mm=growth_mm)
        tissue = sample_tissue(np.random.default_rng(0), body, grid, maps)
        near = (np.abs(tissue.place_mm - [[0], [-8], [12]]) < [[42], [45], [22]]).all(axis=0)
        return float(tissue.shares[2][near & tissue.brain].sum() * 0.027)

    assert csf_ml(5) > 1.3 * csf_ml(0) > 1.3 * csf_ml(-3)


def test_signal_is_t2_weighted():
    rng = np.random.default_rng(0)
    maps, grid = load_maps(), subject_grid(3.0)
    tissue = sample_tissue(rng, draw_body(rng, older=False), grid, maps)
    np.testing.assert_allclose(tissue.shares.sum(axis=0), 1, atol=1e-5)
    picture = make_subject(PhantomConfig(spacing_mm=3.0), "healthy", 0).picture
    p25, p50, p99 = np.percentile(picture[picture > 0], [25, 50, 99])
    assert 0.75 < p25 / p50 < 0.9
    assert 3.0 < p99 / p50 < 4.5


def test_lesions_are_exact_and_hyperintense(sick, well):
    for with_lesion, without in zip(sick, well, strict=True):
        lesion = with_lesion.lesion
        assert lesion.any()
        assert not without.lesion.any()
        assert not (lesion & ~with_lesion.brain).any()
        np.testing.assert_array_equal(with_lesion.brain, without.brain)
        ring = ndimage.binary_dilation(lesion, iterations=3) & ~lesion & with_lesion.brain
        before = without.picture[lesion].astype(float)
        gain = (with_lesion.picture[lesion] - before).mean() / np.median(before)
        beside = np.abs(with_lesion.picture[ring] - without.picture[ring].astype(float)).mean()
        assert gain > 0.1
        assert beside / np.median(before) < 0.5 * gain + 0.25
    brighter = [
        np.median(s.picture[s.lesion]) > 1.15 * np.median(s.picture[s.brain & ~s.lesion])
        for s in sick
    ]
    assert np.mean(brighter) >= 0.75


def test_lesion_far_side_of_the_brain_is_left_alone(sick, well):
    for with_lesion, without in zip(sick, well, strict=True):
        x = np.argwhere(with_lesion.lesion)[:, 0].mean()
        half = np.s_[:12] if x > 32 else np.s_[-12:]
        changed = with_lesion.picture[half].astype(float) - without.picture[half]
        assert np.abs(changed).mean() < 0.05 * np.median(without.picture[without.brain])


def test_sizes_range_from_millimetres_to_five_centimetres():
    rng = np.random.default_rng(0)
    diameters = np.array([draw_plan(rng, load_maps(), 2.0).diameter_mm for _ in range(400)])
    assert 6 <= diameters.min() < 9
    assert 48 < diameters.max() <= 54
    assert 0.5 < ((diameters > 20) & (diameters < 45)).mean() < 0.8
    assert 0.1 < (diameters < 18).mean() < 0.3


def test_growth_reaches_its_volume_prefers_white_matter_and_avoids_csf():
    rng = np.random.default_rng(1)
    maps, grid = load_maps(), subject_grid(2.0)
    tissue = sample_tissue(rng, draw_body(rng, older=True), grid, maps)
    white_inside, white_around = [], []
    for diameter in (10.0, 25.0, 40.0):
        centre = np.array([28.0, -20.0, 26.0], dtype=np.float32)
        spread = grow(rng, tissue, centre, diameter, core_mm=diameter / 5)
        assert np.cbrt(6 / np.pi * spread.mask.sum() * 8) == pytest.approx(diameter, rel=0.12)
        assert tissue.shares[2][spread.mask].mean() < 0.12
        assert (spread.lesion[spread.mask] >= 0.5).all()
        away = np.sqrt(((tissue.place_mm - centre[:, None]) ** 2).sum(axis=0))
        around = (away < 0.75 * diameter) & tissue.brain & ~spread.mask
        white_inside.append(tissue.shares[1][spread.mask].mean())
        white_around.append(tissue.shares[1][around].mean())
    assert np.mean(white_inside) > np.mean(white_around) + 0.1


def test_core_beside_a_ventricle_does_not_grow_into_it():
    maps, grid = load_maps(), subject_grid(2.0)
    rng = np.random.default_rng(1)
    tissue = sample_tissue(rng, draw_body(rng, older=True), grid, maps)
    beside = np.array([22.0, -24.0, 18.0], dtype=np.float32)
    spread = grow(rng, tissue, beside, 30.0, core_mm=13.0)
    reach = np.linalg.norm(tissue.place_mm - beside[:, None], axis=0) < 12
    ventricle = tissue.shares[2] > 0.9
    assert (ventricle & reach).sum() > 20
    assert (spread.mask & ventricle).sum() < 0.1 * (ventricle & reach).sum()


def test_mass_effect_moves_surroundings_away_from_the_centre():
    maps, grid = load_maps(), subject_grid(3.0)
    options = PhantomConfig(seed=0, spacing_mm=3.0)
    plan = draw_plan(np.random.default_rng(0), maps, options.spacing_mm)
    while plan.push_mm < 4:
        plan = draw_plan(np.random.default_rng(int(plan.diameter_mm * 1e6)), maps, 3.0)

    def tissue(push=None):
        rng = np.random.default_rng(4)
        return sample_tissue(rng, draw_body(rng, older=False), grid, maps, push)

    plain, pushed = tissue(), tissue(lambda place, depth: push_aside(plan, place, depth))
    centre = plan.centre_mm[:, None]
    before, after = (np.linalg.norm(t.place_mm - centre, axis=0) for t in (plain, pushed))
    assert (after <= before + 1e-3).all()  # every voxel now shows what used to lie further in
    shift = before - after
    at_surface = np.abs(before - plan.core_mm) < 3
    assert shift[at_surface].max() == pytest.approx(plan.push_mm, rel=0.3)
    assert shift[before > plan.core_mm + 70].max() < 0.3
    np.testing.assert_array_equal(plain.brain, pushed.brain)


def test_smooth_field_has_the_width_and_deviation_asked_for():
    rng = np.random.default_rng(0)
    grid = Grid((60, 60, 60), (0.0, 0.0, 0.0), 2.0)
    field = smooth_field(rng, grid, 10.0, 1.5, components=2)
    assert field.shape == (2, 60, 60, 60)
    assert field.std() == pytest.approx(1.5, rel=0.1)
    neighbour = np.corrcoef(field[0, :-1].ravel(), field[0, 1:].ravel())[0, 1]
    distant = np.corrcoef(field[0, :-20].ravel(), field[0, 20:].ravel())[0, 1]
    assert neighbour > 0.95
    assert abs(distant) < 0.1


def test_gzip_header_holds_no_time(cohort):
    packed = (cohort / "healthy/sub-H001/anat/sub-H001_T2w.nii.gz").read_bytes()
    assert packed[4:8] == b"\0\0\0\0"
    assert len(gzip.decompress(packed)) > 352


def test_missing_maps_are_named(monkeypatch):
    monkeypatch.setattr(maps_module, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="nilearn: not installed"):
        maps_module.load_averages.__wrapped__()
