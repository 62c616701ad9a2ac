"""Which slices of one scan to mark so that few of the marked ones are healthy."""

from __future__ import annotations

from typing import Literal

from scipy.stats import false_discovery_control

from twinvae.decision.sample import BoolArray, FloatArray


def discoveries(p_values: FloatArray, level: float, method: Literal["bh", "by"]) -> BoolArray:
    """Slices marked at false discovery rate ``level`` in (0, 1), from p-values (n,) of one scan.

    ``bh``, Benjamini and Hochberg (1995): holds for independent or positively dependent p-values.
    Conformal p-values of *independent* slices are so (Bates et al. 2023), but neighbouring slices
    of a head are not independent; positive dependence of that kind is plausible, not proven. In
    a scan without tumour every mark is false: the rate is then how often anything is marked.
    ``by``, Benjamini and Yekutieli (2001): holds under any dependence, at the price of a factor
    of about log n.
    """
    marked: BoolArray = false_discovery_control(p_values, method=method) <= level
    return marked
