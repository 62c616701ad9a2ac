"""What may be written and removed: only what twinvae itself wrote. One place decides for all.

Every folder that twinvae makes carries a marker that says what kind of output it is. A folder that
fills over time (a run, the results of many scans) is claimed once: it must then be new, empty, or
claimed before as the same kind. A folder that is made in one go (a bundle, a scan's results) is
replaced as a whole, and its marker lists the files: it may be replaced only if nothing else lies in
it. Results that lie among others' in a tree (BIDS) are listed by a marker in a folder of their own.
An output never lies within an input.
"""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from twinvae.errors import OutputError, StageError, some_of
from twinvae.files import TEMPORARY, new_folder, read_json, temporary_folder, write_json

MARKER = ".twinvae.json"
LOCK = ".twinvae.lock"
_NOBODYS = frozenset({MARKER, LOCK, ".DS_Store", "Thumbs.db", "desktop.ini"})
"""Names that say nothing about whose a folder is; file browsers write some of them unasked."""

Kind = Literal[
    "run", "cross-validation", "study", "generated cohort", "evaluation", "detections",
    "results of a scan", "bundle", "fusion", "figures", "maps", "contact sheets",
    "BIDS derivatives", "tables of a data set", "training log",
]  # fmt: skip

Alone = Callable[[], AbstractContextManager[None]]
"""Keeps other processes away while it is entered."""


def claim(folder: Path, kind: Kind, inputs: Iterable[Path] = ()) -> None:
    """Make ``folder`` one that twinvae fills, or find that it is one of the same ``kind``.

    Raises ``OutputError`` when it holds anything and was not claimed as ``kind``, or lies within
    one of ``inputs``; nothing is touched then. Leftovers of writers that were killed are removed.
    """
    check_claimable(folder, kind, inputs)
    if kind_of(folder) is None:
        write_json(folder / MARKER, {"made_by": "twinvae", "kind": kind})
    for where, names, _ in os.walk(folder):  # others' folders may go meanwhile: that is no error
        for left in [Path(where, name) for name in names if name.startswith(TEMPORARY)]:
            if _abandoned(left):
                shutil.rmtree(left, ignore_errors=True)


def check_claimable(folder: Path, kind: Kind, inputs: Iterable[Path] = ()) -> None:
    """Raise ``OutputError`` as ``claim`` does; nothing is touched."""
    _keep_apart(folder, inputs)
    entries = _entries(folder)  # before the marker: another process may be claiming it, too
    found = kind_of(folder)
    if found is None:
        _refuse(folder, kind, entries)
    elif found != kind:
        raise OutputError(f"{folder}: expected a new folder or a {kind}, found a {found}")


def kind_of(folder: Path) -> str | None:
    """What twinvae made this folder as; None when it did not."""
    kind: str | None = _marker(folder).get("kind")
    return kind


@contextmanager
def locked(folder: Path, *, wait_s: float = 0.0) -> Iterator[None]:
    """Work in a claimed folder alone; ``StageError`` when another still does after ``wait_s``."""
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=wait_s)
    except Timeout:
        raise StageError(
            f"{folder}: expected to work here alone, found another twinvae at work; "
            f"wait for it, or choose another folder"
        ) from None
    try:
        yield
    finally:
        lock.release()


@contextmanager
def shared(folder: Path, kind: Kind, inputs: Iterable[Path] = ()) -> Iterator[None]:
    """Claim ``folder`` and work in it, as other processes may at the same time.

    Where nothing was written in a folder that was new it is removed, unless another still works
    there. What one may write alone is done within ``locked``.
    """
    check_claimable(folder, kind, inputs)
    new = not folder.exists()
    try:
        with temporary_folder(folder / "at work"):  # by which others know of this process
            claim(folder, kind, inputs)
            yield
    finally:
        if new:
            _give_up(folder)


def _give_up(folder: Path) -> None:
    """Remove ``folder`` unless something lies, or somebody works, in it."""
    if not folder.is_dir() or {path.name for path in folder.iterdir()} - _NOBODYS:
        return
    marker = _marker(folder)
    for name in _NOBODYS:
        (folder / name).unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:  # somebody has come, who found the marker there
        write_json(folder / MARKER, marker)


