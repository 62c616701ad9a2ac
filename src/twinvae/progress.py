"""One progress bar style for every long stage; silent when nobody is looking at a terminal."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

console = Console(stderr=True, highlight=False)
_LOG_EVERY_S = 15.0  # without a terminal, one plain line this often keeps a log readable


def say(text: str) -> None:
    """Print one line as it is: brackets in a path are no markup."""
    console.print(text, markup=False, soft_wrap=True)


class Bar:
    """A running progress bar: ``advance`` it, and ``note`` what the last piece of work said."""

    def __init__(
        self, progress: Progress, task: TaskID, label: str, total: int, *, plain: bool
    ) -> None:
        self._progress, self._task, self._label, self._total = progress, task, label, total
        self._done, self._before, self._note = 0, 0, ""
        self._started = time.monotonic()
        self._last_line = self._started
        self._plain = plain

    def already(self, steps: int) -> None:
        """Count ``steps`` as done before: they say nothing of the time that the others take."""
        self._done += steps
        self._before += steps
        self._progress.update(self._task, completed=self._done)

    def advance(self, steps: int = 1) -> None:
        """Count ``steps`` pieces of work as done."""
        self._done += steps
        self._progress.advance(self._task, steps)
        now = time.monotonic()
        if self._plain and now - self._last_line > _LOG_EVERY_S and self._done > self._before:
            self._last_line = now
            pace = (now - self._started) / (self._done - self._before)
            left = pace * (self._total - self._done)
            console.print(
                f"{self._label}: {self._done}/{self._total} {self._note} ({left:.0f} s left)"
            )

    def note(self, text: str) -> None:
        """Show ``text`` (a loss, a subject) beside the bar."""
        self._note = text
        self._progress.update(self._task, note=text)


@contextmanager
def progress_bar(label: str, total: int, *, hidden: bool = False) -> Iterator[Bar]:
    """Show progress through ``total`` pieces of work, with the time left."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=hidden or not console.is_terminal) as progress:
        task = progress.add_task(label, total=total, note="")
        yield Bar(progress, task, label, total, plain=not (hidden or console.is_terminal))
