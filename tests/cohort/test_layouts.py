"""Every layout on a faithful mock tree: one contract for all, then what is peculiar to each."""

from pathlib import Path

import pytest
from shipped import CHANNELS, put
from shipped_patients import PATIENTS
from shipped_volunteers import VOLUNTEERS
from typer.testing import CliRunner

from twinvae.cohort import LAYOUTS, index_sources, read_manifest, write_manifest
from twinvae.cohort.layouts import recognised
from twinvae.commands.app import app
from twinvae.config import SourceConfig, SplitConfig
from twinvae.errors import ConfigError, DataError
from twinvae.imaging.scan import ScanFiles, load_scan

TREES = (*VOLUNTEERS, *PATIENTS)
ALL = SplitConfig(train=0.34, val=0.33, test=0.33)
COLUMNS = ["subject", "session", "source", "image", "brain_mask", "tumour_mask"]


def index(path, contrast, role="mixed", **more):
    return index_sources([SourceConfig(path=path, role=role, **more)], contrast, ALL)


@pytest.fixture(scope="module", params=TREES, ids=[tree.name for tree in TREES])
def tree(request):
    return request.param


@pytest.fixture(scope="module")
def root(tree, tmp_path_factory):
    return tree.build(tmp_path_factory.mktemp("shipped"))


def rows_of(table, root):
    rows = table[COLUMNS].to_numpy().tolist()
    return [tuple(cell.removeprefix(f"{root}/") for cell in row) for row in rows]


def test_auto_recognises_it_and_only_it(tree, root):
    assert recognised(root) == [tree.layout]
    assert tree.layout in LAYOUTS


def test_every_layout_has_a_tree():
    assert {tree.layout for tree in TREES} == set(LAYOUTS) - {"table", "dicom"}  # tested elsewhere


def test_subjects_sessions_sources_and_masks(tree, root):
    table = index(root, tree.contrast)
    assert sorted(rows_of(table, root)) == sorted(tree.rows)
    assert set(table["role"]) == {"mixed"}
    assert index(root, tree.contrast, layout=tree.layout).equals(table)


def test_contrasts_are_spelled_in_any_case(tree, root):
    table = index(root, tree.contrast)
    assert index(root, tree.contrast.upper()).equals(table)
    assert index(root, tree.contrast.lower()).equals(table)


def test_no_patient_is_in_two_splits(tree, root):
    table = index(root, tree.contrast)
    assert table.groupby("subject")["split"].nunique().eq(1).all()
    for _, part in table.groupby("source"):
        assert set(part["split"]) == {"train", "val", "test"}


def test_every_scan_and_mask_listed_can_be_read(tree, root, tmp_path):
    write_manifest(index(root, tree.contrast), tmp_path / "manifest.tsv")
    table = read_manifest(tmp_path / "manifest.tsv")
    assert len(table) == len(tree.rows)
    for _, row in table.iterrows():
        scan = load_scan(ScanFiles.from_row(row))
        assert (scan.tumour is not None) == bool(row["tumour_mask"])
        assert (scan.given_brain is not None) == bool(row["brain_mask"])


def test_a_contrast_that_nobody_has_is_an_error_that_names_what_there_is(tree, root):
    with pytest.raises(DataError, match=r"contrast ASL, found .*(?i:t1|t2|flair)"):
        index(root, "ASL")


@pytest.mark.parametrize(
    ("name", "note"),
    [
        ("hcp", "skipped 2 without T2w: 102008 (T1w), 103414 (T1w unprocessed 1, T2w unprocessed"),
        ("brats2015", "skipped 1 without T2w: brats_tcia_pat241 0001 (Flair, T1)"),
        ("brats2023", "skipped 1 without T2w: BraTS-GLI-02711 100 (t1c, t1n, t2f)"),
        ("ixi", "skipped 1 without T2w: IXI580 1157 (T1)"),
        ("camcan", "skipped 1 without T2w: CC110045 (T1w)"),
        ("midas", "skipped 1 without T2w: Normal004 (MRA)"),
        ("bids", "skipped 1 without T1w: 04 (T2w)"),
    ],
)
def test_scans_without_the_contrast_are_skipped_with_a_note(name, note, tmp_path, capsys):
    tree = next(t for t in TREES if t.name == name)
    index(tree.build(tmp_path), tree.contrast)
    assert note in capsys.readouterr().err


