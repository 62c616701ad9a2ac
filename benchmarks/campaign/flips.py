"""Bits that flip in stored files, of a finished run and of a bundle."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from room import Ended, Room, Tally, content, copy, counted, differing, twinvae

from twinvae.outputs import MARKER
from twinvae.progress import progress_bar
from twinvae.runs.folder import STAGES, Run

_LARGE = 20_000  # bytes; files above get three flips, others one
_SCANS = 3  # of the generated scans: each flip that is noticed costs a whole run
_MENDED = 6  # refusals after which the run is mended as its message says


def flip(path: Path, rng: np.random.Generator, *, keep_time: bool) -> str:
    """One random bit of the file; the time of its last change stays, or becomes now."""
    status = path.stat()
    raw = bytearray(path.read_bytes())
    place, bit = int(rng.integers(len(raw))), int(rng.integers(8))
    raw[place] ^= 1 << bit
    path.write_bytes(bytes(raw))
    if keep_time:
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    return f"bit {bit} of byte {place}, {'old' if keep_time else 'new'} time"


def writer_of(name: str) -> str | None:
    """The stage that writes a file of a run; None for what no stage does."""
    first = name.split("/", maxsplit=1)[0]
    found = {
        "cohort": "index", "manifest.tsv": "index", "slices": "prepare", "models": "train",
        "scores.tsv": "score", "fitted.safetensors": "score", "maps": "score",
        "calibration.json": "calibrate", "bundle": "calibrate", "metrics.tsv": "evaluate",
        "audit.json": "evaluate", "report.html": "report", "figures": "report",
    }  # fmt: skip
    if first == "stages":
        return Path(name).stem
    return found.get(first)


def run_flips(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """Flip, then run again: once as it is, once with all later stages to be done anew."""
    done: list[str] = []
    mended = 0
    todo = _flips(room, rng)
    with progress_bar("bit flips in a run", len(todo)) as bar:
        for name, keep_time, later in todo:
            folder = copy(room.reference, room.new("flipped"))
            if later:
                _forget_after(folder, writer_of(name) or "index")
            how = flip(folder / name, rng, keep_time=keep_time)
            damaged = content(folder).get(name)
            ended = twinvae(["run", room.config, "-o", folder], room.log)
            kind, what = _judged(room, folder, name, damaged, ended)
            where = f"{name} ({how}, {'later stages anew' if later else 'run again'})"
            tally.add(*_counted(kind, f"{where}: {what}"))
            done.append(kind)
            told = kind == "refused" and "delete it and run again" in ended.said
            if told and mended < _MENDED and not later:
                _mend(room, folder, name, tally)
                mended += 1
            bar.advance()
    tally.notes.append(counted(done))


def _flips(room: Room, rng: np.random.Generator) -> list[tuple[str, bool, bool]]:
    """(file, whether its time is kept, whether later stages are done anew)."""
    names = [n for n in room.wanted if (room.reference / n).stat().st_size]
    scans = [n for n in names if n.startswith("cohort/")]
    picked = set(rng.choice(scans, min(_SCANS, len(scans)), replace=False).tolist())
    found = []
    for name in names:
        dear = name in scans and name not in picked
        times = 3 if (room.reference / name).stat().st_size > _LARGE and name not in scans else 1
        for _ in range(times):
            found.append((name, True, False))
            if not dear:
                found.append((name, False, False))
        if not dear and writer_of(name) not in (None, STAGES[-1]):
            found.append((name, bool(rng.integers(2)), True))
    return found


def _forget_after(folder: Path, stage: str) -> None:
    """Take away what later stages wrote, as if they had never been done."""
    run = Run.open(folder)
    for later in STAGES[STAGES.index(stage) + 1 :]:
        for name in run._written(later):
            (folder / name).unlink(missing_ok=True)
        (folder / "stages" / f"{later}.json").unlink(missing_ok=True)


def _judged(
    room: Room, folder: Path, name: str, damaged: str | None, ended: Ended
) -> tuple[str, str]:
    """`refused`, `redone`, `no matter`, `unseen`, or a fault."""
    if not ended.is_clear:
        return "traceback", ended.end
    if ended.code:
        words = (name, Path(name).name, *_folders(name))
        named = any(word in ended.said for word in words)
        return ("refused", "") if named else ("traceback", f"does not name it: {ended.end}")
    found = content(folder)
    apart = differing(room.wanted, found)
    if not apart:
        return "redone", ""
    if apart == [name] and found[name] == damaged:
        # Nothing was computed from it, but there it lies, and the run said that all is well.
        idle = name.startswith("cohort/") or Path(name).name == MARKER
        return ("no matter", "") if idle else ("unseen", "the damaged file stays, not a word")
    return "wrong", f"differ: {apart[:6]}"


def _folders(name: str) -> list[str]:
    return [Path(name).parent.name] if name.startswith("cohort/") else []


def _counted(kind: str, what: str) -> tuple[str, str]:
    if kind in ("refused", "redone", "no matter"):
        return "survived", ""
    return ("wrong" if kind == "unseen" else kind), what


def _mend(room: Room, folder: Path, name: str, tally: Tally) -> None:
    """What the message says: delete the file and run again."""
    (folder / name).unlink()
    ended = twinvae(["run", room.config, "-o", folder], room.log)
    apart = differing(room.wanted, content(folder))
    if ended.code or apart:
        tally.faults.append(("lost", f"{name} deleted as told: {apart[:6]} {ended.end}"))


def bundle_flips(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """Flip a bit of a bundle, then detect: a clear error, or the very results."""
    words = ["--force", "-o"]
    whole = room.new("found")
    first = twinvae(["detect", room.reference / "bundle", room.scan, *words, whole], room.log)
    assert first.code == 0, first.end
    wanted, done = content(whole), []
    names = sorted(
        str(p.relative_to(room.reference / "bundle"))
        for p in (room.reference / "bundle").rglob("*") if p.is_file()
    )  # fmt: skip
    todo = [(name, keep) for name in names for keep in (True, False) for _ in range(6)]
    with progress_bar("bit flips in a bundle", len(todo)) as bar:
        for name, keep_time in todo:
            bundle = copy(room.reference / "bundle", room.new("bundle"))
            how = flip(bundle / name, rng, keep_time=keep_time)
            out = room.new("found")
            ended = twinvae(["detect", bundle, room.scan, *words, out], room.log)
            if not ended.is_clear:
                kind = "traceback"
            elif ended.code:
                kind = "refused" if name in ended.said else "traceback"
            else:
                kind = "wrong" if differing(wanted, content(out)) else "no matter"
            tally.add(*_counted(kind, f"{name} ({how}): {ended.end}"))
            done.append(kind)
            bar.advance()
    tally.notes.append(counted(done))
