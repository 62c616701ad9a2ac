"""What a user has is never removed or overwritten, whatever they name as an output."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from typer.main import get_command
from typer.testing import CliRunner

from tiny import TINY, tiny_config
from twinvae import __main__, outputs
from twinvae.commands.app import app
from twinvae.detection import place
from twinvae.detection.detect import detect_scans
from twinvae.detection.plan import scan_names
from twinvae.errors import OutputError, PartialFailureError, StageError
from twinvae.files import atomic_path, new_folder, write_text
from twinvae.imaging import FittedRecipe, PreparedScan, ScanFiles, new_array
from twinvae.models import build_model, save_model
from twinvae.runs.folder import Run
from twinvae.runs.stages import run_stage, run_stages
from twinvae.scoring import write_fitted
from twinvae.training.checkpoint import Checkpoint, save_checkpoint

Words = list[str | Path]


class Given:
    """Inputs of every command, below one folder that is the user's."""

    def __init__(self, run: Run, root: Path) -> None:
        self.bundle = run.bundle
        self.folder = root / "given"
        shutil.copytree(run.folder / "cohort/healthy", self.folder)
        self.scan = next(self.folder.glob("sub-*/anat/*.nii.gz"))
        self.table = self.folder / "scores.tsv"
        shutil.copyfile(run.scores, self.table)
        settings = {k: v for k, v in TINY.items() if not k.startswith("cohort")}
        sources = [{"path": str(self.folder), "role": "healthy"}]
        self.config = root / "config.yaml"
        self.config.write_text(
            yaml.safe_dump({"preset": "demo", "name": "tiny", "cohort": {"sources": sources}})
        )
        self.study = root / "study.yaml"
        data = {"one": {"config": str(self.config)}}
        settings = {k: v for k, v in settings.items() if k != "name"}
        study = {"name": "s", "data": data, "models": {"vae": {}}, "settings": settings}
        self.study.write_text(yaml.safe_dump(study))

    @property
    def small(self) -> Words:
        return ["--healthy", "1", "--mixed", "1", "--spacing-mm", "4", "--jobs", "1"]


FOLDERS: dict[str, Callable[[Given, Path], Words]] = {
    "phantom": lambda g, out: ["phantom", out, *g.small, "--labels", g.folder],
    "run": lambda g, out: ["run", g.config, "-o", out],
    "crossval": lambda g, out: ["crossval", g.config, "--folds", "2", "-o", out],
    "study": lambda g, out: ["study", g.study, "-o", out],
    "calibrate": lambda g, out: ["calibrate", g.bundle, "--healthy", g.folder, "-o", out],
    "evaluate": lambda g, out: ["evaluate", g.table, "-o", out],
    "fuse": lambda g, out: [
        "fuse",
        f"T2w={g.table}",
        f"FLAIR={g.table}",
        "--score",
        "residual_local",
        "-o",
        out,
    ],
    "detect": lambda g, out: ["detect", g.bundle, g.folder, "-o", out],
}
FILES: dict[str, Callable[[Given, Path], Words]] = {
    "index": lambda g, out: ["index", g.folder, "--role", "healthy", "-o", out],
    "check": lambda g, out: ["check", g.table, "-o", out],
}


@pytest.fixture
def given(tiny_run: Run, tmp_path: Path) -> Given:
    return Given(tiny_run, tmp_path / "user")


def do(words: Words) -> BaseException | None:
    return CliRunner().invoke(app, [str(word) for word in words]).exception


def tree(folder: Path) -> dict[str, bytes | None]:
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None
        for path in sorted(folder.rglob("*"))
    }


def test_every_command_with_an_output_is_tried_here() -> None:
    commands = get_command(app).commands  # type: ignore[attr-defined]
    writing = {name for name, c in commands.items() if any(p.name == "out" for p in c.params)}
    assert writing == FOLDERS.keys() | FILES.keys()


@pytest.mark.parametrize("command", FOLDERS)
def test_a_folder_with_a_foreign_file_is_left_alone(command: str, given: Given) -> None:
    out = given.folder.parent / "out"
    write_text(out / "thesis.tex", "Introduction")
    before = tree(given.folder.parent)
    error = do(FOLDERS[command](given, out))
    assert isinstance(error, OutputError)
    assert error.exit_code == 7
    assert "thesis.tex" in str(error)
    assert str(out) in str(error)
    assert tree(given.folder.parent) == before