def test_other_contrasts_of_the_same_trees(tmp_path):
    by_name = {tree.name: tree.build(tmp_path / tree.name) for tree in TREES}

    def images(name, contrast):
        return {Path(p).name for p in index(by_name[name], contrast)["image"]}

    assert images("hcp", "T1w") >= {"T1w_acpc_dc_restore_brain.nii.gz"}
    assert len(images("brats2015", "flair")) == 9
    assert all(".MR_T1c." in name for name in images("brats2015", "T1gd"))
    assert images("brats2020", "T1CE") >= {"BraTS20_Training_355_t1ce.nii"}
    assert images("brats2023", "FLAIR") >= {"BraTS-GLI-02711-100-t2f.nii.gz"}
    assert images("brats2023", "T1w") >= {"BraTS-GLI-00000-000-t1n.nii.gz"}
    assert images("ixi", "PDw") >= {"IXI002-Guys-0828-PD.nii.gz"}
    assert images("isles-spes", "Tmax") == {
        f"VSD.Brain.XX.O.MR_Tmax.{70006 + 10 * i}.nii" for i in (1, 2, 10)
    }
    assert images("midas", "T1w") == {f"Normal00{i}-T1-MPRAGE.mha" for i in (1, 2, 3)}
    for number, contrast in enumerate(CHANNELS):
        names = images("msd", contrast)
        assert names >= {f"BRATS_001.nii.gz#{number}"}


def test_bids_contrast_agent_is_a_contrast_of_its_own(tmp_path):
    for who in "123":
        put(tmp_path / f"ds/sub-{who}/anat/sub-{who}_ce-GADOLINIUM_T1w.nii.gz")
        put(tmp_path / f"ds/sub-{who}/anat/sub-{who}_T1w.nii.gz")
    enhanced = index(tmp_path / "ds", "T1gd")
    assert enhanced["image"].str.contains("ce-GADOLINIUM").all()
    assert not index(tmp_path / "ds", "T1w")["image"].str.contains("ce-").any()
    assert enhanced["session"].eq("").all()


def test_small_parts_stay_one_source(tmp_path, capsys):
    for who in ("002-Guys-0828", "016-Guys-0697", "017-Guys-0698", "012-HH-1211", "035-IOP-0873"):
        put(tmp_path / f"ixi/IXI{who}-T2.nii.gz")
    table = index(tmp_path / "ixi", "T2w")
    assert set(table["source"]) == {"ixi"}
    said = capsys.readouterr().err
    assert "kept as one source, parts of fewer than 3 subjects: HH (1), IOP (1)" in said


def test_an_ixi_mask_of_no_contrast_is_not_given_to_two(tmp_path):
    for who in ("IXI002-Guys-0828", "IXI016-Guys-0697", "IXI017-Guys-0698"):
        put(tmp_path / f"ixi/{who}-T1.nii.gz")
        put(tmp_path / f"ixi/{who}_brainmask.nii.gz")
    put(tmp_path / "ixi/IXI002-Guys-0828-T2.nii.gz")
    table = index(tmp_path / "ixi", "T1w").set_index("subject")
    assert table.loc["IXI002", "brain_mask"] == ""
    assert table.loc["IXI016", "brain_mask"].endswith("IXI016-Guys-0697_brainmask.nii.gz")


def test_a_scan_unpacked_twice_is_taken_once(tmp_path, capsys):
    for who in ("00000", "00002", "00003"):
        put(tmp_path / f"b/train/BraTS2021_{who}/BraTS2021_{who}_t2.nii.gz")
    put(tmp_path / "b/again/BraTS2021_00000_t2.nii.gz")
    table = index(tmp_path / "b", "T2w")
    assert len(table) == 3
    assert "skipped 1 found before under another path" in capsys.readouterr().err


def test_stroke_sets_that_all_count_from_one_keep_their_patients_apart(tmp_path):
    for tree in TREES:
        if tree.layout == "isles2015":
            tree.build(tmp_path / "isles")
    table = index(tmp_path / "isles", "T2w")
    assert table["subject"].nunique() == len(table) == 6
    (tmp_path / "isles/SISS2015_Training").rename(tmp_path / "stroke")
    assert index(tmp_path / "stroke", "T2w")["subject"].tolist() == ["SISS_1", "SISS_10", "SISS_2"]


def test_vsd_copies_without_inner_folders_and_with_two_truths(tmp_path):
    for who in ("153_0002", "171_0001", "179_0002"):
        case = tmp_path / f"b/HGG/brats_tcia_pat{who}"
        put(case / "SMIR.Brain.XX.O.MR_T2.54515.mha")
        put(case / "VSD.Brain_3more.XX.XX.OT.6571.mha")
        put(case / "VSD.Brain_3more.XX.XX.OT.656.mha")
    table = index(tmp_path / "b", "T2w")
    assert recognised(tmp_path / "b") == ["brats2015"]
    assert table["tumour_mask"].str.endswith("OT.656.mha").all()


