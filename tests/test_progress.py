"""The time left that a log is told."""

import io

import pytest
from rich.console import Console

from twinvae import progress
from twinvae.progress import progress_bar


@pytest.fixture
def log(monkeypatch):
    """What is written where no terminal is, and a clock that stands still until it is moved."""
    written, clock = io.StringIO(), [100.0]
    monkeypatch.setattr(progress, "console", Console(file=written, force_terminal=False))
    monkeypatch.setattr(progress.time, "monotonic", lambda: clock[0])
    return written, clock


def test_what_was_done_before_says_nothing_of_the_pace(log):
    written, clock = log
    with progress_bar("prepare", 110) as bar:
        bar.already(100)
        for _ in range(2):
            clock[0] += 20
            bar.advance()
    assert written.getvalue().splitlines() == [
        "prepare: 101/110  (180 s left)",
        "prepare: 102/110  (160 s left)",
    ]
