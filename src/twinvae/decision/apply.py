"""A calibration applied: from scores to the verdicts on slices and scans."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from scipy.special import ndtri

from twinvae.decision.thresholds import (
    BRAIN_MM2,
    BRAIN_PX,
    BoolArray,
    FittedRule,
    FloatArray,
    IntArray,
    Places,
    Ranks,
    places_of,
)
from twinvae.errors import CalibrationError
from twinvae.scoring.table import SPACING, area_unit


class Calibration(Mapping[str, Any]):
    """The content of ``calibration.json`` (``calibrate`` documents it), its numbers parsed once.

    A mapping like the content itself, which must not change meanwhile. Whoever asks more than
    once makes one of what was read; the functions below take either.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self._content = content
        self._rules: dict[str, FittedRule] = {}
        self._scans: dict[tuple[str, str], Ranks] = {}

    @classmethod
    def of(cls, content: Mapping[str, Any]) -> Calibration:
        """Of plain content; what is one already stays the same object."""
        return content if isinstance(content, Calibration) else cls(content)

    def __getitem__(self, key: str) -> Any:
        return self._content[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self._content)

    def __len__(self) -> int:
        return len(self._content)

    def entry(self, score: str) -> Mapping[str, Any]:
        """The part of ``score``; ``CalibrationError`` where there is none."""
        try:
            found: Mapping[str, Any] = self["scores"][score]
        except KeyError:
            there = ", ".join(self["scores"])
            raise CalibrationError(
                f"calibration: expected one of the scores {there}, found {score!r}"
            ) from None
        return found

    def rule(self, score: str) -> FittedRule:
        """Thresholds and healthy ranks of the slices' ``score``."""
        if score not in self._rules:
            self._rules[score] = FittedRule.from_json(self.entry(score)["slice"])
        return self._rules[score]

    def scan_ranks(self, score: str, statistic: str) -> Ranks:
        """Ranks among the healthy scans' values of one of ``STATISTICS``."""
        if (score, statistic) not in self._scans:
            part = self.entry(score)["scan_statistics"][statistic]
            self._scans[score, statistic] = Ranks.from_json(part["healthy"])
        return self._scans[score, statistic]


@dataclass(frozen=True)
class ScanSlices:
    """A scan's slices in the order of their numbers, all arrays (n,), at least one."""

    score: FloatArray
    number: FloatArray
    """Of the slice, along z."""
    called: BoolArray
    """Whether the slice is abnormal at the first percentile."""
    p_value: FloatArray
    least: FloatArray
    """The smallest p-value each slice could have had."""


@dataclass(frozen=True)
class Statistic:
    """One way to see a scan as a number, larger = more abnormal."""

    summary: str
    compute: Callable[[ScanSlices, int], float]
    """Takes the slices and ``decision.top_slices``."""
    of_scores: bool = False
    """Whether it is a function of the scan's scores alone. Then the scan-level conformal threshold
    is exact; else healthy scans are judged by slice thresholds that leave their subject out and
    new ones by all, so that it holds only nearly."""


def highest(scan: ScanSlices, top: int) -> float:
    """The highest score."""
    return float(scan.score.max())


def top_mean(scan: ScanSlices, top: int) -> float:
    """Mean of the ``top`` highest scores, of all if there are fewer."""
    return float(np.sort(scan.score)[-top:].mean())


def longest_run(scan: ScanSlices, top: int) -> float:
    """Slices in the longest run of neighbours that are all abnormal."""
    numbers = scan.number[scan.called]
    ends = np.flatnonzero(np.diff(numbers) != 1)
    runs = np.diff(np.concatenate([[-1], ends, [len(numbers) - 1]]))
    return float(runs.max()) if len(numbers) else 0.0


def fisher(scan: ScanSlices, top: int) -> float:
    """−2 Σ log p (Fisher). Neighbouring slices are dependent, so no χ² is read from it."""
    return float(-2.0 * np.log(scan.p_value).sum())