@pytest.mark.parametrize("above", range(7))
def test_camcan_is_found_from_any_folder_of_its_chain(above, tmp_path):
    root = next(tree for tree in TREES if tree.name == "camcan").build(tmp_path)
    chain = ["cc700", "mri", "pipeline", "release004", "BIDS_20190411", "anat"]
    path = root.joinpath(*chain[:above])
    assert recognised(path) == ["bids" if above == 6 else "camcan"]
    assert len(index(path, "T2w", source="camcan")) == 3
    assert len(index(path, "T2w", layout="camcan")) == 3


def test_sources_of_many_layouts_are_pooled(tmp_path):
    roles = {"hcp": "healthy", "midas": "healthy", "brats2015": "mixed", "msd": "mixed"}
    sources = [
        SourceConfig(path=tree.build(tmp_path / tree.name), role=roles[tree.name], source=tree.name)
        for tree in TREES
        if tree.name in roles
    ]
    table = index_sources(sources, "T2w", ALL)
    assert table.groupby("source")["role"].first().to_dict() == {
        "hcp": "healthy",
        "midas": "healthy",
        "brats2015-HGG": "mixed",
        "brats2015-LGG": "mixed",
        "msd": "mixed",
    }


def test_two_layouts_in_one_folder_are_not_guessed_at(tmp_path):
    for tree in TREES:
        if tree.name in ("brats2021", "brats2023"):
            tree.build(tmp_path / "both")
    with pytest.raises(DataError, match=r"looks like brats2021 and brats2023; index their folders"):
        index(tmp_path / "both", "T2w")
    assert len(index(tmp_path / "both", "T2w", layout="brats2021")) == 3


def test_unknown_layouts_and_foreign_folders(tmp_path):
    with pytest.raises(ConfigError, match=r"expected auto or one of table, .*, found 'brats'"):
        index(tmp_path, "T2w", layout="brats")
    put(tmp_path / "scan.nii.gz")
    with pytest.raises(DataError, match=r"layout not recognised; expected one of .*ixi: IXI002"):
        index(tmp_path, "T2w")
    for name in set(LAYOUTS) - {"table"}:
        with pytest.raises(DataError, match=str(tmp_path)):
            index(tmp_path, "T2w", layout=name)
    assert recognised(tmp_path / "gone") == []


def test_the_command_line_names_every_layout_and_indexes(tmp_path):
    wide = {"COLUMNS": "400", "NO_COLOR": "1"}
    said = CliRunner().invoke(app, ["index", "--help"], env=wide).output
    listed = CliRunner().invoke(app, ["layouts", "list"]).output.splitlines()
    assert [line.split()[0] for line in listed] == list(LAYOUTS)
    assert ", ".join(LAYOUTS) in said
    tree = next(t for t in TREES if t.name == "brats2023")
    out = tmp_path / "m" / "manifest.tsv"
    words = ["index", str(tree.build(tmp_path)), "--role", "mixed", "-o", str(out)]
    for more in (
        [],
        ["--overwrite", "--layout", "brats2023", "--contrast", "t2W", "--source", "gliomas"],
    ):
        assert CliRunner().invoke(app, words + more).exit_code == 0
        assert len(read_manifest(out)) == len(tree.rows)
    assert set(read_manifest(out)["source"]) == {"gliomas"}


@pytest.mark.parametrize("text", ["{}", "[1]", '{"modality": ["T2w"]}', '{"modality": {"x": 1}}'])
def test_a_decathlon_description_that_names_no_contrasts(text, tmp_path):
    put(tmp_path / "imagesTr/BRATS_001.nii.gz")
    (tmp_path / "dataset.json").write_text(text)
    with pytest.raises(DataError, match=r'dataset\.json: expected "modality"'):
        index(tmp_path, "T2w", layout="msd")
    assert recognised(tmp_path) == []


def test_a_link_to_a_folder_above_ends(tmp_path):
    for who in ("00000", "00002", "00003"):
        put(tmp_path / f"b/BraTS2021_{who}/BraTS2021_{who}_t2.nii.gz")
    (tmp_path / "b/BraTS2021_00000/up").symlink_to(tmp_path / "b")
    assert len(index(tmp_path / "b", "T2w")) == 3
