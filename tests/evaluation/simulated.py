"""Score tables with a known truth, for tests."""

from __future__ import annotations

import numpy as np
import pandas as pd


def simulated_scores(
    healthy: int = 24, mixed: int = 16, slices: int = 30, seed: int = 0, gap: float = 0.0
) -> pd.DataFrame:
    """A detector, a scanner-detector's offset ``gap``, and a brain-area rival.

    Tumour-free slices cluster at the ends of the brain, as in real scans; a third of the mixed
    subjects have no tumour; scores are rounded so that there are ties; half of the healthy
    subjects are validation subjects.
    """
    rng = np.random.default_rng(seed)
    parts = []
    for role, count in (("healthy", healthy), ("mixed", mixed)):
        for number in range(count):
            position = np.sort(rng.uniform(0, 1, slices))
            area = np.round(4000 * np.sin(np.pi * (0.1 + 0.8 * position)) * rng.normal(1, 0.05))
            tumour = np.zeros(slices)
            if role == "mixed" and number % 3:
                shape = 1 - ((position - rng.uniform(0.35, 0.65)) / 0.2) ** 2
                tumour = np.round(300 * shape.clip(0))
            level = rng.normal(0, 0.4) + (gap if role == "mixed" else 0.0)
            noise = rng.normal(0, 1, (3, slices))
            parts.append(
                pd.DataFrame(
                    {
                        "subject": f"s{number:02d}",  # the same names in both sources
                        "source": role + "_site",
                        "role": role,
                        "split": "val" if role == "healthy" and number % 2 else "test",
                        "slice": np.arange(slices),
                        "position": position,
                        "brain_px": area,
                        "tumour_px": tumour,
                        "latent_l2": np.round(tumour / 150 + level + noise[0], 1),
                        "trivial_brain_area": area,
                        "trivial_noise": np.round(noise[1], 1),
                    }
                )
            )
    return pd.concat(parts, ignore_index=True)