@pytest.mark.parametrize("where", ["equals", "contains", "lies within"])
@pytest.mark.parametrize("command", FOLDERS)
def test_an_output_keeps_apart_from_the_input(command: str, where: str, given: Given) -> None:
    source = given.table if command in ("evaluate", "fuse") else given.folder
    out = {"equals": source, "contains": source.parent, "lies within": source / "new"}[where]
    before = tree(given.folder.parent)
    error = do(FOLDERS[command](given, out))
    assert isinstance(error, OutputError), error
    assert tree(given.folder.parent) == before


@pytest.mark.parametrize("command", FILES)
def test_a_file_that_is_there_is_not_overwritten(command: str, given: Given) -> None:
    for out in (given.folder / "participants.tsv", given.table, given.folder):
        before = tree(given.folder.parent)
        assert isinstance(do(FILES[command](given, out)), OutputError)
        assert tree(given.folder.parent) == before


def test_a_manifest_is_replaced_only_when_asked_to(given: Given, tmp_path: Path) -> None:
    out = tmp_path / "manifest.tsv"
    words = FILES["index"](given, out)
    assert do(words) is None
    rows = out.read_text()
    write_text(out, rows + "# my notes\n")
    assert isinstance(do(words), OutputError)
    assert "my notes" in out.read_text()
    assert do([*words, "--overwrite"]) is None
    assert out.read_text() == rows
    write_text(tmp_path / "manifest.qc.tsv", "mine")
    assert isinstance(do([*words, "--append", "--check"]), OutputError)
    assert (out.read_text(), (tmp_path / "manifest.qc.tsv").read_text()) == (rows, "mine")


def test_derivatives_are_meant_for_outputs(given: Given) -> None:
    out = given.folder / "derivatives" / "judged"
    assert do(["detect", given.bundle, given.scan, "-o", out]) is None
    assert (out / "summary.tsv").is_file()


def test_detection_never_replaces_what_it_did_not_write(given: Given, tmp_path: Path) -> None:
    """The very case seen: a patient's DICOM folder, and results asked for beside it."""
    case = tmp_path / "case"
    shutil.copytree(given.folder, case / "patient1")
    before = tree(case)
    assert isinstance(do(["detect", given.bundle, case / "patient1", "-o", case]), OutputError)
    assert tree(case) == before
    # A folder of the scan's name inside an output folder of ours is somebody's too.
    out = tmp_path / "out"
    assert do(["detect", given.bundle, given.scan, "-o", out]) is None
    name = given.scan.name.split(".")[0]
    write_text(out / name / "notes.txt", "call back")
    kept = tree(out)
    assert isinstance(do(["detect", given.bundle, given.scan, "-o", out]), OutputError)
    assert tree(out) == kept
    (out / name / "notes.txt").unlink()
    assert do(["detect", given.bundle, given.scan, "-o", out]) is None


def test_results_of_another_scan_of_the_same_name_stay(given: Given, tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    other = shutil.copyfile(given.scan, tmp_path / "b" / given.scan.name)
    second = shutil.copyfile(given.scan, tmp_path / "second.nii.gz")
    out = tmp_path / "out"
    detect_scans(given.bundle, [given.scan], out, device="cpu", threads=1)
    before = tree(out)
    with pytest.raises(OutputError, match=rf"found that of {given.scan.resolve()}"):
        detect_scans(given.bundle, [other], out, device="cpu", threads=1)
    assert tree(out) == before
    detect_scans(given.bundle, [second], out, device="cpu", threads=1)
    rows = (out / "summary.tsv").read_text().splitlines()
    first = (out / "summary.tsv").read_text().splitlines()[1].split("\t")[0]
    assert [first, rows[2].split("\t")[0]] == [given.scan.name.split(".")[0], "second"]
    assert rows[1] in before["summary.tsv"].decode()  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "scans",
    [
        ["x/t2.nii", "y/t2.nii", "z/t2_1.nii"],
        ["z/t2_1.nii", "z/t2_2.nii", "x/t2.nii", "y/t2.nii", "w/T2.nii"],
        ["a/.nii.gz", "b/.nii.gz", "a/scan.nii"],
    ],
)
def test_no_two_scans_share_a_folder(scans: list[str]) -> None:
    names = scan_names([Path(scan) for scan in scans])
    assert len({name.casefold() for name in names}) == len(scans)
    assert all(names)


