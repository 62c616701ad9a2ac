"""Headers with faults: a clear refusal, or the volume that the header, as it now is, describes."""

from __future__ import annotations

import gzip
import os
import pickle
import resource
import shutil
import signal
import struct
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pydicom
import SimpleITK as sitk  # noqa: N813
from oracles import told_otherwise
from room import Room, Tally, counted, twinvae

from dicom_files import classic
from twinvae.errors import TwinvaeError
from twinvae.imaging import read_volume
from twinvae.progress import progress_bar

MUTANTS = 10_000
BY_COMMAND = 300  # of them, through `twinvae check` and `twinvae index`
_SHAPE = (5, 6, 7)
_ROOM = 2**20  # voxels; the files hold no more
_LIMIT_S = 20
_MEMORY = 3 * 2**30  # bytes of address space beyond what the reader starts with
_WORDS = (
    *(b"0", b"-1", b"1", b"3", b"32768", b"99999999999", b"1e30", b"nan", b"inf", b"", b"True"),
    *(b"False", b"MET_DOUBLE", b"MET_CHAR_ARRAY", b"../x", b"\xff\xfe", b"1 2 3 4", b"0.001"),
)


class Originals:
    """Good files of each format."""

    def __init__(self, folder: Path) -> None:
        rng = np.random.default_rng(0)
        data = rng.integers(1, 900, _SHAPE).astype(np.int16)
        tilted = np.array([[-2, 0.1, 0, 5], [0.1, 2, 0.2, -7], [0, -0.2, 3, 9], [0, 0, 0, 1.0]])
        folder.mkdir()
        self.files: dict[str, bytes] = {}
        for kind, image in (("1", nib.Nifti1Image), ("2", nib.Nifti2Image)):
            made = image(data, tilted)
            made.set_qform(tilted, 1, strip_shears=True)
            nib.save(made, folder / f"good{kind}.nii")
            self.files[f"nifti{kind}"] = (folder / f"good{kind}.nii").read_bytes()
        image = sitk.GetImageFromArray(data.T)
        image.SetSpacing((1.5, 2.0, 3.0))
        image.SetOrigin((4.0, -5.0, 6.0))
        for packed in (False, True):
            sitk.WriteImage(image, str(folder / "good.mha"), useCompression=packed)
            self.files[f"mha{packed:d}"] = (folder / "good.mha").read_bytes()
        self.series = folder / "series"
        slopes = [(2.0, 5.0 + k) for k in range(_SHAPE[2])]
        classic(self.series, data, np.diag([-1.5, -2.0, 3.0, 1.0]), slopes=slopes)
        self.slices = {p.name: p.read_bytes() for p in sorted(self.series.iterdir())}
        self.affine = read_volume(self.series).affine
        self.data = data


def mutant(made: Originals, folder: Path, seed: int, number: int) -> tuple[Path, str]:
    """Write mutant ``number`` below ``folder``; its path, and what kind it is."""
    rng = np.random.default_rng((seed, number))
    kind = ("nifti", "nifti.gz", "mha", "dicom")[number % 4]
    if kind.startswith("nifti"):
        which = "nifti2" if rng.random() < 0.2 else "nifti1"
        raw = bytearray(made.files[which])
        (_fields if rng.random() < 0.5 else _bytes)(raw, 540 if which == "nifti2" else 352, rng)
        path = folder / ("fuzz.nii.gz" if kind == "nifti.gz" else "fuzz.nii")
        packed = bytes(raw)
        if kind == "nifti.gz":
            packed = gzip.compress(packed, 1, mtime=0)
            if rng.random() < 0.3:
                broken = bytearray(packed)
                _bytes(broken, len(broken), rng)
                packed = bytes(broken)
        path.write_bytes(packed)
        return path, kind
    if kind == "mha":
        raw = bytearray(made.files[f"mha{rng.integers(2)}"])
        end = raw.index(b"LOCAL") + 6
        if rng.random() < 0.5:
            raw[:end] = _lines(bytes(raw[:end]), rng)
        else:
            _bytes(raw, end, rng)
        (folder / "fuzz.mha").write_bytes(bytes(raw))
        return folder / "fuzz.mha", kind
    return _dicom(made, folder / "series", rng), kind


def _bytes(raw: bytearray, end: int, rng: np.random.Generator) -> None:
    """Change, flip, insert or cut bytes before ``end``."""
    for _ in range(int(rng.integers(1, 5))):
        place = int(rng.integers(min(end, len(raw))))
        act = int(rng.integers(10))
        if act < 5:
            raw[place] = int(rng.integers(256))
        elif act < 8:
            raw[place] ^= 1 << int(rng.integers(8))
        elif act == 8:
            raw[place:place] = rng.bytes(int(rng.integers(1, 4)))
        elif len(raw) > 1 and rng.random() < 0.3:
            del raw[place + 1 :]
        else:
            del raw[place : place + int(rng.integers(1, 4))]
        if not raw:
            raw.extend(b"\0")