def stouffer(scan: ScanSlices, top: int) -> float:
    """Σ Φ⁻¹(1 − p) / √n (Stouffer), each p less half of its least, which keeps it below 1."""
    return float(ndtri(1.0 - scan.p_value + scan.least / 2.0).sum() / np.sqrt(len(scan.p_value)))


STATISTICS: dict[str, Statistic] = {
    "max": Statistic("highest slice score", highest, of_scores=True),
    "top_mean": Statistic("mean of the highest slice scores", top_mean, of_scores=True),
    "longest_run": Statistic("longest run of neighbouring abnormal slices", longest_run),
    "fisher": Statistic("Fisher's sum of the slices' p-values", fisher),
    "stouffer": Statistic("Stouffer's sum of the slices' p-values", stouffer),
}


@dataclass(frozen=True)
class ScanVerdict:
    """What is said of one scan, and why."""

    abnormal: bool
    """Whether the scan's statistic reaches the scan-level threshold."""
    statistic: str
    """Which number of the scan's slices that is, one of ``STATISTICS``."""
    value: float
    """The scan's statistic."""
    threshold: float
    """The scan-level threshold on it."""
    p_value: float
    """Conformal, of that statistic among those of the healthy validation scans."""
    highest: float
    """The scan's highest slice score."""
    percentile: float
    """Of the statistics of healthy validation scans; in (0, 100)."""
    target_fpr: float
    """Share of healthy scans expected to be called abnormal, in (0, 1)."""


def called(
    calibration: Mapping[str, Any], rows: pd.DataFrame, score: str | None = None
) -> list[tuple[Mapping[str, Any], BoolArray]]:
    """Which of ``rows`` each calibrated threshold of ``score`` calls abnormal.

    ``rows``: a scores table (``scoring.table``) with the column ``score``, by default the one that
    verdicts use. Returns, in the calibration's order, each threshold's entry (``percentile``,
    ``threshold``, ``target_fpr``, ``cross_validated_fpr``) with one truth value a row. Raises
    ``CalibrationError`` for a score that is not calibrated, ``ValueError`` for NaN.
    """
    slices = _CalibratedRows.of(calibration, rows, score)
    return list(
        zip(slices.thresholds, slices.rule.called(slices.values, slices.places), strict=True)
    )


def slice_thresholds(
    calibration: Mapping[str, Any], rows: pd.DataFrame, score: str | None = None
) -> list[tuple[Mapping[str, Any], FloatArray]]:
    """As ``called``, but the score from which each row is abnormal; infinite where nothing is."""
    slices = _CalibratedRows.of(calibration, rows, score)
    return list(zip(slices.thresholds, slices.rule.thresholds(slices.places), strict=True))


def p_values(
    calibration: Mapping[str, Any], rows: pd.DataFrame, score: str | None = None
) -> FloatArray:
    """P-value of each of ``rows`` among healthy slices, (n,) in (0, 1]; arguments as ``called``.

    Under the rule of the calibration: among slices of the same bin, of scores standardised for
    brain area, counting slices or subjects; never below 1 / (N + 1), N their number.
    """
    slices = _CalibratedRows.of(calibration, rows, score)
    return slices.rule.p_values(slices.values, slices.places)[0]


def scan_verdict(
    calibration: Mapping[str, Any], rows: pd.DataFrame, score: str | None = None
) -> ScanVerdict:
    """The verdict on one scan from its slices, rows of a scores table as for ``called``.

    Raises ``CalibrationError`` when the calibration does not know ``score``, ``ValueError`` for
    NaN or no rows.
    """
    return next(scan_verdicts(calibration, rows, [np.arange(len(rows))], score))


