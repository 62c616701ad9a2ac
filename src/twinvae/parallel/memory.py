"""Memory that was freed stays with the process, for the next array of its size."""

from __future__ import annotations

import ctypes

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
_SIZES = (2**30, 2**25)  # bytes; glibc before 2.34 takes at most 32 MiB


def keep_freed_memory() -> bool:
    """Have malloc keep what is freed, arrays of up to a GiB, and say whether it will.

    glibc hands large arrays back to the system at once and asks for them anew, page by page and
    zeroed: a sixth of a network's pass on a CPU goes into that. The price is memory: `detect` holds
    up to 1.4 GB with a BraTS scan. Elsewhere (macOS, Windows, musl) nothing is changed.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        return False
    taken = any(mallopt(_MMAP_THRESHOLD, size) for size in _SIZES)
    return taken and bool(mallopt(_TRIM_THRESHOLD, _SIZES[0]))
