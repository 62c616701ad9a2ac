"""Does a mask lie where its scan says? What the voxels tell when the header is no witness.

Arrays are (X, Y, Z) in RAS+. A header of the wrong sign shows as a mask turned about the grid's
middle, so every such turn is tried. Heads are nearly their own mirror image: brain masks cannot
tell left from right, and a tumour mask only by how bright it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations

import numpy as np

from twinvae.errors import DataError
from twinvae.imaging.scan import Working
from twinvae.imaging.volume import Bools, Floats

_AXES = ("left and right", "front and back", "top and bottom")
_TURNS = tuple(axes for n in (1, 2, 3) for axes in combinations(range(3), n))
_BETTER = 0.05  # of the mask more inside, before a turn fits better than the mask as it is
_TUMOUR_INSIDE = 0.9  # of a tumour mask, at least, lies in the brain
_BRAIN_INSIDE = 0.8  # of a brain mask, at least, lies on the head: fluid and air cells are dark
_HEAD = 0.05  # of the scan's 99th percentile: what is brighter is no air
_PLAIN = 0.5  # robust deviations: a mask no brighter than this is of no bright tissue
_BRIGHTER = 1.0  # robust deviations that a turn must be brighter


def check_brain_place(scan: Working) -> None:
    """Raise ``DataError`` when the given brain mask of a trusted grid is not on the head.

    ``scan`` is as it was read, before the step brain_mask.
    """
    if scan.files.trust_grid and scan.given_brain is not None:
        bright = np.percentile(scan.image[scan.image != 0], 99)
        head: Bools = scan.image > _HEAD * bright
        _refuse(str(scan.files.brain_mask), scan.given_brain, head, "head", _BRAIN_INSIDE)


def check_tumour_place(scan: Working) -> None:
    """Raise ``DataError`` when the tumour mask of a trusted grid is not in the brain.

    ``scan`` is as the step brain_mask left it.
    """
    if scan.files.trust_grid and scan.tumour is not None and scan.tumour.any():
        _refuse(str(scan.files.tumour_mask), scan.tumour, scan.brain, "brain", _TUMOUR_INSIDE)


def brighter_turn(mask: Bools, brain: Bools, image: Floats) -> str:
    """In words, how the mask would lie on brighter tissue if turned; empty where it would not.

    Asked only of a mask that is like the rest of the brain: T2w and FLAIR show tumours bright, and
    one that is darker than the brain is seen in another way (T1w). Brightness is the median's
    distance from the brain's in robust standard deviations. A small mask may be turned onto a
    ventricle by chance, so that this is a reason to look, not to refuse.
    """
    inside = image[brain]
    middle = float(np.median(inside)) if inside.size else 0.0
    spread = 1.4826 * float(np.median(np.abs(inside - middle))) if inside.size else 0.0
    own = _brightness(mask & brain, image, middle, spread)
    if spread == 0 or own is None or abs(own) > _PLAIN:
        return ""
    best, named = own + _BRIGHTER, ""
    for name, turned in _turned(mask):
        bright = _brightness(turned & brain, image, middle, spread)
        # A turn that leaves the brain says nothing, however bright the rest of it is.
        lost = np.count_nonzero(turned & ~brain) > (1 - _TUMOUR_INSIDE) * np.count_nonzero(turned)
        if bright is not None and bright >= best and not lost:
            best = bright
            named = (
                f"as bright as the brain ({own:+.1f} robust SD), but with {name} exchanged it "
                f"would be bright ({bright:+.1f})"
            )
    return named


def _refuse(file: str, mask: Bools, within: Bools, what: str, least: float) -> None:
    own = _share(mask, within)
    name, best = max(
        ((name, _share(turned, within)) for name, turned in _turned(mask)), key=lambda one: one[1]
    )
    if own >= least and best <= own + _BETTER:
        return
    hint = f"; with {name} exchanged {best:.0%} would" if best > own + _BETTER else ""
    raise DataError(
        f"{file}: expected a mask that lies in the {what}, found {own:.0%} of it there{hint}: its "
        f"grid is not the scan's, though --trust-grid or the column trust_grid says so"
    )


def _share(mask: Bools, within: Bools) -> float:
    return float(np.count_nonzero(mask & within) / np.count_nonzero(mask))


def _brightness(mask: Bools, image: Floats, middle: float, spread: float) -> float | None:
    if spread == 0 or not mask.any():
        return None
    return (float(np.median(image[mask])) - middle) / spread


def _turned(mask: Bools) -> Iterator[tuple[str, Bools]]:
    """Every turn of the mask about the grid's middle, with its name."""
    for axes in _TURNS:
        yield ", ".join(_AXES[axis] for axis in axes), np.flip(mask, axes)
