"""The contract every step keeps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import singledispatch
from typing import Any, Protocol

from twinvae.imaging.scan import Working

Fitted = Mapping[str, Any]


class Training(Protocol):
    """Training scans as the steps before have left them, one in memory at a time."""

    def working(
        self, role: str, *, subject: str | None = None, at_most: int | None = None
    ) -> Iterator[Working]:
        """Scans of one role, or of `all`, perhaps of one subject; those that fail are left out.

        With ``at_most``, that many, spread evenly over the list sorted by source, subject and
        session.
        """
        ...


@singledispatch
def apply_step(options: object, scan: Working, fitted: Fitted) -> Working:
    """Apply one step, chosen by the type of its options, to one scan."""
    raise NotImplementedError(f"no step is registered for {type(options).__name__}")


@singledispatch
def fit_step(options: object, training: Training) -> Fitted:
    """What a step learns from the training scans, as plain values; most learn nothing."""
    del options, training
    return {}
