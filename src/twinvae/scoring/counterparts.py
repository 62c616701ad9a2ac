"""Three healthy counterparts of x together: x_h, its mirror image, and what is usual at the place.

Each alone has false alarms of its own: sulci and vessels leave residuals, ventricles of unequal
size are asymmetric, healthy brains are not alike. Few healthy places are all of these.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from twinvae.models.mirror import mirror
from twinvae.scoring.batch import SliceBatch
from twinvae.scoring.maps import MAPS, MapFunction, abnormality_map
from twinvae.scoring.registry import Reference, score
from twinvae.scoring.zscore import HEALTHY_PIXELS, smoothed_excess, usual_deviation

_OURS = "this project"
_SHARE = 0.5  # of the excess over the mirror image; a residual is the stronger evidence
_UNUSUAL = 0.25  # of the z-score, in usual deviations: the weakest, anatomy differs most
_BRIGHT = "smoothed positive residual", "smoothed excess over the mirror image"
_DARK = "smoothed negative residual", "smoothed lack against the mirror image"


def _residual(batch: SliceBatch, sign: float) -> Tensor:
    """G * max(±(x − x_h), 0) without the brain's rim (``scoring.rim_mm``), (n, 1, H, W)."""

    def compute(inner: SliceBatch) -> Tensor:
        return inner.smooth((sign * inner.residual).clamp(min=0) * inner.core)

    return batch.once(f"smoothed residual {sign:+.0f}", compute)


def _excess(batch: SliceBatch, sign: float) -> Tensor:
    """max(G * ±(x − m), 0), m the mirror image of x, where both halves are; (n, 1, H, W)."""

    def compute(inner: SliceBatch) -> Tensor:
        both_halves = inner.core * mirror(inner.inside, inner.brain)
        excess = inner.smooth(sign * (inner.x - mirror(inner.x, inner.brain)) * both_halves)
        return excess.clamp(min=0)

    return batch.once(f"smoothed excess {sign:+.0f}", compute)


def _with_maximum(
    name: str, summary: str, fit: Reference | None = None
) -> Callable[[MapFunction], MapFunction]:
    """Register a map that is smoothed already, and its maximum over the brain as ``NAME_local``."""

    def register(function: MapFunction) -> MapFunction:
        abnormality_map(name, summary, _OURS, whole=None, local=False)(function)

        @score(f"{name}_local", f"maximum over the brain of {summary}", _OURS, fit=fit)
        def highest(batch: SliceBatch) -> Tensor:
            """Max over the brain."""
            return batch.brain_max(MAPS[name].of(batch))

        return function

    return register


@_with_maximum("residual_mirrored", f"√({_BRIGHT[0]} · {_BRIGHT[1]})")
def residual_mirrored(batch: SliceBatch) -> Tensor:
    """√(residual · excess): where both agree; (n, 1, H, W)."""
    return (_residual(batch, 1.0) * _excess(batch, 1.0)).clamp(min=0).sqrt() * batch.inside


def _register_sums(suffix: str, residual: str, excess: str, sign: float) -> None:
    """The sums of two and of all three, of what is too bright or too dark."""
    summary = f"{residual} + {_SHARE} · {excess}"

    @_with_maximum(f"residual_or_mirror{suffix}", summary)
    def either(batch: SliceBatch) -> Tensor:
        """Residual + ½ excess: where either speaks; (n, 1, H, W)."""
        return (_residual(batch, sign) + _SHARE * _excess(batch, sign)) * batch.inside

    summary += f" + {_UNUSUAL} · {residual.replace('residual', 'z-score')}"

    @_with_maximum(f"residual_mirror_zscore{suffix}", summary, HEALTHY_PIXELS)
    def three(batch: SliceBatch) -> Tensor:
        """Residual + ½ excess + ¼ z-score in intensities: where any speaks; (n, 1, H, W)."""
        unusual = smoothed_excess(batch, sign) * usual_deviation(batch)
        return either(batch) + _UNUSUAL * unusual * batch.inside


_register_sums("", *_BRIGHT, 1.0)
_register_sums("_negative", *_DARK, -1.0)