@contextmanager
def replaced(
    folder: Path, kind: Kind, *, of: str = "", inputs: Iterable[Path] = (),
    alone: Alone = nullcontext,
) -> Iterator[Path]:  # fmt: skip
    """Yield an empty folder that takes the place of ``folder`` when the block succeeds.

    ``of`` says what it was made from, such as a scan: results of something else are not replaced.
    ``alone``: what keeps others away who may write the same folder, while it takes its place.
    Raises ``OutputError`` as ``check_replaceable`` does, before and after the block.
    """
    with alone():
        check_replaceable(folder, kind, of=of, inputs=inputs)
    with ExitStack() as taking, new_folder(folder) as room:
        yield room
        taking.enter_context(alone())
        files = sorted(str(p.relative_to(room)) for p in room.rglob("*") if p.is_file())
        write_json(room / MARKER, {"made_by": "twinvae", "kind": kind, "of": of, "files": files})
        check_replaceable(folder, kind, of=of)


def check_replaceable(
    folder: Path, kind: Kind, *, of: str = "", inputs: Iterable[Path] = ()
) -> None:
    """Raise ``OutputError`` unless ``folder`` is new, empty, or wholly ours, ``kind`` and ``of``.

    Nothing is touched.
    """
    _keep_apart(folder, inputs)
    marker = _marker(folder)
    if not marker:
        _refuse(folder, kind, _entries(folder))
        return
    _check_made_as(folder, marker, kind, of)
    _refuse(folder, kind, _foreign(folder, marker["files"]))


@contextmanager
def spread(
    home: Path, kind: Kind, where: Callable[[str], Path], *, of: str = "",
    alone: Alone = nullcontext,
) -> Iterator[Path]:  # fmt: skip
    """Yield an empty folder whose files take their own places when the block succeeds.

    For results that lie among others' in one tree. ``where``: a file's path in the yielded folder →
    its place. ``home``: the folder of their marker, on the same disk; files that go there vouch for
    the others: they are taken away first and put back last. What an earlier call wrote, and this
    one did not, is removed. ``alone``: what keeps others away who may write there, while they
    take their places. Raises ``OutputError`` as ``check_spread`` does.
    """
    with temporary_folder(home) as room:
        made = room / home.name
        made.mkdir()
        yield made
        files = sorted(path.relative_to(made) for path in made.rglob("*") if path.is_file())
        places = {made / path: where(path.as_posix()) for path in files}
        with alone():
            check_spread(home, kind, places.values(), of=of)
            _take_places(home, kind, of, places)


def _take_places(home: Path, kind: Kind, of: str, places: Mapping[Path, Path]) -> None:
    """Move files to their places, those in ``home`` last, and remove what was there before."""
    old = own_files(home)
    mark(home, kind, of, {*old, *places.values()})
    for path in old:
        if path.parent == home:
            path.unlink(missing_ok=True)
    for path in sorted(places, key=lambda each: places[each].parent == home):
        places[path].parent.mkdir(parents=True, exist_ok=True)
        os.replace(path, places[path])
    gone = set(old) - set(places.values())
    remove(Path(os.path.commonpath([home, *places.values()])), gone)
    mark(home, kind, of, places.values())


def check_spread(home: Path, kind: Kind, places: Iterable[Path], *, of: str = "") -> None:
    """Raise ``OutputError`` when something that the marker in ``home`` does not list lies in one of
    ``places``, or ``home`` holds the marker of another ``kind`` or of something else. Nothing is
    touched.
    """
    marker = _marker(home)
    if marker:
        _check_made_as(home, marker, kind, of)
    own = set(own_files(home))
    for path in places:
        if path not in own and (path.exists() or path.is_symlink()):
            raise OutputError(
                f"{path}: expected no such file, or one that twinvae wrote there as {kind}, found "
                f"another; nothing was changed, choose another folder or move it away"
            )


def mark(home: Path, kind: Kind, of: str, files: Iterable[Path]) -> None:
    """Say in the marker of ``home`` that ``files`` are ours."""
    home.mkdir(parents=True, exist_ok=True)
    names = sorted(os.path.relpath(path, home) for path in files)
    write_json(home / MARKER, {"made_by": "twinvae", "kind": kind, "of": of, "files": names})


