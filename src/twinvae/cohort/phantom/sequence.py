"""Scan settings of a contrast, and the signal a tissue gives under them.

Signals are the usual closed forms for spin echo, inversion recovery and inversion-prepared gradient
echo (Bernstein, King and Zhou, Handbook of MRI Pulse Sequences, 2004). Settings are drawn from
ranges in clinical use, so that tissues keep the order of the contrast while their distances vary
from scan to scan, together, as they do between scanners.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from twinvae.cohort.phantom.fields import FloatArray
from twinvae.cohort.phantom.relaxation import NAMES, TISSUES
from twinvae.config import PhantomContrast

Kind = Literal["spin echo", "inversion recovery", "prepared gradient echo"]
_T1_CSF_MS = TISSUES["ventricles"].t1_ms
_VARIATION = 0.035  # standard deviation of the log of relaxation times between people


@dataclass(frozen=True)
class Sequence:
    """Times of one pulse sequence, in ms."""

    kind: Kind
    repetition: float
    echo: float
    inversion: float = 0.0

    def signal(self, t1_ms: FloatArray, t2_ms: FloatArray, density: FloatArray) -> FloatArray:
        """Magnitude of the signal of tissues (n,), in units of fully relaxed CSF."""
        recovery = np.exp(-self.repetition / t1_ms)
        inverted = np.exp(-self.inversion / t1_ms)
        along = {
            "spin echo": 1 - recovery,
            "inversion recovery": 1 - 2 * inverted + recovery,
            "prepared gradient echo": 1 - 2 * inverted / (1 + recovery),
        }[self.kind]
        signal: FloatArray = (density * np.abs(along) * np.exp(-self.echo / t2_ms)).astype(
            np.float32
        )
        return signal


@dataclass(frozen=True)
class Contrast:
    """One subject's tissues under one sequence, relative to its white matter."""

    tissue: FloatArray
    """(1 + tissues,): signal by tissue number; CSF where there is no label."""
    water: FloatArray
    """(101,): signal of grey matter turning into CSF, at 0, 0.01, … 1 of the way."""
    fluid_bright: bool
    """Whether a lesion, which holds more water, is brighter than white matter."""

    def __getitem__(self, name: str) -> float:
        return float(self.tissue[1 + NAMES.index(name)])

    def level(self, fraction: FloatArray) -> FloatArray:
        """Signal at ``fraction`` of the way from grey matter (0) to CSF (1)."""
        steps = np.linspace(0, 1, len(self.water), dtype=np.float32)
        found: FloatArray = np.interp(fraction, steps, self.water).astype(np.float32)
        return found


def draw_sequence(rng: np.random.Generator, contrast: PhantomContrast) -> Sequence:
    """Draw the settings of a T2w, FLAIR or T1w scan."""
    if contrast == "T2w":
        return Sequence("spin echo", rng.uniform(4000, 9000), rng.uniform(82, 118))
    if contrast == "FLAIR":
        repetition = rng.uniform(8000, 11000)
        # Chosen to null CSF, which scanners do up to a few per cent.
        null = _T1_CSF_MS * np.log(2 / (1 + np.exp(-repetition / _T1_CSF_MS)))
        inversion = null * rng.uniform(0.95, 1.04)
        return Sequence("inversion recovery", repetition, rng.uniform(85, 140), inversion)
    if rng.random() < 0.5:
        return Sequence("spin echo", rng.uniform(400, 650), rng.uniform(8, 15))
    inversion = rng.uniform(1000, 1300)
    return Sequence("prepared gradient echo", rng.uniform(1800, 2500), 3.0, inversion)


def draw_contrast(rng: np.random.Generator, contrast: PhantomContrast) -> Contrast:
    """Draw a sequence and one person's relaxation times, and work out what each tissue shows."""
    sequence = draw_sequence(rng, contrast)
    names = [*NAMES]
    table = np.array([[TISSUES[n].t1_ms, TISSUES[n].t2_ms, TISSUES[n].density] for n in names])
    spread = np.array([_VARIATION, _VARIATION, _VARIATION / 3])
    table *= np.exp(rng.normal(0, spread, size=table.shape))
    if contrast == "FLAIR":
        # Its long echo trains saturate the bound protons of myelin: white matter loses more.
        myelin = np.array([TISSUES[n].kind == "white" for n in names])
        table[myelin, 2] *= 1 - rng.uniform(0.05, 0.2)
    signal = sequence.signal(*table.T)
    white = signal[NAMES.index("white")]
    ends = np.log(table[[NAMES.index("cortex"), NAMES.index("ventricles")]])
    steps = np.linspace(0, 1, 101)[:, None]
    water = sequence.signal(*np.exp((1 - steps) * ends[0] + steps * ends[1]).T)
    unlabelled = signal[NAMES.index("csf")]
    tissue = np.concatenate([[unlabelled], signal]).astype(np.float32)
    return Contrast(tissue / white, water / white, contrast != "T1w")
