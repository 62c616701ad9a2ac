"""docs/performance.md from the outcomes of the parts."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from measuring import Row, aim_of, said_of, value_of
from parts import Outcome, Part

BUSY = 10.0  # per cent of the machine that others took, from which a page says so
_COLUMNS = ("what", "against", "median", "quartiles", "aim", "reached", "remarks")
_HEAD = f"| {' | '.join(_COLUMNS)} |\n|---|---|---:|---|---|---|---|"
_INTRO = """\
# Performance

Written by `make bench`; do not edit. `make bench QUICK=1` takes a few minutes and writes a page of
its own beside its figures (`runs/bench/quick`): its sizes are too small to quote. A part whose
figures are younger than the code is kept; `ONLY=training,detect` does some parts, `FRESH=1` does
them again.

Contestants of a ratio take turns, in one process where that is possible; the median of the ratios
and their quartiles stand in the table. Ratios are of processor seconds, so that other programs on
the machine hardly matter; figures in seconds are of the clock unless said. Above 1 means that what
stands first takes longer. Lightning, pythae, TorchIO, MONAI, HDF5 and zarr run in an environment of
their own, as their makers' examples use them, on the same networks, batches and scans.
"""
_SCALING = """\
## Cost against size

![Processor seconds and memory of every stage against the number of scans, slices, rows]({image})

Each point is a process of its own with synthetic inputs (`benchmarks/scaling_stages.py`); only the
stage's own call counts, and the memory that it added. Grey lines rise by the power 1. k is fitted
over all sizes, once for each repeat; where small sizes hide the growth, the last two sizes say
more, and the aim holds for the larger of both.
"""


def page(
    parts: Sequence[Part], outcomes: Mapping[str, Outcome], image: str | None, *, quick: bool
) -> str:
    """The whole page; ``image``: the figure's address from there, None without points."""
    done = [part for part in parts if part.name in outcomes]
    blocks = [_INTRO, *warnings(outcomes, quick=quick), table(done, outcomes)]
    if image is not None:
        blocks.append(_SCALING.format(image=image))
    blocks.append("## The machine\n\n" + "\n".join(f"- {line}" for line in machine(outcomes)))
    blocks.append("## When\n\n" + when(done, outcomes))
    if missing := not_run(parts, outcomes):
        blocks.append("## Not run\n\n" + "\n".join(f"- {line}" for line in missing))
    return "\n\n".join(block.strip() for block in blocks) + "\n"


def warnings(outcomes: Mapping[str, Outcome], *, quick: bool) -> list[str]:
    """What stands in bold above the table."""
    said = []
    if quick:
        said.append(
            "**A quick run: small sizes and few rounds, for a first look. Quote none of it.**"
        )
    shares = [found["others"] for found in outcomes.values() if found["others"] is not None]
    if shares and max(shares) > BUSY:
        said.append(
            f"**Measured on a busy machine: other programs took up to {max(shares):.0f} % of it "
            f"meanwhile.** Ratios suffer less from that than seconds do."
        )
    return said


def table(parts: Sequence[Part], outcomes: Mapping[str, Outcome]) -> str:
    """One table of all parts' rows."""
    lines = [_HEAD]
    for part in parts:
        rows = outcomes[part.name]["rows"]
        if rows:
            lines.append(f"| **{part.title}** | | | | | | |")
        lines += [line(one) for one in rows]
    return "\n".join(lines)


def line(one: Row) -> str:
    """A row in Markdown."""
    spread = f"{value_of(one, 'low')} to {value_of(one, 'high')}" if one["runs"] > 1 else ""
    cells = [one["what"], one["against"], value_of(one, "median"), spread]
    cells += [aim_of(one), said_of(one) if aim_of(one) else "", one["note"]]
    return "| " + " | ".join(safe(str(cell)) for cell in cells) + " |"


def safe(text: str) -> str:
    """Text for a cell: one line, no bar, and no folder of this machine."""
    text = re.sub(r"(?<![\w.])/(?:[\w.+-]+/)+", "", text)
    return " ".join(text.replace("|", "/").split())


def machine(outcomes: Mapping[str, Outcome]) -> list[str]:
    """CPU, cores, memory, versions."""
    torch = next((found["torch"] for found in outcomes.values() if "torch" in found), None)
    return [
        f"CPU: {_from('/proc/cpuinfo', 'model name') or platform.processor() or 'unknown'}",
        f"cores: {_cores()}, of {os.cpu_count()} of the machine",
        f"memory: {_memory()}",
        f"{platform.system()}, Python {platform.python_version()}, "
        f"torch {torch or importlib.metadata.version('torch')}",
        "threads: training one, scoring and detect two, all else one, unless a row says otherwise",
        "no GPU is used",
    ]


def when(parts: Sequence[Part], outcomes: Mapping[str, Outcome]) -> str:
    """Each part's date, duration, and how busy the machine was."""
    lines = ["| part | ended | minutes | taken by other programs |", "|---|---|---:|---:|"]
    for part in parts:
        found = outcomes[part.name]
        others = "–" if found["others"] is None else f"{found['others']:.0f} %"
        cells = [part.title, found["date"], f"{found['minutes']:.1f}", others]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def not_run(parts: Sequence[Part], outcomes: Mapping[str, Outcome]) -> list[str]:
    """What is missing, and why."""
    said = []
    for part in parts:
        if part.name not in outcomes:
            said.append(f"{part.title}: not done yet (`make bench ONLY={part.name}`)")
            continue
        found = outcomes[part.name]
        if found["failed"]:
            said.append(safe(f"{part.title}: {found['failed']}"))
        said += [safe(f"{part.title}: {reason}") for reason in found["left_out"]]
    return said


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    kilobytes = _from("/proc/meminfo", "MemTotal")
    return f"{int(kilobytes.split()[0]) / 2**20:.0f} GiB" if kilobytes else "unknown"


def _from(path: str, key: str) -> str:
    """The value of the first line that begins with ``key``; empty if there is none."""
    if not Path(path).exists():
        return ""
    lines = Path(path).read_text().splitlines()
    return next((one.partition(":")[2].strip() for one in lines if one.startswith(key)), "")
