"""The words that every folder shares: what scans are called, split into, known by, stored as."""

from __future__ import annotations

from typing import Literal, get_args

Role = Literal["healthy", "mixed"]
"""`healthy`: from people who are guaranteed to have no tumour. `mixed`: some may have one."""
ROLES: tuple[Role, ...] = get_args(Role)
"""In this order wherever roles are numbered or listed."""

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = get_args(Split)
"""To train on, to set thresholds on, to test on."""

SUBJECT_KEY = ("source", "subject")
"""Columns that name a person in any table: two sources may use the same names."""
SCAN_KEY = (*SUBJECT_KEY, "session")
"""Columns that name one scan of a person."""

FULL_SCALE = 65535
"""Slices are stored as uint16: intensity in [0, 1] times this."""
