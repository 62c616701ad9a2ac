"""How the statistics of preparation differ from the healthy sources to every other source."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import ks_2samp

from twinvae.errors import DataError

_KEYS = ("subject", "session", "source", "role", "split")


def drift(scans: pd.DataFrame) -> list[dict[str, Any]]:
    """Every numeric column of ``scans`` (one row a scan), source by source, largest drift first.

    ``scans``: as ``slices/scans.tsv``, with ``source`` and ``role``. Each source is held against
    the scans of all *other* healthy sources. Returns dictionaries of ``source``, ``statistic``,
    ``n``, ``n_healthy``; ``standardised_difference``, the difference of means in units of the root
    mean square of the two standard deviations (null where both are 0 or one scan is alone); and
    ``ks``, the two-sample Kolmogorov–Smirnov distance, 1 where the two do not overlap.

    Raises ``DataError`` when ``source`` or ``role`` is missing.
    """
    missing = [column for column in ("source", "role") if column not in scans.columns]
    if missing:
        raise DataError(f"scans: missing column {', '.join(missing)}")
    numbers = scans.drop(columns=[c for c in _KEYS if c in scans.columns]).select_dtypes("number")
    found = []
    for source in sorted(scans["source"].unique()):
        mine = (scans["source"] == source).to_numpy()
        healthy = ((scans["role"] == "healthy") & (scans["source"] != source)).to_numpy()
        for name in numbers.columns:
            values = numbers[name].to_numpy(dtype=np.float64)
            here, there = (v[np.isfinite(v)] for v in (values[mine], values[healthy]))
            if len(here) and len(there):
                found.append({"source": str(source), "statistic": str(name), **_gap(here, there)})
    return sorted(found, key=lambda row: (-row["ks"], row["source"], row["statistic"]))


def _gap(here: np.ndarray[Any, Any], there: np.ndarray[Any, Any]) -> dict[str, Any]:
    alone = min(len(here), len(there)) < 2
    spread = 0.0 if alone else float(np.sqrt((here.var(ddof=1) + there.var(ddof=1)) / 2))
    return {
        "n": len(here),
        "n_healthy": len(there),
        "standardised_difference": float((here.mean() - there.mean()) / spread) if spread else None,
        "ks": float(ks_2samp(here, there).statistic),
    }