def _check_made_as(folder: Path, marker: dict[str, Any], kind: Kind, of: str) -> None:
    if marker.get("kind") != kind or "files" not in marker:
        raise OutputError(f"{folder}: expected a new folder or a {kind}, found a {marker['kind']}")
    if marker.get("of", "") != of:
        raise OutputError(
            f"{folder}: expected a new folder or the {kind} {of}, found that of {marker['of']}; "
            f"choose another output"
        )


def own_files(folder: Path) -> list[Path]:
    """The files that ``replaced`` or ``spread`` wrote, in order; none when it is no such folder."""
    return [Path(os.path.normpath(folder / name)) for name in _marker(folder).get("files", [])]


def remove(folder: Path, files: Iterable[Path] | None = None) -> None:
    """Remove ``files``, by default ``own_files``, and the folders they leave empty.

    Whatever else lies in ``folder`` stays.
    """
    gone = list(own_files(folder) if files is None else files)
    for path in gone:
        path.unlink(missing_ok=True)
    emptied = {parent for path in gone for parent in path.parents if folder in parent.parents}
    for parent in sorted(emptied, key=lambda path: -len(path.parts)):
        if parent.is_dir() and not any(parent.iterdir()):
            parent.rmdir()
    if folder.is_dir() and not folder.is_symlink() and not _entries(folder):
        shutil.rmtree(folder)


def check_new_file(path: Path, inputs: Iterable[Path] = (), *, overwrite: bool = False) -> None:
    """Raise ``OutputError`` when the file ``path`` exists, unless ``overwrite``, or is an input."""
    for given in inputs:
        _keep_from(path, given)
    if path.is_dir():
        raise OutputError(f"{path}: expected the name of a file to write, found a folder")
    if path.exists() and not overwrite:
        raise OutputError(
            f"{path}: expected a new file, found one that is there; give another name, or "
            f"--overwrite to replace it"
        )


def _keep_apart(output: Path, inputs: Iterable[Path]) -> None:
    """An output within an input would mix with what the user gave; derivatives/ is meant for it."""
    out = output.resolve()
    for given in inputs:
        _keep_from(output, given)
        source = given.resolve()
        if source in out.parents and out.relative_to(source).parts[0] != "derivatives":
            raise OutputError(
                f"{output}: expected a place outside the input {given}, or in its derivatives/"
            )


def _keep_from(output: Path, given: Path) -> None:
    if output.resolve() == given.resolve():
        raise OutputError(f"{output}: expected another place for the output than the input")


def _refuse(folder: Path, kind: Kind, foreign: list[str]) -> None:
    if not foreign:
        return
    raise OutputError(
        f"{folder}: expected a new or empty folder, or a {kind} with nothing of anybody else's, "
        f"found {some_of(foreign, 3)}, which twinvae did not write here; nothing was "
        f"changed, choose another folder or move it away"
    )


def _marker(folder: Path) -> dict[str, Any]:
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: expected a folder, found a file")
    path = folder / MARKER
    found = read_json(path) if path.is_file() else {}
    if found and not (isinstance(found, dict) and isinstance(found.get("kind"), str)):
        raise OutputError(f"{path}: expected twinvae's own marker, found something else")
    marker: dict[str, Any] = found
    return marker


def _entries(folder: Path) -> list[str]:
    """What lies in the folder, apart from nobody's and temporary files."""
    names = sorted(p.name for p in folder.iterdir()) if folder.is_dir() else []
    return [n for n in names if n not in _NOBODYS and not n.startswith(TEMPORARY)]


def _foreign(folder: Path, files: Iterable[str]) -> list[str]:
    """Files and empty folders below ``folder`` that are not among ``files``."""
    ours = {Path(name) for name in files}
    folders = {parent for name in ours for parent in name.parents}
    found = (path.relative_to(folder) for path in sorted(folder.rglob("*")))
    return [
        str(path)
        for path in found
        if path not in ours
        and path not in folders
        and path.name not in _NOBODYS
        and not any(part.startswith(TEMPORARY) for part in path.parts)
    ]


def _abandoned(room: Path) -> bool:
    """Whether the process that made this temporary folder, on this machine, is gone."""
    host, _, process = room.name.removeprefix(TEMPORARY).partition("~")[0].rpartition("-")
    if host != socket.gethostname() or not process.isdecimal():
        return False
    try:
        os.kill(int(process), 0)
    except OSError as error:  # one that may not be asked is alive
        return isinstance(error, ProcessLookupError)
    return False