def test_a_scans_own_name_is_kept_where_it_can_be() -> None:
    assert scan_names([Path("x/t2.nii"), Path("y/t2.nii"), Path("z/t2_1.nii")]) == [
        "t2_2", "t2_3", "t2_1"
    ]  # fmt: skip
    assert scan_names([Path("x/t1.nii"), Path("y/t2.nii")]) == ["t1", "t2"]


def test_one_odd_scan_does_not_cost_the_others(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinvae.detection import look

    scans = [shutil.copyfile(given.scan, tmp_path / f"{n}.nii.gz") for n in "abc"]
    prepare = look.prepare_scan

    def odd(scan: ScanFiles, recipe: FittedRecipe) -> PreparedScan:
        if scan.image.name == "b.nii.gz":
            raise KeyError("out of memory, or anything else")
        return prepare(scan, recipe)

    monkeypatch.setattr(look, "prepare_scan", odd)
    error = do(["detect", given.bundle, *scans, "-o", tmp_path / "out"])
    assert getattr(error, "exit_code", None) == 6
    assert "b.nii.gz: KeyError" in str(error)
    names = [row.split("\t")[0] for row in (tmp_path / "out/summary.tsv").read_text().splitlines()]
    assert names == ["name", "a", "c"]


@pytest.mark.parametrize("command", ["calibrate", "phantom", "evaluate"])
def test_what_was_added_to_an_output_survives(command: str, given: Given, tmp_path: Path) -> None:
    """A bundle is replaced as a whole, so it is not replaced at all; others are filled again."""
    out = tmp_path / "out"
    words = {
        "calibrate": [*FOLDERS["calibrate"](given, out), "--set", "compute.jobs=1",
                      "--set", "decision.percentiles=[90]"],
        "phantom": ["phantom", out, *given.small],
        "evaluate": FOLDERS["evaluate"](given, out),
    }[command]  # fmt: skip
    first = do(words)  # of the scans to calibrate on, those that were trained on are skipped
    assert isinstance(first, PartialFailureError) if command == "calibrate" else first is None
    ours = tree(out)
    write_text(out / "healthy/sub-H001/anat/thesis.tex", "Introduction")
    again = do([*words, "--seed", "5"] if command == "phantom" else words)
    assert isinstance(again, OutputError) if command == "calibrate" else again is None
    assert (out / "healthy/sub-H001/anat/thesis.tex").read_text() == "Introduction"
    if command == "phantom":
        image = "healthy/sub-H001/anat/sub-H001_T2w.nii.gz"
        assert (out / image).read_bytes() != ours[image]


def test_an_output_of_another_kind_is_no_output(given: Given, tiny_run: Run) -> None:
    before = tree(tiny_run.folder)
    assert isinstance(do(FOLDERS["evaluate"](given, tiny_run.folder)), OutputError)
    assert isinstance(do(FOLDERS["calibrate"](given, tiny_run.folder / "figures")), OutputError)
    assert isinstance(do(["phantom", tiny_run.folder, *given.small]), OutputError)
    assert tree(tiny_run.folder) == before


@pytest.mark.parametrize(
    ("stage", "folder"), [("report", "figures"), ("calibrate", "bundle"), ("prepare", "slices/qc")]
)
def test_a_stage_leaves_what_others_put_in_its_folders(
    stage: str, folder: str, tiny_run: Run, tmp_path: Path
) -> None:
    shutil.copytree(tiny_run.folder, tmp_path / "run")
    run = Run.open(tmp_path / "run")
    write_text(run.folder / folder / "mine.txt", "mine")
    ours = tree(run.folder / folder)
    with pytest.raises(OutputError, match=r"mine\.txt"):
        run_stage(run, stage, force=True)
    assert tree(run.folder / folder) == ours


def test_a_run_does_not_write_over_the_manifest_it_reads(tiny_run: Run, tmp_path: Path) -> None:
    own = tmp_path / "manifest.tsv"
    shutil.copyfile(tiny_run.manifest, own)
    config = tiny_config(cohort__phantom=None, cohort__manifest=str(own))
    with pytest.raises(OutputError, match="expected another manifest than the run's own"):
        Run.create(config, tmp_path)
    assert own.read_bytes() == tiny_run.manifest.read_bytes()


def test_two_processes_do_not_write_at_once(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(place, "_WAIT_S", 0.1)
    run = Run.create(tiny_config(), tmp_path / "run")
    with run.alone(), pytest.raises(StageError, match="found another twinvae at work"):
        run_stages(run)
    out = tmp_path / "out"
    outputs.claim(out, "detections")
    with outputs.locked(out):
        error = do(["detect", given.bundle, given.scan, "-o", out])
    assert isinstance(error, StageError)
    assert not (out / "summary.tsv").exists()


@pytest.mark.parametrize("below", ["", "slices", "cohort/healthy/sub-1/anat"])
def test_leftovers_of_a_killed_writer_are_cleared_away(below: str, tmp_path: Path) -> None:
    outputs.claim(tmp_path / "run", "run")
    host = os.uname().nodename
    folder = tmp_path / "run" / below
    gone = folder / f".twinvae-new-{host}-999999999~abc"
    alive = folder / f".twinvae-new-{host}-{os.getpid()}~abc"
    elsewhere = folder / ".twinvae-new-elsewhere-999999999~abc"
    for room in (gone, alive, elsewhere):
        write_text(room / "half.npy", "")
    outputs.claim(tmp_path / "run", "run")
    assert [room.exists() for room in (gone, alive, elsewhere)] == [False, True, True]


def test_a_file_never_takes_the_place_of_a_folder(tmp_path: Path) -> None:
    write_text(tmp_path / "here/thesis.tex", "Introduction")
    with pytest.raises(IsADirectoryError), atomic_path(tmp_path / "here") as temporary:
        temporary.write_text("")
    with pytest.raises(RuntimeError), new_folder(tmp_path / "here"):
        raise RuntimeError
    assert tree(tmp_path) == {"here": None, "here/thesis.tex": b"Introduction"}


def test_tensors_that_do_not_fit_on_the_disk_are_said_like_any_file(tmp_path: Path) -> None:
    """Writers written in other languages have errors of their own, which `main` does not know."""
    model = build_model(tiny_config().models.healthy, seed=0)
    few, most = resource.getrlimit(resource.RLIMIT_FSIZE)
    writes: list[Callable[[], None]] = [
        lambda: save_model(model, tmp_path),
        lambda: save_checkpoint(tmp_path, model, {}, Checkpoint(1, "f")),
        lambda: write_fitted(tmp_path / "f.safetensors", {"fit": {"a": torch.zeros(5000)}}),
    ]
    for write in writes:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, most))
        try:
            with pytest.raises(OSError, match="File too large"):
                write()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (few, most))
    assert not list(tmp_path.glob("*.safetensors"))


def test_arrays_have_their_room_on_the_disk_before_they_are_filled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sparse file that meets a full disk ends the process with SIGBUS."""
    array = new_array(tmp_path / "a.npy", np.float32, (100, 64, 64))
    status = (tmp_path / "a.npy").stat()
    assert status.st_blocks * 512 >= status.st_size == array.nbytes + 128
    assert not np.load(tmp_path / "a.npy").any()

    def full(*_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left"):
        new_array(tmp_path / "b.npy", np.uint8, (2, 3))


def test_every_array_that_is_filled_in_place_is_made_in_one_place() -> None:
    package = Path(outputs.__file__).parent
    using = [p.name for p in package.rglob("*.py") if "open_memmap(" in p.read_text()]
    assert using == ["store.py"]


def test_a_full_disk_costs_nothing_and_is_said_in_one_line(
    given: Given, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert do(FOLDERS["evaluate"](given, out)) is None
    before = tree(out)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    words = FOLDERS["evaluate"](given, out)
    monkeypatch.setattr("sys.argv", ["twinvae", *map(str, words)])
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert ended.value.code == 1
    said = "".join(capfd.readouterr())
    assert "No space left on device" in said
    assert "Traceback" not in said
    assert tree(out) == before