def _fields(raw: bytearray, end: int, rng: np.random.Generator) -> None:
    """Set whole numbers and fractions of a NIfTI header to extremes."""
    for _ in range(int(rng.integers(1, 4))):
        form = str(rng.choice(["<h", "<i", "<f", "<d", "<q"]))
        place = int(rng.integers(0, end - struct.calcsize(form))) // 2 * 2
        if form in ("<f", "<d"):
            value: Any = float(rng.choice([0, -1, 1, np.nan, np.inf, -np.inf, 1e30, 1e-30, 2**31]))
        else:
            most = 2 ** (8 * struct.calcsize(form) - 1) - 1
            value = [0, 1, -1, 2, 3, 4, 5, 7, 8, most, -most - 1][int(rng.integers(11))]
        struct.pack_into(form, raw, place, value)


def _lines(head: bytes, rng: np.random.Generator) -> bytes:
    """Take away, double, swap lines of a MetaImage header, or put other words in."""
    lines = head.split(b"\n")[:-1]
    for _ in range(int(rng.integers(1, 3))):
        at = int(rng.integers(len(lines)))
        act = int(rng.integers(6))
        if act == 0 and len(lines) > 1:
            del lines[at]
        elif act == 1:
            lines.insert(at, lines[at])
        elif act == 2:
            other = int(rng.integers(len(lines)))
            lines[at], lines[other] = lines[other], lines[at]
        else:
            words = lines[at].split(b" ")
            words[int(rng.integers(len(words)))] = _WORDS[int(rng.integers(len(_WORDS)))]
            lines[at] = b" ".join(words)
    return b"\n".join(lines) + b"\n"


def _dicom(made: Originals, folder: Path, rng: np.random.Generator) -> Path:
    """A series with faults in the header of one slice, or the same fault in all."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    every, seed = rng.random() < 0.3, int(rng.integers(2**31))
    one = sorted(made.slices)[int(rng.integers(len(made.slices)))]
    elements = rng.random() < 0.5
    for name, good in made.slices.items():
        raw = bytearray(good)
        if every or name == one:
            same = np.random.default_rng(seed)
            if elements:
                raw = bytearray(_element(bytes(raw), same))
            else:
                head = good.index(b"\xe0\x7f\x10\x00")
                _bytes(raw, head, same)
        (folder / name).write_bytes(bytes(raw))
    return folder


_VALUES = {
    "U": [b"\0\0", b"\1\0", b"\xff\xff", b"", b"\0", b"\0\0\0\0", b"\7\0\7\0"],
    "D": [b"0 ", b"-1", b"nan ", b"inf ", b"1e30", b"1e-30 ", b"", b"x ", b"1\\2\\3\\4 ", b"\\\\"],
}


def _element(raw: bytes, rng: np.random.Generator) -> bytes:
    """Replace the value of one element of a file in explicit little endian, its length too."""
    ds = pydicom.dcmread(_stream(raw))
    tags = [e.tag for e in ds if e.keyword != "PixelData"]
    tag = tags[int(rng.integers(len(tags)))]
    start = raw.index(struct.pack("<HH", tag.group, tag.element), 132)
    vr = raw[start + 4 : start + 6]
    length = struct.unpack("<H", raw[start + 6 : start + 8])[0]
    kind = "U" if vr in (b"US", b"SS") else "D"
    value = _VALUES[kind][int(rng.integers(len(_VALUES[kind])))]
    claimed = len(value) if rng.random() < 0.8 else int(rng.integers(65536))
    if rng.random() < 0.1:
        vr = bytes(rng.choice(np.frombuffer(b"ABCDFILOQSTUW", np.uint8), 2))
    rest = raw[start + 8 + length :]
    if rng.random() < 0.15:
        return raw[:start] + rest
    return raw[: start + 4] + vr + struct.pack("<H", claimed) + value + rest


def _stream(raw: bytes) -> Any:
    from io import BytesIO

    return BytesIO(raw)


def headers(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """Read each mutant in a child that may crash; then a share of them by the commands."""
    made = Originals(room.new("good"))
    seed = int(rng.integers(2**31))
    seen: list[str] = []
    with progress_bar("headers", MUTANTS) as bar:

        def count(number: int, kind: str, outcome: str, what: str) -> None:
            seen.append(f"{kind} {'read' if outcome == 'read' else 'refused'}")
            good = outcome in ("read", "refused")
            tally.add("survived" if good else outcome, f"mutant {number} ({kind}): {what}")
            bar.advance()

        start = 0
        while start < MUTANTS:
            start = _in_a_child(room, made, seed, start, count)
    tally.notes.append(counted(seen))
    _by_commands(room, made, seed, tally)


def _in_a_child(
    room: Room, made: Originals, seed: int, start: int, count: Callable[[int, str, str, str], None]
) -> int:
    """Read mutants from ``start`` on until all are or the child dies; where to go on."""
    receive, send = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(receive)
        _read_all(room.new("fuzz"), made, seed, start, send)
    os.close(send)
    at = start
    with os.fdopen(receive, "rb") as pipe:
        while True:
            try:
                number, *found = pickle.load(pipe)
            except (EOFError, pickle.UnpicklingError):
                break
            at = number + 1
            count(number, *found)
    status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if at < MUTANTS:
        what = f"the reader ended with {status}" + (", too slow" if status == -14 else "")
        kind = ("nifti", "nifti.gz", "mha", "dicom")[at % 4]
        count(at, kind, "traceback", what)
        shutil.copytree(room.folder / "fuzz", room.new(f"crash{at}"), dirs_exist_ok=True)
        return at + 1
    return at


def _read_all(folder: Path, made: Originals, seed: int, start: int, send: int) -> None:
    """The child: never returns. An alarm that is not handled ends it."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + _MEMORY, resource.RLIM_INFINITY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    folder.mkdir()
    with os.fdopen(send, "wb") as pipe:
        for number in range(start, MUTANTS):
            path, kind = mutant(made, folder, seed, number)
            signal.alarm(_LIMIT_S)
            outcome, what = _outcome(path, kind, made)
            signal.alarm(0)
            pickle.dump((number, kind, outcome, what), pipe)
            pipe.flush()
    os._exit(0)


