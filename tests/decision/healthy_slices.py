"""Simulated healthy validation slices whose score may depend on brain area."""

from __future__ import annotations

import numpy as np
import pandas as pd


def simulated(
    subjects: int,
    slices: int,
    rng: np.random.Generator,
    *,
    trend: float = 0.0,
    spread: float = 0.0,
    between: float = 0.0,
) -> pd.DataFrame:
    """Scores table: level falls by ``trend`` and log spread by ``spread`` over the brain areas.

    ``between``: standard deviation of the subjects' own levels; that of slices is 1 in the largest
    brains.
    """
    n = subjects * slices
    position = np.tile(np.linspace(0, 1, slices), subjects)
    shrunk = 1 - np.sin(np.pi * (0.02 + 0.96 * position)) * rng.uniform(0.9, 1, n)  # 0 large
    own = between * np.repeat(rng.normal(size=subjects), slices)
    return pd.DataFrame(
        {
            "subject": np.repeat([f"h{i}" for i in range(subjects)], slices),
            "source": "ixi",
            "role": "healthy",
            "split": "val",
            "slice": np.tile(np.arange(slices), subjects),
            "position": position,
            "brain_px": np.round(20000 * (1 - 0.9 * shrunk)),
            "tumour_px": 0.0,
            "latent_l2": trend * shrunk + np.exp(spread * shrunk) * rng.normal(size=n) + own,
        }
    )
