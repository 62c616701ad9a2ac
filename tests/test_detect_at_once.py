"""Several calls of ``detect`` fill one folder at the same time, as jobs of a cluster do."""

from __future__ import annotations

import multiprocessing
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from twinvae import outputs
from twinvae.detection import detect as detect_module
from twinvae.detection.detect import detect_scans
from twinvae.detection.options import DetectOptions
from twinvae.detection.plan import plan_detection
from twinvae.errors import OutputError
from twinvae.files import read_json, write_json
from twinvae.outputs import MARKER, own_files, shared
from twinvae.runs.folder import Run


def _judge(together: Any, bundle: Path, scans: Any, out: Path, options: dict[str, Any]) -> None:
    """Judge scans, and write what was found when the others do."""
    real = detect_module.look

    def look(*given, **named):
        found = real(*given, **named)
        together.wait(120)
        return found

    detect_module.look = look
    detect_scans(bundle, scans, out, threads=1, **options)


def at_once(*calls: tuple[Any, ...]) -> None:
    """Do the calls in processes of their own, which must all succeed."""
    spawn = multiprocessing.get_context("spawn")
    together = spawn.Barrier(len(calls))
    processes = [spawn.Process(target=_judge, args=(together, *call)) for call in calls]
    for process in processes:
        process.start()
    for process in processes:
        process.join(240)
    assert [process.exitcode for process in processes] == [0] * len(calls)


@pytest.fixture
def study(tiny_scan: Path, tmp_path: Path) -> Path:
    """A BIDS data set of two participants."""
    for name in ("01", "02"):
        scan = tmp_path / f"study/sub-{name}/anat/sub-{name}_T2w.nii.gz"
        scan.parent.mkdir(parents=True)
        shutil.copyfile(tiny_scan, scan)
    write_json(tmp_path / "study/dataset_description.json", {"Name": "x", "BIDSVersion": "1.10.0"})
    return tmp_path / "study"


@pytest.mark.parametrize("layout", ["folders", "bids"])
def test_neither_loses_what_the_other_writes(
    tiny_run: Run, study: Path, tmp_path: Path, layout: str
) -> None:
    out = tmp_path / "out"
    at_once(*(
        (tiny_run.bundle, study, out, {"layout": layout, "participants": [one]})
        for one in ("01", "02")
    ))  # fmt: skip
    names = ["sub-01_T2w", "sub-02_T2w"]
    table = pd.read_csv(out / "summary.tsv", sep="\t")
    assert sorted(table["name"]) == names
    assert all(name in (out / "index.html").read_text() for name in names)
    if layout == "bids":
        assert len(pd.read_csv(out / "participants.tsv", sep="\t")) == 2
        assert len(list(out.glob("sub-*/*_scans.tsv"))) == 2
        assert read_json(out / "dataset_description.json")["DatasetType"] == "derivative"
    options = DetectOptions(layout=layout)  # type: ignore[arg-type]
    plan = plan_detection(tiny_run.bundle, study, out, options, together=False)
    assert all(task.kept for task in plan.tasks)


@pytest.mark.parametrize("layout", ["folders", "bids"])
def test_results_of_one_scan_are_those_of_one_call(
    tiny_run: Run, study: Path, tmp_path: Path, layout: str
) -> None:
    out, common = tmp_path / "out", {"layout": layout, "participants": ["01"]}
    at_once(*(
        (tiny_run.bundle, study, out, common | {"maps": maps}) for maps in ([], ["image_l1"])
    ))  # fmt: skip
    ways = [DetectOptions(**common, maps=maps) for maps in ([], ["image_l1"])]
    plans = [plan_detection(tiny_run.bundle, study, out, o, together=False) for o in ways]
    assert sum(plan.tasks[0].kept for plan in plans) == 1
    (place,) = plans[0].places.values()
    own = {*place.own_files(), *own_files(out / ".twinvae/dataset")}
    there = {path for path in out.rglob("*") if path.is_file()}
    extra = there - own - {out / "summary.tsv", out / "index.html"}
    assert {path.name for path in extra} == {MARKER, outputs.LOCK}
    assert len(pd.read_csv(out / "summary.tsv", sep="\t")) == 1


def test_a_call_without_results_leaves_the_folder_to_the_other(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with ExitStack() as first, ExitStack() as second:
        first.enter_context(shared(out, "detections"))
        second.enter_context(shared(out, "detections"))
        first.close()
        (out / "mine.txt").write_text("twinvae's")
    outputs.claim(out, "detections")
    with shared(tmp_path / "new", "detections"):
        pass
    assert not (tmp_path / "new").exists()


def test_one_who_comes_while_the_folder_is_given_up_finds_it_claimed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, real = tmp_path / "out", Path.rmdir

    def somebody_comes(path: Path) -> None:
        (path / "results").mkdir()
        real(path)

    with shared(out, "detections"):
        monkeypatch.setattr(Path, "rmdir", somebody_comes)
    assert outputs.kind_of(out) == "detections"
    with pytest.raises(OutputError, match="found a detections"), shared(out, "BIDS derivatives"):
        pass
