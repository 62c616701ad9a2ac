"""Which file is which patient's, and of which contrast, by its name."""

from __future__ import annotations

import pytest

from twinvae.cohort.patients import contrast_file, patients_of
from twinvae.errors import ConfigError

ALL = ("T2w", "FLAIR", "T1w")


@pytest.mark.parametrize(
    ("name", "patient", "contrast"),
    [
        ("sub-01_T2w.nii.gz", "sub-01", "T2w"),
        ("sub-01_ses-2_space-T1w_run-1_FLAIR.nii.gz", "sub-01_ses-2", "FLAIR"),
        ("sub-01_ce-gd_T1w.nii.gz", "sub-01", "T1gd"),
        ("BraTS2021_00006_t1.nii.gz", "BraTS2021_00006", "T1w"),
        ("BraTS-GLI-00000-000-t2f.nii.gz", "BraTS-GLI-00000-000", "FLAIR"),
        ("BraTS-GLI-00000-000-t1n.nii.gz", "BraTS-GLI-00000-000", "T1w"),
        ("BraTS-GLI-00000-000-t1c.nii.gz", "BraTS-GLI-00000-000", "T1gd"),
        ("TCGA_CS_6290_20000917_flair.nii.gz", "TCGA_CS_6290_20000917", "FLAIR"),
        ("IXI002-Guys-0828-T2.nii.gz", "IXI002-Guys-0828", "T2w"),
        ("P1_T2-FLAIR.nii", "P1", "FLAIR"),
        ("P1_t1_gd.mha", "P1", "T1gd"),
        ("FLAIR_P1.nrrd", "P1", "FLAIR"),
        ("here/P1/t2.nii.gz", "P1", "T2w"),
        ("FLAIR=here/scan7.nii.gz", "scan7", "FLAIR"),
        ("t2f=P1_T2w.nii.gz", "P1", "FLAIR"),
        ("P1:T1=dicom/series5", "P1", "T1w"),
    ],
)
def test_a_name_tells(name: str, patient: str, contrast: str) -> None:
    found = contrast_file(name)
    assert (found.patient, found.contrast) == (patient, contrast)
    assert found.path.name == name.rpartition("=")[2].rpartition("/")[2]


def test_files_of_one_patient_come_together() -> None:
    found = patients_of(["a/P1_T1w.nii", "P2_t2.nii", "b/p1_FLAIR.nii", "T2=P1.nii"], ALL)
    assert {name: list(of) for name, of in found.items()} == {
        "P1": ["T1w", "FLAIR", "T2w"], "P2": ["T2w"]
    }  # fmt: skip


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (["scan.nii.gz"], r"scan\.nii\.gz: expected a name .* found none; give it as FLAIR=scan"),
        (["P1_T1_in_FLAIR.nii"], r"P1_T1_in_FLAIR\.nii: .* found FLAIR and T1w; give it as"),
        (["P1_t1ce.nii"], r"P1_t1ce\.nii: found a scan with a contrast agent, .*P1:T1w=P1_t1ce"),
        (["sub-1_ce-gd_T1w.nii"], "found a scan with a contrast agent"),
        (["P1_PD.nii"], r"P1_PD\.nii: expected one of the bundle's contrasts T2w.* found PDw"),
        (["P1_T2w_seg.nii"], r"P1_T2w_seg\.nii: expected a scan, found .* a mask"),
        (["sub-1_run-1_T2w.nii", "sub-1_run-2_T2w.nii"],
         r"run-2_T2w\.nii: expected one T2w scan of sub-1, found sub-1_run-1_T2w\.nii too"),
    ],
)  # fmt: skip
def test_what_cannot_be_told_is_named_with_the_way_to_give_it(names: list[str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        patients_of(names, ALL)
