"""What ``detect`` is given: files, folders, data sets, DICOM studies and tables become scans."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from dicom_files import classic, uid
from twinvae.detection import batch
from twinvae.detection.detect import detect_scans
from twinvae.detection.gather import Gathered, Wanted, gather
from twinvae.detection.options import DetectOptions
from twinvae.detection.plan import plan_detection
from twinvae.errors import ConfigError, DataError
from twinvae.files import write_json

AFFINE = np.diag([-2.0, -2.0, 2.0, 1.0])
BLOCK = np.arange(6 * 7 * 8, dtype=np.int16).reshape(6, 7, 8)


def touch(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")
    return folder


def single(*given: Path | str, contrast: str = "T2w", **labels: frozenset[str]) -> list[Gathered]:
    return gather(list(given), Wanted([contrast], together=False, **labels))


def planned(*given: Path | str, bundle: str = "t2w", **options) -> dict[str, dict[str, Gathered]]:
    plan = plan_detection(
        bundle, list(given), "out", DetectOptions(**options), together=bundle == "any"
    )
    return {task.name: dict(task.scans) for task in plan.tasks}


@pytest.fixture
def bids(tmp_path: Path) -> Path:
    anat = "sub-{0}/ses-{1}/anat/sub-{0}_ses-{1}_{2}.nii.gz"
    visits = [("01", "1"), ("01", "2"), ("02", "1")]
    names = [anat.format(*visit, c) for visit in visits for c in ("T2w", "FLAIR")]
    names += ["sub-03/anat/sub-03_T1w.nii.gz", "sub-02/ses-1/anat/sub-02_ses-1_run-2_T2w.nii.gz"]
    names.append("derivatives/m/sub-01/ses-2/anat/sub-01_ses-2_desc-brain_mask.nii.gz")
    return touch(tmp_path / "bids", *names)


def test_a_bids_data_set_gives_the_scans_of_the_contrast_with_their_masks(bids: Path) -> None:
    found = planned(bids)
    assert list(found) == ["sub-01_ses-1_T2w", "sub-01_ses-2_T2w", "sub-02_ses-1_T2w",
                           "sub-02_ses-1_run-2_T2w"]  # fmt: skip
    assert planned(str(bids)) == found
    masks = [scan["T2w"].brain_mask for scan in found.values()]
    assert [mask and mask.name for mask in masks] == [
        None, "sub-01_ses-2_desc-brain_mask.nii.gz", None, None
    ]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "sub-"])
def test_subjects_and_sessions_can_be_chosen(bids: Path, prefix: str) -> None:
    only = planned(bids, participants=[f"{prefix}01"])
    assert list(only) == ["sub-01_ses-1_T2w", "sub-01_ses-2_T2w"]
    assert list(planned(bids, participants=["01", "02"], sessions=["ses-2"])) == [
        "sub-01_ses-2_T2w"
    ]
    with pytest.raises(DataError, match="participant-label: expected some of 01, 02, 03, found 07"):
        planned(bids, participants=["01", "07"])
    with pytest.raises(DataError, match="session-label: expected some of 1, 2, found 3"):
        planned(bids, sessions=["3"])
    with pytest.raises(DataError, match=r"T2w of the participants and sessions .* found 1 T1w"):
        planned(bids, participants=["03"])
    scan = next(bids.rglob("*T1w.nii.gz"))
    with pytest.raises(ConfigError, match="expected a folder or table"):
        planned(scan, participants=["03"])


def test_contrasts_of_a_subject_and_session_are_joined(bids: Path) -> None:
    wanted = Wanted(["T2w", "FLAIR", "T1w"], together=True)
    found = gather([bids], wanted)
    joined = [(one.name, one.contrast) for one in found]
    assert ("sub-01_ses-2", "FLAIR") in joined
    assert [n for n, c in joined if c == "T2w"] == ["sub-01_ses-1", "sub-01_ses-2", "sub-02_ses-1"]
    assert ("sub-03", "T1w") in joined
    assert (
        "left 1, of which there is another of that contrast: sub-02_ses-1 T2w run-2"
        in (wanted.notes[0])
    )
    (twice,) = (one for one in found if one.instead_of)
    assert [path.name for path in twice.instead_of] == ["sub-02_ses-1_run-2_T2w.nii.gz"]
    assert twice.image.name == "sub-02_ses-1_T2w.nii.gz"
    plan = plan_detection("any", bids, "out", DetectOptions(), together=True)
    (said,) = (line for task in plan.tasks for line in task.left)
    assert said.startswith("T2w: ")
    assert "sub-02_ses-1_run-2_T2w.nii.gz was left out, since only one scan" in said
    named = planned(bids, bundle="any")
    assert set(named["sub-01_ses-1"]) == {"T2w", "FLAIR"}
    assert set(named["sub-03"]) == {"T1w"}


def test_what_has_another_contrast_is_counted(bids: Path, tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"bids: expected scans of contrast PDw, found 3 FLAIR, 1 T"
    ):
        single(bids, contrast="PDw")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"empty: expected scans of contrast T2w, found no scan"):
        single(tmp_path / "empty")


def test_files_of_one_name_are_called_by_subject_and_session(tmp_path: Path) -> None:
    names = [f"{s}/T1w/T2w_acpc_dc_restore_brain.nii.gz" for s in ("100307", "100408")]
    assert list(planned(touch(tmp_path, *names))) == ["sub-100307", "sub-100408"]


def test_a_table_gives_its_rows_with_masks_and_grids(tmp_path: Path) -> None:
    touch(tmp_path, "a/x.nii.gz", "b/x.nii.gz", "a/m.nii.gz")
    table = tmp_path / "scans.tsv"
    rows = ["subject\tsession\timage\tbrain_mask\ttrust_grid", "01\t1\ta/x.nii.gz\ta/m.nii.gz\tyes",
            "01\t2\tb/x.nii.gz\t\t"]  # fmt: skip
    table.write_text("\n".join(rows) + "\n")
    found = planned(table)
    assert list(found) == ["sub-01_ses-1", "sub-01_ses-2"]
    first, second = (scans["T2w"] for scans in found.values())
    assert (first.brain_mask, first.trust_grid) == (tmp_path / "a/m.nii.gz", True)
    assert (second.brain_mask, second.trust_grid) == (None, False)
    assert list(planned(table, sessions=["2"])) == ["sub-01_ses-2"]
    table.write_text("\n".join(rows).replace("b/x", "b/gone") + "\n")
    with pytest.raises(DataError, match=r"gone\.nii\.gz: no such file"):
        planned(table)


def test_a_plain_folder_is_read_by_its_names(tmp_path: Path) -> None:
    touch(tmp_path, "P1_T2w.nii.gz", "P1_FLAIR.nii.gz", "P1_T2w_mask.nii.gz", "deep/P2_t2.mha",
          "odd.nii", "notes.txt", "derivatives/P3_T2w.nii")  # fmt: skip
    touch(tmp_path, "old/P4/healthy_T2w.nii.gz")
    write_json(tmp_path / "old/P4/.twinvae.json", {"kind": "results of a scan"})
    wanted = Wanted(["T2w"], together=False)
    found = gather([tmp_path], wanted)
    assert [one.image.name for one in found] == ["P1_T2w.nii.gz", "P2_t2.mha"]
    said = "\n".join(wanted.notes)
    assert "left 1 named like masks (--brain-mask uses one): P1_T2w_mask.nii.gz" in said
    assert "left 1 whose names tell no contrast: odd.nii" in said
    assert list(planned(tmp_path, bundle="any")) == ["P1", "P2"]


def test_a_folder_whose_names_tell_nothing_is_of_the_bundles_contrast(tmp_path: Path) -> None:
    touch(tmp_path, "one.nii.gz", "two.nii.gz")
    assert list(planned(tmp_path)) == ["one", "two"]
    with pytest.raises(DataError, match="found 2 untold contrast"):
        planned(tmp_path, bundle="any")


def _study(folder: Path, patient: str, day: str) -> Path:
    kinds = {"1": "t2_tse_tra", "2": "flair_tra", "3": "localizer"}
    for number, description in kinds.items():
        who = {"PatientID": patient, "PatientName": f"{patient}^Kunigunde", "StudyDate": day}
        of = {"StudyInstanceUID": uid(patient, day), "SeriesDescription": description}
        unique = {"SeriesInstanceUID": uid(patient, day, number)}
        classic(folder / f"SER{number}", BLOCK, AFFINE, series=number, **who, **of, **unique)
    return folder


def test_of_a_dicom_study_one_series_is_taken_and_nobody_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _study(tmp_path / "export/a", "Zwiebel", "20240131")
    _study(tmp_path / "export/b", "Zwiebel", "20240201")
    plan = plan_detection("t2w", tmp_path / "export", "out", DetectOptions(), together=False)
    assert [task.scans["T2w"].image.parts[-2:] for task in plan.tasks] == [
        ("a", "SER1"), ("b", "SER1")
    ]  # fmt: skip
    assert all("t2_tse_tra" in row["series"] for row in plan.rows())
    assert "study 1 of 2: took series" in plan.notes[0]
    assert "localizer" in plan.notes[0]
    said = "".join(capsys.readouterr()) + str(plan.rows()) + str(plan.notes)
    for word in ("zwiebel", "kunigunde", "20240131"):
        assert word not in said.casefold(), word
    both = plan_detection("any", tmp_path / "export", "out", DetectOptions(), together=True)
    assert [sorted(task.scans) for task in both.tasks] == [["FLAIR", "T2w"]] * 2
    assert all(task.name.startswith("patient-") for task in both.tasks)


def test_the_one_series_of_a_folder_is_taken_as_it_is(tmp_path: Path) -> None:
    folder = classic(tmp_path / "x", BLOCK, AFFINE, SeriesDescription="t1_mprage")
    assert [scan["T2w"].image for scan in planned(folder).values()] == [folder]


def test_what_is_not_there_is_told_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, "there.nii.gz")
    monkeypatch.setattr(batch, "read_bundle", None)  # nothing is loaded, or this would fail
    for given in ([tmp_path / "there.nii.gz", str(tmp_path / "gone.nii")], tmp_path / "gone.nii"):
        with pytest.raises(DataError, match=r"gone\.nii: no such file"):
            detect_scans("t2w", given, tmp_path / "out")
    with pytest.raises(DataError, match=r"mask\.nii: no such file"):
        detect_scans("t2w", tmp_path / "there.nii.gz", "out", brain_masks=[tmp_path / "mask.nii"])
    assert not (tmp_path / "out").exists()


def test_a_scan_that_is_found_twice_is_taken_once(bids: Path) -> None:
    scan = bids / "sub-01/ses-1/anat/sub-01_ses-1_T2w.nii.gz"
    assert len(planned(bids, scan)) == len(planned(bids)) == 4


def test_masks_by_hand_need_scans_by_hand(bids: Path, tmp_path: Path) -> None:
    touch(tmp_path, "mask.nii")
    with pytest.raises(ConfigError, match="expected scans given one by one beside it, found"):
        planned(bids, brain_masks=[tmp_path / "mask.nii"])


def test_a_scan_said_to_be_of_another_contrast_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x.nii")
    assert len(planned(f"T2w={tmp_path / 'x.nii'}")) == 1
    with pytest.raises(ConfigError, match="expected contrast T2w, found FLAIR"):
        planned(f"FLAIR={tmp_path / 'x.nii'}")


@pytest.mark.parametrize(
    "wrong",
    [
        *({"jobs": 0}, {"threads": 0}, {"device": "gpu"}),
        *({"maps": "residual"}, {"participants": "01"}),
    ],
)
def test_options_that_make_no_sense_are_named(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        DetectOptions(**wrong)
    with pytest.raises(TypeError, match="nonsense"):
        DetectOptions(nonsense=1)


@pytest.mark.parametrize(
    ("options", "scans", "free_gib", "expected"),
    [
        ({}, 100, 64, 8),  # as many as there are cores,
        ({}, 13, 64, 3),  # but four scans or more each,
        ({}, 3, 64, 1),
        ({}, 100, 7, 3),  # and 2 GiB each;
        ({}, 100, 1, 1),
        ({}, 100, None, 8),  # where the system does not say what is free, by cores alone
        ({"skull_strip": "hd_bet"}, 100, 64, 1),
        ({"skull_strip": True}, 100, 64, 1),
        ({"skull_strip": "template"}, 100, 64, 8),
        ({"jobs": 5}, 100, 1, 5),  # as asked, but
        ({"jobs": 5}, 2, 64, 2),  # no more than scans
        ({"jobs": 5}, 0, 64, 1),
    ],
)
def test_as_many_processes_judge_as_pay_and_fit(
    options: dict[str, object],
    scans: int,
    free_gib: int | None,
    expected: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batch, "cores", lambda: 8)
    monkeypatch.setattr(batch, "gpus", lambda device: 0)
    monkeypatch.setattr(batch, "free_memory", lambda: free_gib and free_gib * 2**30)
    assert batch.processes(DetectOptions(**{"jobs": None, **options}), scans) == expected


def test_a_gpu_has_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "gpus", lambda device: int(device != "cpu"))
    monkeypatch.setattr(batch, "cores", lambda: 8)
    assert batch.processes(DetectOptions(jobs=None), 100) == 1
    assert batch.processes(DetectOptions(jobs=None, device="cpu"), 100) > 1
