"""What is said of one scan: a verdict, unless no healthy scan behind the thresholds is like it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import pandas as pd

from twinvae.decision import (
    Calibration,
    ScanVerdict,
    called,
    discoveries,
    p_values,
    scan_verdict,
    slice_thresholds,
)
from twinvae.decision.domain import Outside, outside, scan_facts
from twinvae.detection.bundle import Bundle
from twinvae.imaging import PreparedScan

DISCLAIMER = "Research software, not for clinical use."
BY_TEMPLATE = "Brain mask by template registration, not HD-BET: check it."
NO_VERDICT = "none: out of domain"


@dataclass(frozen=True)
class Judgement:
    """A scan's verdict and its slices."""

    verdict: ScanVerdict | None
    """None for a scan out of domain, unless forced."""
    outside: tuple[Outside, ...]
    """What puts the scan out of domain; empty when it is inside."""
    slices: pd.DataFrame
    """One row a slice: number, position, brain_px, every score, then ``threshold``, ``p_value``,
    ``abnormal`` and ``abnormal_fdr`` (both missing without a verdict), ``domain`` (inside, outside
    or forced) and ``thresholds_from`` (the scans they were set on)."""
    contrast: str = ""
    """How the scan's name or headers contradict the bundle's contrast; judged by force then."""

    @property
    def word(self) -> str:
        """The verdict in a word or two."""
        if self.verdict is None:
            return NO_VERDICT
        return "abnormal" if self.verdict.abnormal else "healthy"

    @property
    def domain(self) -> str:
        """Inside, outside, or judged although outside."""
        return _domain_word(self.outside, forced=self.verdict is not None)

    @property
    def called(self) -> list[int] | None:
        """Numbers of the abnormal slices; None without a verdict."""
        return _numbers(self.slices, "abnormal")


def judge_scan(
    bundle: Bundle, prepared: PreparedScan, scores: pd.DataFrame, *, force: bool = False
) -> Judgement:
    """Judge one scan from its slices and their ``scores``; with ``force`` even out of domain."""
    facts = scan_facts(prepared.images, prepared.brain, prepared.statistics)
    found = outside(bundle.domain, facts)
    return judge(bundle.calibration, scores, bundle.config.decision.score, found, force=force)


def judge(
    calibration: Calibration,
    scores: pd.DataFrame,
    name: str,
    found: tuple[Outside, ...] = (),
    *,
    force: bool = False,
) -> Judgement:
    """Judge slices by their score ``name``; ``found``: what puts them out of domain."""
    judged = force or not found
    ranks, fdr = p_values(calibration, scores, name), calibration["fdr"]
    table = scores.assign(threshold=slice_thresholds(calibration, scores, name)[0][1])
    table["p_value"] = ranks
    if judged:
        table["abnormal"] = called(calibration, scores, name)[0][1]
        table["abnormal_fdr"] = discoveries(ranks, fdr["level"], fdr["method"])
    else:
        table["abnormal"] = table["abnormal_fdr"] = pd.array([pd.NA] * len(table), dtype="boolean")
    table["domain"] = _domain_word(found, forced=force)
    table["thresholds_from"] = calibration["origin"]["kind"]
    verdict = scan_verdict(calibration, scores, name) if judged else None
    return Judgement(verdict, found, table)


def verdict_json(judgement: Judgement, bundle: Bundle) -> dict[str, Any]:
    """Everything about the verdict, ready for JSON; null where none is given.

    ``brain_mask`` says how the brain was found in a whole head; null where it was not.
    """
    return {
        "bundle": bundle.config.name,
        **facts_json(judgement, bundle.calibration, bundle.config.decision.score),
        "domain": {
            "state": judgement.domain,
            "outside": [{**asdict(one), "says": str(one)} for one in judgement.outside],
            "healthy_scans": bundle.domain["n_scans"],
            "leave_one_out_rate": bundle.domain["leave_one_out_rate"],
        },
        "calibration": calibration_json(bundle.calibration),
        "brain_mask": bundle.recipe.strips,
        "warnings": warnings(judgement, bundle),
        "note": DISCLAIMER,
    }


def facts_json(judgement: Judgement, calibration: Mapping[str, Any], name: str) -> dict[str, Any]:
    """What was found by the score ``name``, whoever's slices it is of."""
    table, none = judgement.slices, dict.fromkeys(field.name for field in fields(ScanVerdict))
    return {
        "verdict": judgement.word,
        **(none if judgement.verdict is None else asdict(judgement.verdict)),
        "score": name,
        "slice_threshold": calibration["scores"][name]["slice"]["thresholds"][0]["threshold"],
        "slices": len(table),
        "abnormal_slices": judgement.called,
        "abnormal_fdr_slices": _numbers(table, "abnormal_fdr"),
        "highest_slice": int(table["slice"].iloc[int(np.argmax(table[name]))]),
    }


def calibration_json(calibration: Mapping[str, Any]) -> dict[str, Any]:
    """What is promised by the thresholds, and what they rest on."""
    rule = {key: calibration["rule"][key] for key in ("name", "unit", "guarantee", "assumes")}
    about = {key: calibration[key] for key in ("scan_rule", "fdr", "origin")}
    return {"rule": rule, **about}


def warnings(judgement: Judgement, bundle: Bundle) -> list[str]:
    """Sentences that must stand beside the verdict."""
    calibration = bundle.calibration
    origin = calibration["origin"]
    forced = [f"OTHER CONTRAST: {judgement.contrast}."] if judgement.contrast else []
    said = [] if origin["kind"] == "run" else [origin["says"]]
    if "lowered" in calibration:
        said.append(calibration["lowered"])
    if bundle.recipe.strips == "template":
        said.append(BY_TEMPLATE)
    return [*forced, *domain_warnings(judgement), *said]


def domain_warnings(judgement: Judgement) -> list[str]:
    """Those of them that say why the scan is out of domain; none for one that is inside."""
    if not judgement.outside:
        return []
    what = "no verdict is given" if judgement.verdict is None else "the verdict was forced"
    first = f"OUT OF DOMAIN: unlike the healthy scans behind the thresholds; {what}."
    return [first, *(str(one) for one in judgement.outside)]


def summary(name: str, scan: str, judgement: Judgement) -> dict[str, Any]:
    """The scan's row of summary.tsv."""
    verdict, abnormal = judgement.verdict, judgement.called
    return {
        "name": name,
        "scan": scan,
        "verdict": judgement.word,
        "highest": verdict and verdict.highest,
        "statistic": verdict and verdict.statistic,
        "value": verdict and verdict.value,
        "threshold": verdict and verdict.threshold,
        "p_value": verdict and verdict.p_value,
        "abnormal_slices": None if abnormal is None else len(abnormal),
        "slices": len(judgement.slices),
        "domain": judgement.domain,
        "outside": "; ".join(str(one) for one in judgement.outside),
        "thresholds_from": judgement.slices["thresholds_from"].iloc[0],
    }


def _domain_word(found: tuple[Outside, ...], *, forced: bool) -> str:
    if not found:
        return "inside"
    return "forced" if forced else "outside"


def _numbers(table: pd.DataFrame, column: str) -> list[int] | None:
    if table[column].isna().any():
        return None
    return [int(number) for number in table.loc[table[column].astype(bool), "slice"]]
