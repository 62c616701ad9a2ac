"""How lesions of a contrast differ from the tissue around them."""

from __future__ import annotations

from typing import Literal

PlantedContrast = Literal["T2w", "FLAIR", "T1w", "any"]

BRIGHT_SHARE: dict[PlantedContrast, float] = {"T2w": 0.9, "FLAIR": 0.9, "T1w": 0.1, "any": 0.5}
"""Share of lesions brighter than the tissue they are in. Fluid is bright in T2w and FLAIR and dark
in T1w; the rest are haemorrhage, calcification or, in T1w, fat and methaemoglobin."""
