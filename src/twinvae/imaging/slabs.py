"""Slabs: a slice between two neighbours of the same scan, for networks that see three at once.

Neighbours are a share of the brain's height away and interpolated between the two slices nearest,
so that neither the slices' spacing nor a header that is wrong about it matters.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.vocabulary import FULL_SCALE, SCAN_KEY

REACH = 0.03
"""How far below and above the neighbours lie, as a share of the brain's height: about 4 mm."""
SLAB = 3
"""Slices of a slab: the one below, the slice itself, the one above."""


@dataclass(frozen=True)
class Slabs:
    """For each of n slices, which slices its two neighbours are made of."""

    rows: NDArray[np.int64]
    """(n, 2, 2): below and above; the two slices around that place. At a scan's end both are the
    last slice."""
    share: NDArray[np.float32]
    """(n, 2): of the second of the two."""

    @classmethod
    def of_index(cls, index: pd.DataFrame) -> Self:
        """Of an index of slices, one row each, columns as in slices/index.tsv."""
        rows = np.empty((len(index), 2, 2), np.int64)
        share = np.empty((len(index), 2), np.float32)
        position = index["position"].to_numpy(np.float64)
        for scan in index.groupby([*SCAN_KEY, "role"], dropna=False).indices.values():
            mine = np.asarray(scan, np.int64)
            mine = mine[np.argsort(position[mine], kind="stable")]
            for side, away in enumerate((-REACH, REACH)):
                at = np.interp(position[mine] + away, position[mine], np.arange(len(mine)))
                low = np.floor(at).astype(np.int64)
                rows[mine, side, 0] = mine[low]
                rows[mine, side, 1] = mine[np.minimum(low + 1, len(mine) - 1)]
                share[mine, side] = at - low
        return cls(rows, share)

    def cut(self, images: NDArray[np.uint16], rows: NDArray[np.integer]) -> NDArray[np.float32]:
        """The slabs around the slices ``rows`` of ``images`` (n, H, W): (len(rows), 3, H, W).

        Stored intensities become float32 in [0, 1].
        """
        slab = np.empty((len(rows), SLAB, *images.shape[1:]), np.float32)
        slab[:, 1] = images[rows]
        for side, place in enumerate((0, 2)):
            first, second = (images[self.rows[rows, side, k]].astype(np.float32) for k in (0, 1))
            slab[:, place] = first + self.share[rows, side, None, None] * (second - first)
        slab /= np.float32(FULL_SCALE)
        return slab
