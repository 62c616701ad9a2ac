"""What follows from the contrast of a run's scans: which lesions are planted, and the score's sign.

Tumours are bright in T2w and FLAIR and dark in T1w. Of other contrasts nothing is assumed: lesions
of both kinds are planted, and scores that have a sign look for what is too bright.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Literal

from pydantic import BaseModel

Planted = Literal["T2w", "FLAIR", "T1w", "any"]

AUTO: Final = "auto"
"""In place of a contrast: that of the run's scans."""
SIGNED = "_signed"
"""In the name of a score or map: nothing, or ``NEGATIVE`` where lesions are dark."""
NEGATIVE = "_negative"
"""In the name of a score or map: of what is too dark."""

# What contrasts are called: BIDS, BraTS, SMIR and scanners name the same ones differently.
_CONTRASTS = {
    "T1w": ("t1", "t1w", "t1n"),
    "T2w": ("t2", "t2w"),
    "T1gd": ("t1gd", "t1c", "t1ce", "t1wce", "ce"),
    "FLAIR": ("flair", "t2f", "t2flair"),
    "PDw": ("pd", "pdw"),
}
_STANDARD = {name: standard for standard, names in _CONTRASTS.items() for name in names}
_LESIONS: dict[str, tuple[Planted, bool]] = {
    "T2w": ("T2w", False),
    "FLAIR": ("FLAIR", False),
    "T1w": ("T1w", True),
}


def standard_contrast(name: str) -> str:
    """The name by which a contrast is compared: T1w, T2w, T1gd, FLAIR, PDw, else in lower case.

    >>> standard_contrast("t1_ce"), standard_contrast("T2-FLAIR"), standard_contrast("SWI")
    ('T1gd', 'FLAIR', 'swi')
    """
    key = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    return _STANDARD.get(key, key)


def planted_contrast(contrast: str) -> Planted:
    """The lesions to plant in scans of ``contrast``; ``any`` where nothing is known of it.

    >>> planted_contrast("t1"), planted_contrast("SWI")
    ('T1w', 'any')
    """
    return _LESIONS.get(standard_contrast(contrast), ("any", False))[0]


def lesions_are_dark(contrast: str) -> bool | None:
    """Whether tumours are darker than tissue; None where nothing is known of the contrast."""
    known = _LESIONS.get(standard_contrast(contrast))
    return None if known is None else known[1]


def following_contrast(values: Mapping[str, Any], contrast: str) -> dict[str, Any]:
    """The settings of a run, as read, with all that follows from ``contrast`` filled in.

    That is ``scoring.planted`` and the models' ``options.contrast`` where they are ``auto`` (the
    first also where it is missing), and ``_signed`` in the names of scores and maps.
    """
    found = dict(values)
    planted = planted_contrast(contrast)
    scoring = _plain(found.get("scoring", {}))
    if isinstance(scoring, dict):
        if scoring.get("planted", AUTO) == AUTO:
            scoring["planted"] = planted
        scoring |= {
            n: _each_signed(scoring[n], contrast) for n in ("scores", "maps") if n in scoring
        }
        found["scoring"] = scoring
    decision = _plain(found.get("decision", {}))
    if isinstance(decision, dict) and "score" in decision:
        decision["score"] = _signed(decision["score"], contrast)
        found["decision"] = decision
    models = _plain(found.get("models"))
    if isinstance(models, dict):
        found["models"] = {role: _planting(model, planted) for role, model in models.items()}
    return found


def _planting(model: Any, planted: Planted) -> Any:
    """One model's settings, its lesions those of the contrast where it says ``auto``."""
    model = _plain(model)
    options = model.get("options") if isinstance(model, dict) else None
    if isinstance(options, Mapping) and options.get("contrast") == AUTO:
        model["options"] = {**options, "contrast": planted}
    return model


def _each_signed(names: Any, contrast: str) -> Any:
    if not isinstance(names, (list, tuple)) or not any(SIGNED in str(name) for name in names):
        return names
    return list(dict.fromkeys(_signed(name, contrast) for name in names))


def _signed(name: Any, contrast: str) -> Any:
    sign = NEGATIVE if lesions_are_dark(contrast) else ""
    return name.replace(SIGNED, sign) if isinstance(name, str) else name


def _plain(value: Any) -> Any:
    """Settings to change: a copy of a mapping, or of what a model was given."""
    if isinstance(value, BaseModel):
        return value.model_dump()
    return dict(value) if isinstance(value, Mapping) else value
