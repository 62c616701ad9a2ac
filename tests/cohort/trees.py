"""Data sets as they are shipped, in miniature: true names and nesting, volumes of a few voxels.

Every folder also gets what file managers leave behind: `.DS_Store`, and a `._` twin of each image.
"""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import nibabel as nib
import numpy as np
import SimpleITK as sitk

MASK = re.compile(r"seg|mask|labelsTr|\.OT\.", re.IGNORECASE)
CHANNELS = ("FLAIR", "T1w", "t1gd", "T2w")
Row = tuple[str, str, str, str, str, str]


@dataclass(frozen=True)
class Tree:
    """Files of a data set, and the manifest rows that one contrast of it must give.

    ``rows``: subject, session, source, image, brain mask, tumour mask; paths below ``root``.
    """

    name: str
    layout: str
    root: str
    files: tuple[str, ...]
    rows: tuple[Row, ...]
    contrast: str = "T2w"
    texts: dict[str, str] = field(default_factory=dict)

    def build(self, folder: Path) -> Path:
        """Write the tree below ``folder`` and return what is to be indexed."""
        root = folder / self.root
        for name, text in self.texts.items():
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text(text)
        for name in self.files:
            put(root / name)
        inside = root.parent if root.is_file() else root
        for below in [inside, *(p for p in inside.rglob("*") if p.is_dir())]:
            (below / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
        return root


def put(file: Path) -> Path:
    """Write a small image or mask, as the name asks for, with a ``._`` twin."""
    file.parent.mkdir(parents=True, exist_ok=True)
    kind = "4d" if "imagesT" in str(file) else "mask" if MASK.search(str(file)) else "image"
    suffix = "".join(re.findall(r"\.(?:nii|gz|mha)$|\.nii(?=\.gz$)", file.name))
    file.write_bytes(_content(kind, suffix))
    (file.parent / f"._{file.name}").write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    return file


@cache
def _content(kind: str, suffix: str) -> bytes:
    shape = (5, 6, 7)
    data = np.arange(np.prod(shape), dtype=np.int16).reshape(shape)
    if kind == "mask":
        data = (data % 7 == 3).astype(np.int16)
    if kind == "4d":
        data = np.stack([data + 1000 * number for number in range(len(CHANNELS))], axis=-1)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"v{suffix}"
        if suffix == ".mha":
            sitk.WriteImage(sitk.GetImageFromArray(data.T), str(path))
        else:
            nib.save(nib.Nifti1Image(data, np.diag([-1.0, -1.0, 1.0, 1.0])), path)
        return path.read_bytes()


def _hcp(subject: str, *kinds: str) -> Iterator[str]:
    for contrast in ("T1w", "T2w"):
        scanner = {"T1w": "T1w_MPR1", "T2w": "T2w_SPC1"}[contrast]
        if "own" in kinds:
            yield from (
                f"{subject}/T1w/{contrast}_acpc_dc.nii.gz",
                f"{subject}/T1w/{contrast}_acpc_dc_restore.nii.gz",
                f"{subject}/T1w/{contrast}_acpc_dc_restore_brain.nii.gz",
                f"{subject}/T1w/brainmask_fs.nii.gz",
            )
        if "mni" in kinds:
            yield from (
                f"{subject}/MNINonLinear/{contrast}_restore.nii.gz",
                f"{subject}/MNINonLinear/{contrast}_restore.2.nii.gz",
                f"{subject}/MNINonLinear/{contrast}_restore_brain.nii.gz",
                f"{subject}/MNINonLinear/brainmask_fs.nii.gz",
            )
        if "unprocessed" in kinds:
            yield f"{subject}/unprocessed/3T/{scanner}/{subject}_3T_{scanner}.nii.gz"
            yield f"{subject}/unprocessed/3T/{scanner}/{subject}_3T_BIAS_32CH.nii.gz"


def vsd(case: str, names: dict[str, str], suffix: str) -> dict[str, str]:
    """Files of a VSD case by contrast: each in a folder of its own name."""
    stems = {kind: f"VSD.Brain{name}" for kind, name in names.items()}
    return {kind: f"{case}/{stem}/{stem}{suffix}" for kind, stem in stems.items()}


def brats2015_case(case: str, number: int, kinds: str = "Flair T1 T1c T2 OT") -> dict[str, str]:
    names = {
        kind: f"_3more.XX.O.OT.{number + 5}" if kind == "OT" else f".XX.O.MR_{kind}.{number + i}"
        for i, kind in enumerate(kinds.split())
    }
    return vsd(case, names, ".mha")


def _brats2015() -> Tree:
    cases = {
        f"{grade}/{case}": brats2015_case(f"{grade}/{case}", 36000 + 10 * i)
        for i, (grade, case) in enumerate(
            [
                ("HGG", "brats_2013_pat0001_1"),
                ("HGG", "brats_tcia_pat153_0002"),
                ("HGG", "brats_tcia_pat153_0109"),
                ("HGG", "brats_tcia_pat153_0277"),
                ("HGG", "brats_tcia_pat171_0001"),
                ("LGG", "brats_2013_pat0002_1"),
                ("LGG", "brats_tcia_pat101_0001"),
                ("LGG", "brats_tcia_pat103_0001"),
            ]
        )
    }
    rows = []
    for case, files in cases.items():
        grade, name = case.split("/")
        subject, session = name.rsplit("_", 1)
        rows.append((subject, session, f"BRATS2015_Training-{grade}", files["T2"], "", files["OT"]))
    no_t2 = brats2015_case("LGG/brats_tcia_pat241_0001", 37000, "Flair T1 OT")
    files = [f for own in [*cases.values(), no_t2] for f in own.values()]
    return Tree("brats2015", "brats2015", "BRATS2015_Training", tuple(files), tuple(rows))


def _flat(case: str, folder: str, kinds: str, suffix: str = ".nii.gz") -> list[str]:
    """`folder/case/case_KIND.nii.gz` and so on; the separator comes with the kinds."""
    return [f"{folder}{case}/{case}{kind}{suffix}" for kind in kinds.split()]


def _brats2017() -> Tree:
    cases = {
        "HGG/": ["Brats17_2013_2_1", "Brats17_CBICA_AAB_1", "Brats17_TCIA_201_1"],
        "LGG/": ["Brats17_2013_0_1", "Brats17_TCIA_101_1", "Brats17_TCIA_130_1"],
    }
    files, rows = [], []
    for grade, names in cases.items():
        for name in names:
            files += _flat(name, grade, "_flair _t1 _t1ce _t2 _seg")
            stem = f"{grade}{name}/{name}"
            source = f"MICCAI_BraTS17_Data_Training-{grade[:-1]}"
            image, truth = f"{stem}_t2.nii.gz", f"{stem}_seg.nii.gz"
            rows.append((name[:-2], "1", source, image, "", truth))
    root = "MICCAI_BraTS17_Data_Training"
    texts = {"survival_data.csv": "Brats17ID,Age,Survival\n"}
    return Tree("brats2017", "brats2017", root, tuple(files), tuple(rows), texts=texts)


def _brats2020() -> Tree:
    train, valid = "MICCAI_BraTS2020_TrainingData/", "MICCAI_BraTS2020_ValidationData/"
    files = [
        *_flat("BraTS20_Training_001", train, "_flair _t1 _t1ce _t2 _seg", ".nii"),
        *_flat("BraTS20_Training_002", train, "_flair _t1 _t1ce _T2 _seg", ".nii"),
        *_flat("BraTS20_Training_355", train, "_flair _t1 _t1ce _t2", ".nii"),
        f"{train}BraTS20_Training_355/W39_1998.09.19_Segm.nii",
        *_flat("BraTS20_Validation_001", valid, "_flair _t1 _t1ce _t2", ".nii"),
    ]

    def row(folder: str, case: str, kind: str, truth: str) -> Row:
        stem = f"{folder}{case}/"
        return (case, "", "BraTS2020", f"{stem}{case}{kind}.nii", "", truth and stem + truth)

    rows = (
        row(train, "BraTS20_Training_001", "_t2", "BraTS20_Training_001_seg.nii"),
        row(train, "BraTS20_Training_002", "_T2", "BraTS20_Training_002_seg.nii"),
        row(train, "BraTS20_Training_355", "_t2", "W39_1998.09.19_Segm.nii"),
        row(valid, "BraTS20_Validation_001", "_t2", ""),
    )
    texts = {f"{train}name_mapping.csv": "Grade,BraTS_2020_subject_ID\n"}
    return Tree("brats2020", "brats2017", "BraTS2020", tuple(files), rows, texts=texts)


def _brats2021() -> Tree:
    cases = ["BraTS2021_00000", "BraTS2021_00002", "BraTS2021_01666"]
    files = [f for case in cases for f in _flat(case, "", "_flair _t1 _t1ce _t2 _seg")]
    rows = [(c, "", "BraTS2021", f"{c}/{c}_t1ce.nii.gz", "", f"{c}/{c}_seg.nii.gz") for c in cases]
    return Tree("brats2021", "brats2021", "BraTS2021", tuple(files), tuple(rows), "ce")


def _brats2023() -> Tree:
    top = "ASNR-MICCAI-BraTS2023-GLI-Challenge-TrainingData/"
    whole = "-t1n -t1c -t2w -t2f -seg"
    files = [
        *_flat("BraTS-GLI-00000-000", top, whole),
        *_flat("BraTS-GLI-00005-000", top, whole),
        *_flat("BraTS-GLI-00005-001", top, "-t1n -t1c -T2W -t2f -seg"),
        *_flat("BraTS-MET-00012-000", top, "-t1n -t1c -t2w -t2f"),
        *_flat("BraTS-GLI-02711-100", top, "-t1n -t1c -t2f -seg"),
    ]

    def row(case: str, kind: str = "-t2w", seg: bool = True) -> Row:
        stem = f"{top}{case}/{case}"
        mask = f"{stem}-seg.nii.gz" if seg else ""
        return (case[:-4], case[-3:], "GLI", f"{stem}{kind}.nii.gz", "", mask)

    rows = (
        row("BraTS-GLI-00000-000"),
        row("BraTS-GLI-00005-000"),
        row("BraTS-GLI-00005-001", "-T2W"),
        row("BraTS-MET-00012-000", seg=False),
    )
    return Tree("brats2023", "brats2023", "GLI", tuple(files), rows)


def _msd() -> Tree:
    train = [f"BRATS_{i:03d}" for i in (1, 2, 4)]
    files = [f"{folder}/{c}.nii.gz" for c in train for folder in ("imagesTr", "labelsTr")]
    files.append("imagesTs/BRATS_485.nii.gz")
    source = "Task01_BrainTumour"
    rows = [(c, "", source, f"imagesTr/{c}.nii.gz#3", "", f"labelsTr/{c}.nii.gz") for c in train]
    rows.append(("BRATS_485", "", source, "imagesTs/BRATS_485.nii.gz#3", "", ""))
    about = {"name": "BRATS", "modality": {str(i): c for i, c in enumerate(CHANNELS)}}
    texts = {"dataset.json": json.dumps(about)}
    return Tree("msd", "msd", source, tuple(files), tuple(rows), texts=texts)


def _ixi() -> Tree:
    people = [
        *("IXI002-Guys-0828", "IXI012-HH-1211", "IXI014-HH-1236", "IXI015-HH-1258"),
        *("IXI016-Guys-0697", "IXI017-Guys-0698", "IXI035-IOP-0873", "IXI071-IOP-0874"),
        "IXI072-IOP-2319",
    ]
    files = [f"IXI-{c}/{who}-{c}.nii.gz" for who in people for c in ("T1", "T2", "PD")]
    files += ["IXI-T2/IXI012-HH-1211-T2_brainmask.nii.gz", "IXI-T1/IXI580-IOP-1157-T1.nii.gz"]
    files += ["IXI-DTI/IXI002-Guys-0828-DTI-00.nii.gz"]
    rows = []
    for who in people:
        subject, site, number = who.split("-")
        mask = "IXI-T2/IXI012-HH-1211-T2_brainmask.nii.gz" if subject == "IXI012" else ""
        rows.append((subject, number, f"ixi-{site}", f"IXI-T2/{who}-T2.nii.gz", mask, ""))
    return Tree("ixi", "ixi", "ixi", tuple(files), tuple(rows))


def _ixi_derived() -> Tree:
    people = ["IXI013-HH-1212", "IXI014-HH-1236", "IXI015-HH-1258"]
    files = [f"{who}_{kind}.nii.gz" for who in people for kind in ("T1", "brainmask")]
    rows = [(*_who(p), "derived-HH", f"{p}_T1.nii.gz", f"{p}_brainmask.nii.gz", "") for p in people]
    return Tree("ixi-derived", "ixi", "derived", tuple(files), tuple(rows), "T1w")


def _who(name: str) -> tuple[str, str]:
    subject, _, number = name.split("-")
    return subject, number


def _camcan() -> Tree:
    top = "cc700/mri/pipeline/release004/BIDS_20190411"
    people = ["CC110033", "CC110037", "CC723395"]
    files, rows = [], []
    for who in people:
        stem = f"{top}/anat/sub-{who}/anat/sub-{who}"
        files += [f"{stem}_T1w.nii.gz", f"{stem}_T2w.nii.gz"]
        files += [f"{top}/epi_rest/sub-{who}/epi_rest/sub-{who}_epi_rest.nii.gz"]
        rows.append((who, "", "camcan", f"{stem}_T2w.nii.gz", "", ""))
    files += [f"{top}/anat/sub-CC110045/anat/sub-CC110045_T1w.nii.gz"]
    texts = {f"{top}/anat/participants.tsv": "participant_id\tage\nsub-CC110033\t24\n"}
    return Tree("camcan", "camcan", "camcan", tuple(files), tuple(rows), texts=texts)


def _isles(challenge: str, contrasts: str) -> Tree:
    root = f"{challenge}2015_Training"
    files, rows = [], []
    for case in ("1", "2", "10"):
        number = 70000 + 10 * int(case)
        names = {c: f".XX.O.MR_{c}.{number + i}" for i, c in enumerate(contrasts.split())}
        own = vsd(case, names | {"OT": f".XX.O.OT.{number + 9}"}, ".nii")
        files += own.values()
        rows.append((f"{root}_{case}", "", root, own["T2"], "", own["OT"]))
    rows.sort(key=lambda row: row[3].split("/")[0])
    return Tree(f"isles-{challenge.lower()}", "isles2015", root, tuple(files), tuple(rows))


def _midas(nested: bool) -> Tree:
    files, rows = [], []
    for who in ("001", "002", "003"):
        for kind in ("MRA", "T1-Flash", "T1-MPRAGE", "T2"):
            files.append(_midas_file(who, kind, nested))
        rows.append((f"Normal{who}", "", "midas", _midas_file(who, "T2", nested), "", ""))
    files.append(_midas_file("004", "MRA", nested))
    name = "midas-nested" if nested else "midas"
    return Tree(name, "midas", "midas", tuple(files), tuple(rows))


def _midas_file(who: str, kind: str, nested: bool) -> str:
    file = f"Normal{who}-{kind}.mha"
    return f"Normal-{who}/{kind}/{file}" if nested else file


def _tcga() -> Tree:
    cases = ["TCGA_CS_6290_20000917", "TCGA_DU_5851_19950428", "TCGA_HT_A61A_20000127"]
    cases.append("TCGA_HT_A61A_20010203")  # the same patient later
    files = [f for case in cases for f in _flat(case, "", "_flair _seg")]
    rows = [
        (c[:12], c[13:], "lgg", f"{c}/{c}_flair.nii.gz", "", f"{c}/{c}_seg.nii.gz") for c in cases
    ]
    return Tree("tcga-lgg", "tcga-lgg", "lgg", tuple(files), tuple(rows), "FLAIR")


def _bids() -> Tree:
    anat = "sub-{0}/anat/sub-{0}{1}.nii.gz"
    mask = "derivatives/masks/" + anat.format("03", "_label-brain_mask")
    files = [
        anat.format("01", "_T1w"),
        anat.format("01", "_ce-GADOLINIUM_T1w"),
        anat.format("02", "_T1w"),
        anat.format("03", "_T1w"),
        anat.format("04", "_T2w"),
        "sub-03/func/sub-03_task-rest_bold.nii.gz",
        mask,
    ]
    rows = tuple(
        (who, "", "ds", anat.format(who, "_T1w"), mask if who == "03" else "", "")
        for who in ("01", "02", "03")
    )
    texts = {"dataset_description.json": "{}"}
    return Tree("bids", "bids", "ds", tuple(files), rows, "T1w", texts)


def _hcp_trees() -> Iterator[Tree]:
    people = ("100307", "100408", "101915")
    files = [f for who in people for f in _hcp(who, "own", "mni", "unprocessed")]
    files += [f for f in _hcp("102008", "own") if "T2w" not in f]
    files += _hcp("103414", "unprocessed")
    yield Tree("hcp", "hcp", "HCP_1200", tuple(files), tuple(
        (who, "", "HCP_1200", f"{who}/T1w/T2w_acpc_dc_restore_brain.nii.gz",
         f"{who}/T1w/brainmask_fs.nii.gz", "") for who in people
    ))  # fmt: skip
    files = [f for who in people for f in _hcp(who, "mni", "unprocessed")]
    yield Tree("hcp-mni", "hcp", "hcp", tuple(files), tuple(
        (who, "", "hcp", f"{who}/MNINonLinear/T1w_restore_brain.nii.gz",
         f"{who}/MNINonLinear/brainmask_fs.nii.gz", "") for who in people
    ), "T1w")  # fmt: skip
    files = [f for who in people for f in _hcp(who, "unprocessed")]
    yield Tree("hcp-unprocessed", "hcp", "hcp", tuple(files), tuple(
        (who, "", "hcp", f"{who}/unprocessed/3T/T2w_SPC1/{who}_3T_T2w_SPC1.nii.gz", "", "")
        for who in people
    ))  # fmt: skip


TREES = (
    *_hcp_trees(),
    _brats2015(),
    _brats2017(),
    _brats2020(),
    _brats2021(),
    _brats2023(),
    _msd(),
    _ixi(),
    _ixi_derived(),
    _camcan(),
    _isles("SISS", "DWI Flair T1 T2"),
    _isles("SPES", "CBF CBV DWI T1c T2 TTP Tmax"),
    _midas(nested=False),
    _midas(nested=True),
    _tcga(),
    _bids(),
)
