"""Mock trees of data sets of patients."""

from __future__ import annotations

import json

from shipped import CHANNELS, Row, Tree


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


def _tcga() -> Tree:
    cases = ["TCGA_CS_6290_20000917", "TCGA_DU_5851_19950428", "TCGA_HT_A61A_20000127"]
    cases.append("TCGA_HT_A61A_20010203")  # the same patient later
    files = [f for case in cases for f in _flat(case, "", "_flair _seg")]
    rows = [
        (c[:12], c[13:], "lgg", f"{c}/{c}_flair.nii.gz", "", f"{c}/{c}_seg.nii.gz") for c in cases
    ]
    return Tree("tcga-lgg", "tcga-lgg", "lgg", tuple(files), tuple(rows), "FLAIR")


PATIENTS = (
    _brats2015(),
    _brats2017(),
    _brats2020(),
    _brats2021(),
    _brats2023(),
    _msd(),
    _isles("SISS", "DWI Flair T1 T2"),
    _isles("SPES", "CBF CBV DWI T1c T2 TTP Tmax"),
    _tcga(),
)
