"""From folders and tables to a manifest."""

import pytest

from twinvae.cohort import index_sources, read_manifest, write_manifest
from twinvae.config import SourceConfig, SplitConfig
from twinvae.errors import DataError

ALL = SplitConfig(train=0.34, val=0.33, test=0.33)


def index(path, role="mixed", contrast="T2w", **more):
    return index_sources([SourceConfig(path=path, role=role, **more)], contrast, ALL)


def names(table, column, root):
    return [p and str(p).removeprefix(f"{root}/") for p in table[column]]


@pytest.fixture
def bids(touch, tmp_path):
    touch(
        "ds/dataset_description.json",
        "ds/sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
        "ds/sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz",
        "ds/sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz",
        "ds/sub-01/ses-2/anat/sub-01_ses-2_run-1_T2w.nii.gz",
        "ds/sub-01/ses-2/anat/sub-01_ses-2_run-2_T2w.nii.gz",
        "ds/derivatives/seg/sub-01/ses-2/anat/sub-01_ses-2_run-2_label-lesion_mask.nii.gz",
        "ds/derivatives/seg/sub-01/ses-2/anat/sub-01_ses-2_label-brain_mask.nii.gz",
        "ds/sub-02/anat/sub-02_T2W.nii",
        "ds/derivatives/other/sub-02/anat/sub-02_space-MNI152_desc-brain_mask.nii.gz",
        "ds/derivatives/other/sub-02/anat/sub-02_space-T1w_desc-brain_mask.nii.gz",
        "ds/derivatives/other/sub-02/anat/sub-02_space-orig_label-tumor_dseg.nii.gz",
        "ds/derivatives/other/sub-02/anat/sub-02_T2w.nii.gz",
        "ds/sourcedata/sub-09/anat/sub-09_T2w.nii.gz",
        "ds/sub-03/anat/sub-03_T2w.nii.gz",
        "ds/sub-03/anat/sub-03_label-tumour_mask.nii.gz",
        "ds/sub-03/anat/._sub-03_T2w.nii.gz",
        "ds/sub-03/func/sub-03_task-rest_desc-brain_mask.nii.gz",
    )
    return tmp_path / "ds"


def test_bids_sessions_runs_and_masks(bids):
    table = index(bids)
    assert names(table, "image", bids) == [
        "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_run-1_T2w.nii.gz",
        "sub-01/ses-2/anat/sub-01_ses-2_run-2_T2w.nii.gz",
        "sub-02/anat/sub-02_T2W.nii",
        "sub-03/anat/sub-03_T2w.nii.gz",
    ]
    assert table["subject"].tolist() == ["01", "01", "01", "02", "03"]
    assert table["session"].tolist() == ["1", "2_run-1", "2_run-2", "", ""]
    seg = "derivatives/seg/sub-01/ses-2/anat/"
    assert names(table, "brain_mask", bids) == [
        "sub-01/ses-1/anat/sub-01_ses-1_desc-brain_mask.nii.gz",
        seg + "sub-01_ses-2_label-brain_mask.nii.gz",
        seg + "sub-01_ses-2_label-brain_mask.nii.gz",
        "",
        "",
    ]
    assert names(table, "tumour_mask", bids) == [
        "",
        "",
        seg + "sub-01_ses-2_run-2_label-lesion_mask.nii.gz",
        "derivatives/other/sub-02/anat/sub-02_space-orig_label-tumor_dseg.nii.gz",
        "sub-03/anat/sub-03_label-tumour_mask.nii.gz",
    ]
    assert set(table["source"]) == {"ds"}
    assert table.groupby("subject")["split"].nunique().eq(1).all()
    assert set(table["split"]) == {"train", "val", "test"}


def test_a_source_may_go_whole_into_one_split_except_for_whom_a_table_says_otherwise(bids, touch):
    assert set(index(bids, split="test")["split"]) == {"test"}
    touch("a.nii.gz", "b.nii.gz")
    (bids.parent / "t.csv").write_text("subject,image,split\na,a.nii.gz,val\nb,b.nii.gz,\n")
    table = index(bids.parent / "t.csv", split="train")
    assert dict(zip(table["subject"], table["split"], strict=True)) == {"a": "val", "b": "train"}


def test_bids_contrast_is_a_parameter(bids):
    assert names(index_one(bids, "t1W"), "image", bids) == [
        "sub-01/ses-1/anat/sub-01_ses-1_T1w.nii.gz"
    ]
    with pytest.raises(DataError, match=r"expected scans of contrast FLAIR, found T1w, T2W, T2w"):
        index(bids, contrast="FLAIR")


def index_one(path, contrast):
    (path / "participants.tsv").write_text("participant_id\tsplit\nsub-01\ttest\n")
    return index(path, contrast=contrast)


