"""GDCM in a process of its own: on damaged JPEG it may abort or never return, and only it does.

One child serves all files: it reads a DICOM file's path from its input, writes the pixels beside it
as .npy, and answers `ok` or what SimpleITK said. It ends when its input does.
"""

from __future__ import annotations

import importlib
import select
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

_PATIENCE_S = 60.0  # SimpleITK's import and the largest file that was tried take 3
_lock = threading.Lock()
_children: list[subprocess.Popen[str]] = []


def decode_file(path: Path) -> NDArray[Any]:
    """The pixels of a DICOM file; ``RuntimeError`` when GDCM fails, aborts or takes too long."""
    with _lock:
        child = _child()
        assert child.stdin is not None
        assert child.stdout is not None
        try:
            child.stdin.write(f"{path}\n")
            child.stdin.flush()
            ready = select.select([child.stdout], [], [], _PATIENCE_S)[0]
            answer = child.stdout.readline().strip() if ready else f"no end in {_PATIENCE_S:g} s"
        except BrokenPipeError:
            answer = ""
        if answer == "ok":
            return np.asarray(np.load(path.with_suffix(".npy"), allow_pickle=False))
        if not answer.startswith("error"):
            child.kill()
            child.wait()
            _children.clear()
        raise RuntimeError(f"GDCM: {answer or 'it broke down'}")


def _child() -> subprocess.Popen[str]:
    if not _children or _children[0].poll() is not None:
        _children[:] = [
            subprocess.Popen(
                [sys.executable, "-m", "twinvae.dicom.gdcm"],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
            )
        ]  # fmt: skip
    return _children[0]


def _serve() -> None:
    sitk: Any = importlib.import_module("SimpleITK")
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    for line in sys.stdin:
        path = Path(line.rstrip("\n"))
        reader = sitk.ImageFileReader()
        reader.SetImageIO("GDCMImageIO")
        reader.SetFileName(str(path))
        try:
            pixels = sitk.GetArrayFromImage(reader.Execute())
            np.save(path.with_suffix(".npy"), pixels)
            print("ok", flush=True)
        except RuntimeError as error:
            print("error", " ".join(str(error).split())[-200:], flush=True)


if __name__ == "__main__":
    _serve()
