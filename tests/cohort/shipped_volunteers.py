"""Mock trees of data sets of healthy people, and of BIDS."""

from __future__ import annotations

from collections.abc import Iterator

from shipped import Tree


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


VOLUNTEERS = (
    *_hcp_trees(),
    _ixi(),
    _ixi_derived(),
    _camcan(),
    _midas(nested=False),
    _midas(nested=True),
    _bids(),
)