def test_bids_participants_may_give_splits(bids):
    (bids / "participants.tsv").write_text("participant_id\tage\tsplit\nsub-02\t3\ttest\n")
    table = index(bids).set_index("subject")
    assert table.loc["02", "split"] == "test"
    (bids / "participants.tsv").write_text("participant_id\tage\nsub-02\t3\n")
    assert set(index(bids)["split"]) == {"train", "val", "test"}


def test_bids_mask_beside_the_scan_wins_over_derivatives(touch, tmp_path):
    touch(
        "ds/sub-1/anat/sub-1_T2w.nii.gz",
        "ds/sub-1/anat/sub-1_label-brain_mask.nii.gz",
        "ds/derivatives/a/sub-1/anat/sub-1_label-brain_mask.nii.gz",
    )
    (tmp_path / "ds" / "participants.tsv").write_text("participant_id\tsplit\nsub-1\ttrain\n")
    table = index(tmp_path / "ds")
    assert "derivatives" not in table["brain_mask"][0]


@pytest.mark.parametrize(("delimiter", "suffix"), [(",", "csv"), ("\t", "tsv"), (";", "csv")])
def test_a_hand_written_table_needs_subject_and_image_only(touch, tmp_path, delimiter, suffix):
    touch("scans/1.nii.gz", "scans/2.mha", "scans/3.nii", "scans/3 mask.nii")
    path = tmp_path / f"mine.{suffix}"
    lines = [["subject", "age", "image", "tumour_mask"]]
    lines += [["007", "4", "scans/1.nii.gz", ""], ["2", "", " scans/2.mha", ""]]
    lines += [["3", "5", "scans/3.nii", "scans/3 mask.nii"]]
    text = "\n".join(delimiter.join(line) for line in lines)
    path.write_text("\ufeff" + text + "\n", encoding="utf-8")
    table = index(path)
    assert table["subject"].tolist() == ["007", "2", "3"]
    assert set(table["source"]) == {"mine"}
    assert set(table["role"]) == {"mixed"}
    assert names(table, "image", tmp_path) == ["scans/1.nii.gz", "scans/2.mha", "scans/3.nii"]
    assert names(table, "tumour_mask", tmp_path) == ["", "", "scans/3 mask.nii"]
    write_manifest(table, tmp_path / "out" / "manifest.tsv")
    assert read_manifest(tmp_path / "out" / "manifest.tsv").equals(table)


def test_a_tables_own_role_source_and_split_win(touch, tmp_path):
    touch("a.nii", "b.nii")
    path = tmp_path / "t.csv"
    path.write_text("subject,image,role,source,split\n1,a.nii,healthy,X,val\n2,b.nii,,,test\n")
    table = index(path, source="named")
    assert table["role"].tolist() == ["healthy", "mixed"]
    assert table["source"].tolist() == ["X", "named"]
    assert table["split"].tolist() == ["val", "test"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("subject,picture\n1,a.nii\n", "missing image; found subject picture"),
        ("subject,image,tumor_mask\n1,a.nii,\n", "'tumor_mask': did you mean 'tumour_mask'"),
        ("subject,image\n1,gone.nii\n", r"gone\.nii: no such file"),
        ("subject,image\n", "found no rows"),
        ("subject,image,role\n1,a.nii,ill\n", "expected role one of healthy, mixed, found 'ill'"),
        ("", "found an empty file"),
    ],
)
def test_bad_tables(touch, tmp_path, text, message):
    touch("a.nii")
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        index(tmp_path / "t.csv")


def test_sources_are_pooled_and_need_different_names(bids, touch, tmp_path):
    touch("x/ds.d/sub-1/anat/sub-1_T2w.nii", "x/ds/sub-1/anat/sub-1_T2w.nii")
    (tmp_path / "x" / "ds" / "participants.tsv").write_text("participant_id\tsplit\nsub-1\ttrain\n")
    healthy = SourceConfig(path=tmp_path / "x" / "ds", role="healthy")
    mixed = SourceConfig(path=bids, role="mixed")
    with pytest.raises(DataError, match="expected sources of different names, found 'ds'"):
        index_sources([healthy, mixed], "T2w", ALL)
    named = healthy.model_copy(update={"source": "controls"})
    table = index_sources([named, mixed], "T2w", ALL)
    assert table["source"].tolist() == ["controls"] + ["ds"] * 5
    assert table["role"].tolist() == ["healthy"] + ["mixed"] * 5


def test_unrecognised_and_missing_sources(tmp_path):
    with pytest.raises(DataError, match=r"layout not recognised; expected one of table: .*bids"):
        index(tmp_path)
    with pytest.raises(DataError, match="gone: no such file or folder"):
        index(tmp_path / "gone")
    with pytest.raises(DataError, match="gone: no such file or folder"):
        index(tmp_path / "gone", layout="bids")
    with pytest.raises(DataError, match="at least one source"):
        index_sources([], "T2w", ALL)
