"""What contrasts are called: BIDS, BraTS, SMIR and scanners name the same ones differently."""

from __future__ import annotations

_NAMES = {
    "T1w": ("t1", "t1w", "t1n"),
    "T2w": ("t2", "t2w"),
    "T1gd": ("t1gd", "t1c", "t1ce", "t1wce", "ce"),
    "FLAIR": ("flair", "t2f", "t2flair"),
    "PDw": ("pd", "pdw"),
}
_STANDARD = {name: standard for standard, names in _NAMES.items() for name in names}


def standard_contrast(name: str) -> str:
    """The name by which a contrast is compared: T1w, T2w, T1gd, FLAIR, PDw, else in lower case."""
    key = name.lower().replace("-", "").replace("_", "").replace(" ", "")
    return _STANDARD.get(key, key)
