"""What every stage costs at n, 4n, 16n … scans or rows: time, memory, and the power they grow by.

    python benchmarks/scaling.py [--only index,evaluate] [--quick] [--repeats 3] [--out FILE]

Inputs are synthetic (``scaling_stages.py``): an index of empty files, prepared scans of a few
thousand voxels, random slices, simulated tables. Each point is a process of its own; only the
stage's own call is measured, in processor seconds, so that other programs hardly matter, and in
the memory that the process held at most, less what it held before. A stage's ladder ends at its
largest size, or where the next step would take more than ``--minutes`` or ``--memory`` GiB; the
page says so.

Cost = c · nᵏ: k is the slope of the logarithms by least squares over all sizes, once for each
repeat. Constant costs hide the growth of small sizes, so the last two sizes stand beside it, and
the larger of both is held against the aim.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from measuring import Row, row, run_program, write_part
from scaling_stages import STAGES, measured_point

AIM = 1.1  # of the exponent: linear, and a little for noise
LEAST_GIB = 0.02  # differences of memory below this are noise
Point = dict[str, Any]


def point(stage: str, n: int, *, memory: float, minutes: float) -> Point:
    """One point in a process of its own; ``failed`` says why there is none."""
    with tempfile.TemporaryDirectory(prefix="scaling-") as room:
        command = [sys.executable, __file__, "--point", stage, "--n", str(n), "--room", room]
        done = run_program([*command, "--memory", str(memory)], timeout=60 * minutes)
    if done.failed:
        why = "out of memory" if "MemoryError" in done.output else done.failed
        return {
            "stage": stage,
            "n": n,
            "failed": f"{why} (allowed: {memory:g} GiB, {minutes:g} min)",
        }
    return {"stage": stage, "n": n, **json.loads(done.output.splitlines()[-1])}


def ladder(stage: str, *, quick: bool, repeats: int, memory: float, minutes: float) -> list[Point]:
    """All points of a stage, the smallest size first."""
    found: list[Point] = []
    for n in STAGES[stage].sizes(quick=quick):
        if len(done := usable(found)) > 1 and (why := too_much(done, n, memory, minutes)):
            found.append({"stage": stage, "n": n, "failed": why})
            break
        for repeat in range(repeats):
            one = point(stage, n, memory=memory, minutes=minutes)
            found.append({**one, "repeat": repeat})
            print(json.dumps(found[-1]), flush=True)
            if "failed" in one:
                return found
    return found


def usable(points: list[Point]) -> list[Point]:
    """Those that were measured."""
    return [one for one in points if "failed" not in one]


def too_much(done: list[Point], n: int, memory: float, minutes: float) -> str:
    """Why size ``n`` is not tried, judged by how the last two sizes grew; empty if it is."""
    sizes = sorted({one["n"] for one in done})
    if len(sizes) < 2:
        return ""
    for key, most, unit in (("seconds", 60 * minutes, "s"), ("added_gib", memory, "GiB")):
        last, before = (typical(done, size, key) for size in (sizes[-1], sizes[-2]))
        growth = max(1.0, last / max(before, 1e-3)) ** math.log(
            n / sizes[-1], sizes[-1] / sizes[-2]
        )
        if last * growth > most:
            return f"not tried: would take about {last * growth:.0f} {unit}"
    return ""


def typical(points: list[Point], n: int, key: str) -> float:
    """Median of the repeats at one size."""
    return statistics.median(one[key] for one in points if one["n"] == n)


def slope(sizes: list[int], costs: list[float]) -> float:
    """The exponent k of cost = c · nᵏ, by least squares of the logarithms."""
    x, y = [math.log(n) for n in sizes], [math.log(cost) for cost in costs]
    return statistics.linear_regression(x, y).slope


def exponents(points: list[Point], key: str, floor: float) -> tuple[list[float], float]:
    """One exponent a repeat over all sizes, and that of the last two sizes; (empty, NaN) if none.

    Costs below ``floor`` count as that.
    """
    good = usable(points)
    sizes = sorted({one["n"] for one in good})
    if len(sizes) < 2:
        return [], math.nan
    fitted = []
    for repeat in sorted({one["repeat"] for one in good}):
        mine = [one for one in good if one["repeat"] == repeat]
        if len(mine) > 1:
            costs = [max(one[key], floor) for one in mine]
            fitted.append(slope([one["n"] for one in mine], costs))
    last = [max(typical(good, n, key), floor) for n in sizes[-2:]]
    return fitted, slope(sizes[-2:], last)


def rows_of(stage: str, points: list[Point]) -> list[Row]:
    """A stage's two lines of the table."""
    rows, good = [], usable(points)
    unit, sizes = STAGES[stage].unit, sorted({one["n"] for one in good})
    tried = max((one["n"] for one in points), default=0)
    for what, key, floor in (("time", "cpu", 1e-3), ("memory", "added_gib", LEAST_GIB)):
        fitted, last = exponents(points, key, floor)
        span = f"{sizes[0]:,} to {sizes[-1]:,} {unit}" if sizes else f"{tried:,} {unit}"
        one = row(f"{stage}: {what} ~ nᵏ, exponent k", span, fitted, "", most=AIM)
        one["reached"] = bool(fitted) and max(one["median"], last) <= AIM
        said = [] if math.isnan(last) else [f"last two sizes {last:.2f}"]
        if sizes:
            most = typical(good, sizes[-1], "cpu" if key == "cpu" else "peak_gib")
            said.append(f"{most:.3g} {'s' if key == 'cpu' else 'GiB held'} at {sizes[-1]:,}")
        said += [f"at {p['n']:,}: {p['failed']}" for p in points if "failed" in p]
        rows.append({**one, "note": "; ".join(said)})
    return rows


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", default="", help=f"of {','.join(STAGES)}")
    parser.add_argument("--quick", action="store_true", help="sizes for a first look")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that a point may hold")
    parser.add_argument("--minutes", type=float, default=10.0, help="that a point may take")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--point", choices=list(STAGES), help=argparse.SUPPRESS)
    parser.add_argument("--n", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--room", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.point:
        print(json.dumps(measured_point(given.point, given.n, given.room, given.memory)))
        return
    names = [name for name in given.only.split(",") if name] or list(STAGES)
    if unknown := set(names) - STAGES.keys():
        parser.error(f"--only: expected some of {','.join(STAGES)}, found {','.join(unknown)}")
    how = {"quick": given.quick, "memory": given.memory, "minutes": given.minutes}
    points = {name: ladder(name, repeats=given.repeats, **how) for name in names}
    rows = [line for name in names for line in rows_of(name, points[name])]
    flat = [one for name in names for one in points[name]]
    write_part(given.out, rows, points=flat)


if __name__ == "__main__":
    main()
