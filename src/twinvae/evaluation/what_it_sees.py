"""What a score mostly sees, in plain words, by a fixed rule.

1. *Tumours*: by how much its adjusted AUROC is above 0.5, if its interval is; else 0.
2. *The scanner*: by how much the AUROC of tumour-free mixed slices against healthy-source slices is
   away from 0.5 in either direction, if its interval is and it is more than ``CLEAR_GAP``; else 0.
   Adjusted where that has an interval, else matched; never raw, since tumour-free slices lie at the
   ends of the brain and healthy ones everywhere.
3. *Brain size* (or where the slice lies): by how much its raw AUROC is away from 0.5, if its
   interval is; else 0.

Without a raw and an adjusted AUROC with intervals, nothing is said. Else, the first that holds:
more scanner than tumours → "this score mostly sees the scanner"; some tumours, and at least
``KEPT`` of brain size's amount → "this score sees tumours"; some brain size → "this score mostly
sees brain size"; otherwise → "this score sees nothing reliably".
"""

from __future__ import annotations

from collections.abc import Mapping

from twinvae.evaluation.resampling import Estimate

SCANNER = "this score mostly sees the scanner"
BRAIN_SIZE = "this score mostly sees brain size"
TUMOURS = "this score sees tumours"
NOTHING = "this score sees nothing reliably"
UNKNOWN = "what this score sees could not be judged"

CLEAR_GAP = 0.1
"""A source gap nearer to 0.5 than this does not count, however sure it is."""
KEPT = 0.5
"""Share of the raw lead that must survive adjusting for area and position."""


def what_it_sees(
    auroc: Mapping[str, Estimate], source_gap: Mapping[str, Estimate]
) -> dict[str, str]:
    """The verdict ``sees`` and the numbers behind it, ``because``; arguments by kind of AUROC."""
    raw, adjusted = auroc["raw"], auroc["adjusted"]
    if raw["ci_low"] is None or adjusted["ci_low"] is None:
        return {"sees": UNKNOWN, "because": _without(raw, adjusted)}
    gap = source_gap["adjusted" if source_gap["adjusted"]["ci_low"] is not None else "matched"]
    scanner = _distance(gap) if _distance(gap) > CLEAR_GAP else 0.0
    size = _distance(raw)
    tumours = _distance(adjusted) if _number(adjusted["value"]) > 0.5 else 0.0
    if scanner > tumours:
        sees = SCANNER
    elif tumours and tumours >= KEPT * size:
        sees = TUMOURS
    else:
        sees = BRAIN_SIZE if size else NOTHING
    numbers = [
        f"adjusted AUROC {_text(adjusted)}",
        f"raw AUROC {_text(raw)}",
        f"tumour-free mixed against similar healthy slices {_text(gap)}",
    ]
    return {"sees": sees, "because": "; ".join(numbers)}


def _distance(found: Estimate) -> float:
    """How far from 0.5, or 0 when the interval holds 0.5 or is not known."""
    low, high = found["ci_low"], found["ci_high"]
    if low is None or high is None or low <= 0.5 <= high:
        return 0.0
    return abs(_number(found["value"]) - 0.5)


def _number(value: float | None) -> float:
    return 0.5 if value is None else value


def _text(found: Estimate) -> str:
    if found["value"] is None or found["ci_low"] is None:
        return "not known"
    return f"{found['value']:.3f} (95 % interval {found['ci_low']:.3f} to {found['ci_high']:.3f})"


def _without(raw: Estimate, adjusted: Estimate) -> str:
    known = {"raw": raw, "adjusted": adjusted}
    lacking = " and ".join(kind for kind, found in known.items() if found["ci_low"] is None)
    return f"no interval of the {lacking} AUROC: too few subjects, slices or resamples"
