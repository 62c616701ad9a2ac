"""What the parts of ``make bench`` share: rows of its table, quartiles, programs seen from outside.

A row is plain data (``row``), so that a part is one JSON file and the page is made from files.
Nothing here imports torch or pandas: on Linux a program begins with the peak memory of the one that
started it, so what starts others must be small.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def row(
    what: str,
    against: str,
    values: Sequence[float],
    unit: str = "×",
    *,
    most: float | None = None,
    least: float | None = None,
    note: str = "",
) -> Row:
    """A line of the table: median and quartiles of ``values``, what was aimed at, and if it is met.

    ``most``, ``least``: bounds of the median, in its unit; at most one of them. Without values the
    row says only that there is no figure, which meets no aim.
    """
    low, middle, high = quartiles(values) if len(values) else (None, None, None)
    reached = None
    if most is not None or least is not None:
        reached = middle is not None and (middle <= most if least is None else middle >= least)
    return {
        "what": what, "against": against, "low": low, "median": middle, "high": high,
        "unit": unit, "most": most, "least": least, "reached": reached, "runs": len(values),
        "note": note,
    }  # fmt: skip


def quartiles(values: Sequence[float]) -> tuple[float, float, float]:
    """Lower quartile, median and upper quartile; interpolated between the values."""
    if len(values) == 1:
        return (float(values[0]),) * 3
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return low, statistics.median(values), high


def ratios(first: Sequence[float], second: Sequence[float]) -> list[float]:
    """``first / second``, pair by pair."""
    return [a / b for a, b in zip(first, second, strict=True)]


def write_part(
    out: Path | None, rows: Sequence[Row], left_out: Sequence[str] = (), **more: object
) -> None:
    """Print the rows and, if a file is asked for, write them there.

    ``left_out``: what was not measured, and why.
    """
    for one in rows:
        print(line_of(one), flush=True)
    for reason in left_out:
        print(f"left out: {reason}", flush=True)
    if out is not None:
        found = {"rows": list(rows), "left_out": list(left_out), **more}
        out.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")


def line_of(one: Row) -> str:
    """A row as a line to print."""
    shown = value_of(one, "median")
    spread = f" ({value_of(one, 'low')} to {value_of(one, 'high')})" if one["runs"] > 1 else ""
    aim = f"; aim {aim_of(one)}: {said_of(one)}" if aim_of(one) else ""
    return f"{one['what']} | {one['against']} | {shown}{spread}{aim}"


def value_of(one: Row, key: str) -> str:
    """A number of a row with its unit; – where there is none."""
    number = one[key]
    if number is None:
        return "–"
    shown = f"{number:.0f}" if one["unit"] == "%" else short(number)
    return f"{shown} {one['unit']}".strip()


def short(number: float) -> str:
    """Three digits, or all before the point."""
    return f"{number:,.0f}" if abs(number) >= 99.95 else f"{number:.3g}"


def aim_of(one: Row) -> str:
    """What was aimed at, in words; empty where nothing was."""
    for key, sign in (("most", "≤"), ("least", "≥")):
        if one[key] is not None:
            return f"{sign} {one[key]:g} {one['unit']}".strip()
    return ""


def said_of(one: Row) -> str:
    """Whether the aim was met, in words."""
    return {True: "reached", False: "**missed**", None: "–"}[one["reached"]]


@dataclass(frozen=True)
class Program:
    """A program that has ended, seen from outside."""

    seconds: float
    """On the clock, its start included."""
    cpu: float
    """Of all cores, with the programs that it started and waited for."""
    peak_gib: float
    """The most memory that it, or one of the programs that it waited for, held."""
    output: str
    """What it printed last (both streams)."""
    failed: str
    """Why it did not end well; empty if it did."""


def run_program(
    command: Sequence[str | Path],
    *,
    timeout: float = 3600,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
) -> Program:
    """Run a program to its end, or kill it and what it started after ``timeout`` seconds.

    What it prints can be read in ``log`` meanwhile.
    """
    with tempfile.TemporaryFile() if log is None else log.open("wb+") as printed:
        started = time.perf_counter()
        process = subprocess.Popen(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            env={**_environment(), **(environment or {})},
            start_new_session=True,
        )
        try:
            status, usage, late = _ended(process.pid, started + timeout)
        except BaseException:  # Ctrl-C reaches this process only; what it started hands it on
            os.killpg(process.pid, signal.SIGINT)
            raise
        seconds = time.perf_counter() - started
        process.returncode = os.waitstatus_to_exitcode(status)
        printed.seek(max(0, os.fstat(printed.fileno()).st_size - 4000))
        output = printed.read().decode(errors="replace").strip()
    failed = ""
    if late:
        failed = f"not done after {timeout:g} s"
    elif process.returncode:
        last = output.splitlines()[-1][:200] if output else "nothing printed"
        failed = f"exit code {process.returncode}: {last}"
    cpu = usage.ru_utime + usage.ru_stime
    return Program(seconds, cpu, usage.ru_maxrss / 2**20, output, failed)


def told(command: Sequence[str | Path]) -> Any:
    """What a program prints last, as JSON; ``RuntimeError`` when it fails."""
    done = run_program(command)
    if done.failed:
        raise RuntimeError(f"{command}: {done.failed}\n{done.output}")
    return json.loads(done.output.splitlines()[-1])


def _environment() -> dict[str, str]:
    """This one's, but Python keeps bytecode, as it does where twinvae is installed."""
    return {key: os.environ[key] for key in os.environ if key != "PYTHONDONTWRITEBYTECODE"}


def _ended(pid: int, deadline: float) -> tuple[int, Any, bool]:
    """The exit status, what the process used, and whether it had to be killed."""
    late, wait = False, 0.002
    while True:
        done, status, usage = os.wait4(pid, os.WNOHANG)
        if done:
            return status, usage, late
        if time.perf_counter() > deadline and not late:
            os.killpg(pid, signal.SIGKILL)
            late = True
        time.sleep(wait)
        wait = min(0.05, wait * 1.2)


def busy_seconds() -> float | None:
    """Seconds of CPU that all programs of this machine have used; None where it does not say."""
    path = Path("/proc/stat")
    if not path.exists():
        return None
    numbers = list(map(int, path.read_text().splitlines()[0].split()[1:8]))
    user, nice, system, _, _, irq, soft = numbers
    return (user + nice + system + irq + soft) / os.sysconf("SC_CLK_TCK")


def peak_gib() -> float:
    """The most memory that this process has held since ``forget_peak``, or since it began."""
    return _status("VmHWM:")


def held_gib() -> float:
    """What it holds now."""
    return _status("VmRSS:")


def forget_peak() -> None:
    """Begin the peak anew, where Linux lets us."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")


def _status(name: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name):
            return int(line.split()[1]) / 2**20
    raise OSError(f"/proc/self/status: expected {name}, found none")
