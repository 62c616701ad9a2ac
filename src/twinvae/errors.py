"""The errors a user can cause, each with the exit code the command line returns for it; and how
messages list many things.
"""

from __future__ import annotations

from collections.abc import Sequence


class TwinvaeError(Exception):
    """A problem the user can mend; its message says what, where, expected and found."""

    exit_code = 1


class ConfigError(TwinvaeError):
    """A configuration, preset or command-line value that is not valid."""

    exit_code = 2


class DataError(TwinvaeError):
    """A scan, mask, manifest or table that cannot be used as it is."""

    exit_code = 3


class StageError(TwinvaeError):
    """A stage was asked for before the files it reads exist, or those files do not fit together."""

    exit_code = 4


class CalibrationError(TwinvaeError):
    """A threshold was asked for that the healthy validation data cannot support."""

    exit_code = 5


class PartialFailureError(TwinvaeError):
    """The work was done, but some scans were skipped; they are listed in the message."""

    exit_code = 6


class OutputError(TwinvaeError):
    """An output would remove or overwrite something that twinvae did not write."""

    exit_code = 7


class NoVerdictError(TwinvaeError):
    """Every scan could be read, but some are out of domain and got no verdict.

    Where scans were skipped, too, that goes first (``PartialFailureError``).
    """

    exit_code = 8


def reason_of(error: Exception, what: object) -> str:
    """Why ``what``, a scan or a cell, could not be used: for lists of what was skipped."""
    if isinstance(error, TwinvaeError):
        return str(error)
    return f"{what}: {type(error).__name__}: {error}"


def some_of(
    items: Sequence[object], at_most: int = 5, *, total: int | None = None, joint: str = ", "
) -> str:
    """The first ``at_most`` of ``items``, and how many more there are, for a message.

    ``total``: how many there are where ``items`` are only the first. ``joint``: between them; with
    a line break what is left has a line of its own, too.

    >>> some_of("abcdefg"), some_of("abc")
    ('a, b, c, d, e and 2 more', 'a, b, c')
    """
    listed = joint.join(map(str, items[:at_most]))
    left = (len(items) if total is None else total) - at_most
    if left <= 0:
        return listed
    between = joint if joint.startswith("\n") else " "
    return f"{listed}{between}and {left} more"