def scan_verdicts(
    calibration: Mapping[str, Any],
    rows: pd.DataFrame,
    scans: Iterable[IntArray],
    score: str | None = None,
) -> Iterator[ScanVerdict]:
    """As ``scan_verdict`` for each of ``scans``, places of its slices in ``rows``."""
    slices = _CalibratedRows.of(calibration, rows, score)
    values, number = slices.values, rows["slice"].to_numpy(dtype=np.float64)
    p_value, least = slices.rule.p_values(values, slices.places)
    abnormal = slices.rule.called(values, slices.places)[0]
    how = slices.calibration["scan_rule"]
    statistic = how["statistic"]
    bound = slices.calibration.entry(slices.score)["scan_statistics"][statistic]
    ranks = slices.calibration.scan_ranks(slices.score, statistic)
    for places in scans:
        if not len(places):
            raise ValueError("expected at least one slice score")
        at = places[np.argsort(number[places], kind="stable")]
        scan = ScanSlices(values[at], number[at], abnormal[at], p_value[at], least[at])
        value = STATISTICS[statistic].compute(scan, int(how["top_slices"]))
        yield ScanVerdict(
            abnormal=bool(value >= bound["threshold"]),
            statistic=statistic,
            value=value,
            threshold=float(bound["threshold"]),
            p_value=float(ranks.p_values(np.array([value]))[0]),
            highest=float(scan.score.max()),
            percentile=float(bound["percentile"]),
            target_fpr=float(bound["target_fpr"]),
        )


def discoveries(p_values: FloatArray, level: float, method: Literal["bh", "by"]) -> BoolArray:
    """Slices marked at false discovery rate ``level`` in (0, 1), from p-values (n,) of one scan.

    ``bh``, Benjamini and Hochberg (1995): holds for independent or positively dependent p-values.
    Conformal p-values of *independent* slices are so (Bates et al. 2023), but neighbouring slices
    of a head are not independent; positive dependence of that kind is plausible, not proven. In
    a scan without tumour every mark is false: the rate is then how often anything is marked.
    ``by``, Benjamini and Yekutieli (2001): holds under any dependence, at the price of a factor
    of about log n.
    """
    order, rank = np.argsort(p_values, kind="stable"), np.arange(1, len(p_values) + 1)
    # Adjusted p-values: the lowest level at which each would be marked.
    adjusted = p_values[order] * (len(p_values) / rank)
    if method == "by":
        adjusted = adjusted * (1.0 / rank).sum()
    marked = np.zeros(len(p_values), dtype=bool)
    marked[order] = np.minimum.accumulate(adjusted[::-1])[::-1].clip(max=1) <= level
    return marked


@dataclass(frozen=True)
class _CalibratedRows:
    """The rows of a table as a calibration sees them."""

    calibration: Calibration
    score: str
    rule: FittedRule
    places: Places
    values: FloatArray
    """(n,), without NaN."""

    @classmethod
    def of(
        cls, content: Mapping[str, Any], rows: pd.DataFrame, score: str | None
    ) -> _CalibratedRows:
        calibration = Calibration.of(content)
        name = calibration["decision_score"] if score is None else score
        rule = calibration.rule(name)
        size = calibration.get("size", BRAIN_PX)
        if size == BRAIN_PX and rule.shape.by_area and area_unit(rows) == "mm2":
            raise CalibrationError(
                f"calibration: expected thresholds of {name} that depend on {BRAIN_MM2}, found "
                f"ones that depend on {BRAIN_PX}, which is another area on every grid; calibrate "
                f"anew on a scores table with the column {SPACING}"
            )
        places = places_of(rows, size)
        values = rows[name].to_numpy(dtype=np.float64)
        if np.isnan(values).any():
            raise ValueError("expected scores without NaN")
        return cls(calibration, name, rule, places, values)

    @property
    def thresholds(self) -> list[Mapping[str, Any]]:
        """What the calibration says of each threshold."""
        found: list[Mapping[str, Any]] = self.calibration.entry(self.score)["slice"]["thresholds"]
        return found
