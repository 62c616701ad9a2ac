"""Seconds and memory to evaluate a table of a million rows.

    python benchmarks/evaluation_large.py [--rows 1000000] [--scores 30] [--resamples 2000]

The table is simulated (``evaluation_cost.py``), a third of its slices mixed test slices, 125 a
subject; ``evaluate`` gives every metric of every score at the headline tumour size, with intervals
over subjects, and the strata. A process of its own does it, which may hold ``--memory`` GiB and
take ``--minutes``; when it runs out of either, that is the result.
"""

from __future__ import annotations

import argparse
import json
import resource
import sys
import time
from pathlib import Path

from measuring import Row, forget_peak, held_gib, peak_gib, row, run_program, write_part

MOST_SECONDS, MOST_GIB = 300.0, 4.0
ROWS = 1_000_000  # that the aim speaks of
SLICES = 125


def subjects_of(rows: int) -> int:
    """Of each of the table's three groups."""
    return max(20, round(rows / 3 / SLICES))


def work(rows: int, scores: int, resamples: int, memory: float) -> None:
    """Evaluate once; print what it took as JSON."""
    limit = int(memory * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    from evaluation_cost import simulated

    from twinvae.config import DecisionConfig, EvaluationConfig
    from twinvae.decision import calibrate
    from twinvae.evaluation import evaluate

    table = simulated(scores, subjects_of(rows), SLICES)
    calibration = calibrate(table, DecisionConfig(score="score_1", scan_percentile=90))
    options = EvaluationConfig(min_tumour_px=(50,), resamples=resamples)
    forget_peak()
    before, wall, cpu = held_gib(), time.perf_counter(), time.process_time()
    evaluate(table, calibration, options)
    found = {
        "seconds": time.perf_counter() - wall,
        "cpu": time.process_time() - cpu,
        "peak_gib": peak_gib(),
        "before_gib": before,
        "rows": len(table),
    }
    print(json.dumps(found))


def measure(rows: int, scores: int, resamples: int, memory: float, minutes: float) -> list[Row]:
    """The table's lines."""
    given = {"rows": rows, "scores": scores, "resamples": resamples, "memory": memory}
    sizes = [f"--{name}={value}" for name, value in given.items()]
    done = run_program([sys.executable, __file__, "--work", *sizes], timeout=60 * minutes)
    what = f"evaluate, {rows:,} rows, {scores} scores, {resamples:,} resamples"
    aimed = rows >= ROWS and scores >= 30 and resamples >= 2000
    most = {"s": MOST_SECONDS, "GiB": MOST_GIB} if aimed else {}
    if done.failed:
        why = f"{done.failed} (allowed: {memory:g} GiB, {minutes:g} min)"
        return [row(what, "", [], unit, most=most.get(unit), note=why) for unit in ("s", "GiB")]
    found = json.loads(done.output.splitlines()[-1])
    note = f"{found['cpu']:.0f} s of the processor; {found['rows']:,} rows in all"
    held = f"of which {found['before_gib']:.2f} GiB before it began, the table included"
    return [
        row(what, "", [found["seconds"]], "s", most=most.get("s"), note=note),
        row(f"{what}: memory", "", [found["peak_gib"]], "GiB", most=most.get("GiB"), note=held),
    ]


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=ROWS)
    parser.add_argument("--scores", type=int, default=30)
    parser.add_argument("--resamples", type=int, default=2000)
    parser.add_argument("--memory", type=float, default=8.0, help="GiB that it may hold")
    parser.add_argument("--minutes", type=float, default=30.0, help="that it may take")
    parser.add_argument("--out", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    sizes = (given.rows, given.scores, given.resamples, given.memory)
    if given.work:
        work(*sizes)
    else:
        write_part(given.out, measure(*sizes, given.minutes))


if __name__ == "__main__":
    main()
