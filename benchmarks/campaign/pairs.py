"""Two processes at work on one output at once."""

from __future__ import annotations

import time

import numpy as np
from disk import Given
from room import Command, Ended, Room, Tally, Words, content, counted, differing, twinvae, verdict

from twinvae.progress import progress_bar
from twinvae.runs.folder import STAGES

RUNS, OTHERS = 12, 12


def two_processes(room: Room, rng: np.random.Generator, tally: Tally) -> None:
    """One refuses with a clear message, or waits; what is there in the end is right."""
    refused: list[str] = []
    with progress_bar("two processes", RUNS + OTHERS) as bar:
        for number in range(RUNS):
            stage = str(rng.choice(STAGES))
            folder = room.start("shared", stage)
            run: Words = ["run", room.config, "-o", folder]
            alike = number % 2 == 0 or stage == "index"
            ends = _both(room, run, run if alike else [stage, folder, "--force"], rng)
            refused += [end.words.split()[0] for end in ends if end.code == 4]
            # Whoever came too late did nothing; one more run ends it, as the user is told to.
            kind, what = verdict(twinvae(run, room.log), room.wanted, folder)
            if unclear := [e.end for e in ends if not e.is_clear or e.code not in (0, 4)]:
                kind, what = "traceback", str(unclear)
            tally.add(kind, f"{stage}: {what}")
            bar.advance()
        given = Given(room)
        wanted: dict[str, dict[str, str]] = {}
        for number in range(OTHERS):
            folder = room.new("shared")
            words = _others(given, folder)[number % 3]
            name = str(words[0])
            if name not in wanted:
                ended = twinvae(words, room.log)
                assert ended.code == 0, ended.end
                wanted[name] = content(folder)
                room.new("shared")
            ends = _both(room, words, words, rng)
            refused += [name for end in ends if end.code]
            apart = differing(wanted[name], content(folder))
            if any(not end.is_clear for end in ends):
                tally.add("traceback", str([end.end for end in ends]))
            elif all(end.code for end in ends):
                tally.add("lost", str([end.end for end in ends]))
            else:
                tally.add("wrong" if apart else "survived", f"{name}: {apart}")
            bar.advance()
    tally.notes.append(f"refused: {counted(refused)}")


def _others(given: Given, out: object) -> list[Words]:
    healthy = given.folder / "healthy"
    return [
        ["detect", given.bundle, given.scan, "-o", out, "--force"],
        ["calibrate", given.bundle, "--healthy", healthy, "-o", out],
        ["evaluate", given.table, "-o", out],
    ]


def _both(room: Room, first: Words, second: Words, rng: np.random.Generator) -> list[Ended]:
    """The second begins a moment after the first."""
    logs = [room.folder / "first.txt", room.folder / "second.txt"]
    one = Command(first, logs[0])
    time.sleep(rng.exponential(0.2))
    two = Command(second, logs[1])
    return [one.end_by(), two.end_by()]
