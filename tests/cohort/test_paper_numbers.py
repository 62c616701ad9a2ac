"""The paper's numbers of scans, laid out as it had them, give its numbers of slices.

Volumes are 8×8 pixels in plane and as deep as the real ones; slices are prepared by the preset
`paper` but for their size, 16×16 instead of 64×64, which no count depends on. One file stands for
all scans of a source, under as many names as there were scans.
"""

import os

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
from shipped_patients import brats2015_case

from twinvae.cohort import assign_splits, index_sources, write_manifest
from twinvae.config import CropResize, SourceConfig, SplitConfig, load_config
from twinvae.imaging import prepare_cohort

SPLITS = ("train", "val", "test")
HCP_SLICES = 260  # 0.7 mm; the brain takes 220 of them here
BRATS_SLICES = 155


def recipe():
    *steps, last = load_config("paper").recipe
    assert isinstance(last, CropResize)
    return [*steps, last.model_copy(update={"size": 16})]


def counts(table):
    return [int((table["split"] == split).sum()) for split in SPLITS]


def brain(depth, first, last):
    """A box of brain with some contrast, zero around it; (8, 8, depth)."""
    image = np.zeros((8, 8, depth), np.int16)
    image[1:7, 1:7, first:last] = 100 + np.arange(36).reshape(6, 6)[..., None]
    return image


def link(original, paths):
    for path in paths:
        path.parent.mkdir(parents=True)
        os.link(original, path)


@pytest.fixture(scope="module")
def hcp(tmp_path_factory):
    root = tmp_path_factory.mktemp("hcp") / "HCP_1200"
    root.mkdir()
    one = root.parent / "one.nii"
    nib.save(nib.Nifti1Image(brain(HCP_SLICES, 20, 240), np.diag([0.7, 0.7, 0.7, 1])), one)
    name = "T1w/T2w_acpc_dc_restore_brain.nii.gz"  # plain NIfTI inside is read as well
    link(one, (root / f"{100307 + 101 * i}" / name for i in range(100)))
    return root


@pytest.fixture(scope="module")
def brats(tmp_path_factory):
    """274 scans: 220 of high and 54 of low grade, some of them of one patient."""
    root = tmp_path_factory.mktemp("brats") / "BRATS2015_Training"
    root.mkdir()
    image, truth = (root.parent / name for name in ("image.mha", "truth.mha"))
    whole = brain(BRATS_SLICES, 5, 150)
    sitk.WriteImage(sitk.GetImageFromArray(whole.T), str(image))
    whole[...] = (np.arange(BRATS_SLICES) > 90) & (whole > 130)
    sitk.WriteImage(sitk.GetImageFromArray(whole.T), str(truth))
    for number in range(274):
        grade, scans_each = ("HGG", 2) if number < 220 else ("LGG", 1)
        who = f"brats_tcia_pat{100 + number // scans_each}_{1 + number % scans_each:04d}"
        files = brats2015_case(f"{grade}/{who}", 40000 + 10 * number, "T2 OT")
        link(image, [root / files["T2"]])
        link(truth, [root / files["OT"]])
    return root


def prepared(table, folder):
    write_manifest(table, folder / "manifest.tsv")
    return prepare_cohort(folder / "manifest.tsv", recipe(), folder / "slices", jobs=1).index


def test_hundred_hcp_scans_give_the_papers_slices(hcp, tmp_path):
    table = index_sources([SourceConfig(path=hcp, role="healthy")], "T2w", SplitConfig())
    assert counts(table) == [70, 15, 15]
    assert counts(prepared(table, tmp_path)) == [13_300, 2_850, 2_850]


def test_brats_scans_counted_as_the_paper_counted_give_its_slices(brats, tmp_path):
    table = index_sources([SourceConfig(path=brats, role="mixed")], "T2w", SplitConfig())
    table["subject"] += "_" + table["session"]  # each scan as if it were a patient
    as_paper = assign_splits(table.assign(split=""), SplitConfig())
    assert counts(as_paper) == [192, 41, 41]
    index = prepared(as_paper, tmp_path)
    assert counts(index) == [24_960, 5_330, 5_330]
    assert index["tumour_px"].notna().all()


def test_the_papers_count_tears_patients_apart_and_ours_does_not(brats):
    table = index_sources([SourceConfig(path=brats, role="mixed")], "T2w", SplitConfig())
    scans = table.assign(subject=table["subject"] + "_" + table["session"], split="")
    as_paper = assign_splits(scans, SplitConfig())["split"]
    torn = table.assign(split=as_paper).groupby("subject")["split"].nunique() > 1
    assert torn.sum() > 20  # these patients would be trained on and tested on
    assert table.groupby("subject")["split"].nunique().max() == 1
    patients = table.drop_duplicates("subject")
    assert counts(patients) == [77 + 38, 17 + 8, 16 + 8]  # 110 of high and 54 of low grade
    assert sum(counts(table)) == 274
