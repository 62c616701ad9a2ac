"""Atomic writes: a reader, or a run that resumes, sees the old file or the new one, never half."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from twinvae.errors import DataError

if TYPE_CHECKING:  # importing pandas takes longer than most commands that need this module
    import pandas as pd

TEMPORARY = ".twinvae-new-"
"""How the names of temporary files and folders begin."""
_NUMBERS = re.compile(r"\[(?:\s+-?[0-9][-+.0-9eE]*,)*\s+-?[0-9][-+.0-9eE]*\s+\]")


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` (same name) for a file that replaces it on success.

    Nothing is left behind when the block raises. A folder is never replaced (``twinvae.outputs``
    does that): ``IsADirectoryError``.
    """
    with temporary_folder(path) as room:
        yield room / path.name
        _flush(room / path.name)
        os.replace(room / path.name, path)


def gzipped(data: bytes) -> bytes:
    """``data`` as a gzip file without a date; eight times faster than by zlib, and as small."""
    from isal import igzip  # here, since few commands write volumes

    packed: bytes = igzip.compress(data, 2, mtime=0)
    return packed


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield an empty temporary folder that takes the place of the folder ``path`` on success.

    Whoever calls it has made sure that what is there may go.
    """
    with temporary_folder(path) as room:
        folder = room / path.name
        folder.mkdir()
        yield folder
        old = room / "old"
        if path.is_symlink() or path.exists():
            os.rename(path, old)
        try:
            os.rename(folder, path)
        except OSError:
            if old.is_symlink() or old.exists():
                os.rename(old, path)
            raise


@contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """Yield a folder beside ``path``, removed afterwards; its name says which process made it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    prefix = f"{TEMPORARY}{socket.gethostname()}-{os.getpid()}~"
    room = Path(tempfile.mkdtemp(prefix=prefix, dir=path.parent))
    try:
        yield room
    finally:
        shutil.rmtree(room, ignore_errors=True)


def _flush(path: Path) -> None:
    """Have a file on the disk before its name is: a full disk or a crash then costs the new one."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def checksum(path: Path) -> str:
    """SHA-256 of a file's content, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_bytes(folder: Path) -> int:
    """Bytes of all files in ``folder``."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def file_and_volume(path: Path | str) -> tuple[Path, int | str | None]:
    """The file or folder that ``path`` means and, where ``#…`` follows it, the volume in there.

    `BRATS_001.nii.gz#3` is volume 3, counted from 0, of the 4-D file BRATS_001.nii.gz;
    `study#1.2.840.113619.2.5` is the series of that SeriesInstanceUID in the DICOM folder study.

    >>> file_and_volume("BRATS_001.nii.gz#3")[1], file_and_volume("sub#1_T2w.nii.gz")[1]
    (3, None)
    """
    numbered = re.fullmatch(r"(.*\.[A-Za-z]+)#(\d+)", str(path), re.DOTALL)
    if numbered:
        return Path(numbered[1]), int(numbered[2])
    series = re.fullmatch(r"(.*[^/])#(\d+(?:\.\d+)+)", str(path), re.DOTALL)
    return (Path(series[1]), series[2]) if series else (Path(path), None)


def file_state(path: Path) -> list[tuple[str, int, int]]:
    """Name, size and time of the file, or of every file of the folder, that ``path`` means.

    It is another one when what would be read there has changed; empty when nothing is there.
    """
    file, _ = file_and_volume(path)
    if not file.exists():
        return []
    below = sorted(p for p in file.rglob("*") if p.is_file()) if file.is_dir() else [file]
    states = [(str(p.relative_to(file)), p.stat()) for p in below]
    return [(name, status.st_size, status.st_mtime_ns) for name, status in states]


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 text atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_table(path: Path, table: pd.DataFrame, *, float_format: str | None = None) -> None:
    """Write a table atomically as tab-separated text; what is missing becomes an empty cell.

    Without a ``float_format`` floats are written so that they read back the same.
    """
    text = table.to_csv(sep="\t", index=False, lineterminator="\n", float_format=float_format)
    write_text(path, text)


def write_json(path: Path, value: Any) -> None:
    """Write JSON atomically, readable: keys in the order given, a list of numbers on one line."""
    write_text(path, json_text(value) + "\n")


def json_text(value: Any) -> str:
    """JSON as ``write_json`` writes it."""
    text = json.dumps(value, indent=2, allow_nan=False)
    return _NUMBERS.sub(lambda found: " ".join(found[0].split()), text)


def read_json(path: Path) -> Any:
    """Read JSON; raises ``DataError`` naming the file when it is missing or malformed."""
    try:
        return json.loads(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected JSON, found {error}") from None


def sealed(value: Mapping[str, Any]) -> dict[str, Any]:
    """``value`` with a seal: the digest of the rest, so that a file tells whether it was edited."""
    return {**value, "seal": digest(value)}


def unsealed(found: Mapping[str, Any]) -> dict[str, Any] | None:
    """What was sealed, without its seal; None when it is no longer that.

    >>> unsealed(sealed({"n": 1})), unsealed({**sealed({"n": 1}), "n": 2})
    ({'n': 1}, None)
    """
    value = {key: each for key, each in found.items() if key != "seal"}
    return value if found.get("seal") == digest(value) else None


def write_yaml(path: Path, value: Any) -> None:
    """Write YAML atomically, keys in the order given."""
    write_text(path, yaml.safe_dump(value, sort_keys=False, allow_unicode=True))


def digest(value: Any) -> str:
    """A short, stable fingerprint of any JSON-serialisable value."""
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