def _outcome(path: Path, kind: str, made: Originals) -> tuple[str, str]:
    """`read`, `refused`, or a fault and what it is."""
    started = time.monotonic()
    try:
        volume = read_volume(path)
    except TwinvaeError as error:
        spent = time.monotonic() - started
        if path.name not in str(error) and "series" not in str(error):
            return "traceback", f"does not name the file: {error}"
        return ("traceback", f"{spent:.0f} s: {error}") if spent > 5 else ("refused", "")
    except Exception as error:
        return "traceback", f"{type(error).__name__}: {error}"
    if volume.data.ndim != 3 or volume.data.size > _ROOM:
        return "wrong", f"shape {volume.data.shape}"
    if not (np.isfinite(volume.data).all() and np.isfinite(volume.affine).all()):
        return "wrong", "not finite"
    if kind == "dicom":
        return _like_the_others(path, volume, made)
    try:
        apart = told_otherwise(path, kind, volume)
    except Exception as error:
        return "wrong", f"read, though the oracle cannot: {type(error).__name__}: {error}"
    return ("wrong", apart) if apart else ("read", "")


def _like_the_others(folder: Path, volume: Any, made: Originals) -> tuple[str, str]:
    """One slice that has other words for its place never bends the volume."""
    changed = [n for n, good in made.slices.items() if (folder / n).read_bytes() != good]
    if len(changed) > 1:
        return "read", ""
    if volume.data.shape != _SHAPE:
        return "wrong", f"shape {volume.data.shape} after a fault in {changed}"
    if not np.allclose(volume.affine, made.affine, atol=0.2):
        return "wrong", f"affine {volume.affine.tolist()} after a fault in {changed}"
    return "read", ""


def _by_commands(room: Room, made: Originals, seed: int, tally: Tally) -> None:
    """Many mutants in one folder: what can be read is listed, what cannot is named."""
    folder = room.new("many")
    for number in range(MUTANTS, MUTANTS + BY_COMMAND):
        path, kind = mutant(made, room.folder / "fuzz", seed, number)
        where = folder / kind / f"p{number}"
        if path.is_dir():
            shutil.copytree(path, where)
        else:
            where.mkdir(parents=True)
            shutil.copyfile(path, where / path.name.replace("fuzz", f"p{number}"))
    for kind in sorted(p.name for p in folder.iterdir()):
        files = sorted((folder / kind).glob("*/*"))
        table = folder / f"{kind}.tsv"
        places = sorted((folder / kind).iterdir()) if kind == "dicom" else files
        rows = [f"s{i}\t{path}" for i, path in enumerate(places)]
        table.write_text("\n".join(["subject\timage", *rows]) + "\n")
        manifest = folder / f"{kind}.manifest.tsv"
        share = len(places)
        for words in (
            ["index", table, "--role", "healthy", "-o", manifest],
            ["check", manifest, "--jobs", "1"],
            *([["index", folder / kind, "--role", "healthy", "--layout", "dicom", "-o",
                folder / "series.tsv"]] if kind == "dicom" else []),
        ):  # fmt: skip
            ended = twinvae(words, room.log)
            missing = words[0] == "check" and not manifest.is_file()
            for _ in range(share):
                tally.add("survived", "")
            if not ended.is_clear or missing:
                tally.survived -= 1
                tally.faults.append(("traceback", f"{kind}: {ended.end}"))
                print(f"  traceback: {kind}: {ended.end}", flush=True)
