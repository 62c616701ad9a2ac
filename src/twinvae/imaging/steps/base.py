"""The contract every step keeps."""

from __future__ import annotations

from collections.abc import Mapping
from functools import singledispatch
from typing import Any

from twinvae.imaging.scan import Working

Fitted = Mapping[str, Any]


@singledispatch
def apply_step(options: object, scan: Working, fitted: Fitted) -> Working:
    """Apply one step, chosen by the type of its options, to one scan."""
    raise NotImplementedError(f"no step is registered for {type(options).__name__}")
