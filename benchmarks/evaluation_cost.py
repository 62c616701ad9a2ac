"""Seconds to judge a table of scores: metrics with intervals, and the audit.

    python benchmarks/evaluation_cost.py [--scores 30] [--subjects 40] [--slices 125]

A simulated table of mixed test slices (40 subjects of 125 slices: 5,000), 30 scores, 2,000
resamples of subjects, the headline tumour size: one row a score for each of the three AUROCs,
partial AUROC, sensitivity at two specificities, average precision, prevalence and six metrics of
verdicts, at the levels of slices and subjects; then the strata and the other tumour sizes, which
every run has too. Bound: 20 s for the first on two cores.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import numpy as np
import pandas as pd

from twinvae.config import DecisionConfig, EvaluationConfig
from twinvae.decision import calibrate
from twinvae.evaluation import audit, evaluate

BOUND = 20.0


def simulated(scores: int, subjects: int, slices: int) -> pd.DataFrame:
    """As many healthy validation and test subjects, too; tumours in the middle of most brains."""
    rng = np.random.default_rng(0)
    people = 3 * subjects
    position = np.tile(np.linspace(0, 1, slices), people)
    size = rng.normal(1, 0.05, people).repeat(slices)
    area = np.round(9000 * size * np.sin(np.pi * (0.05 + 0.9 * position)))
    centre = rng.uniform(0.4, 0.6, people).repeat(slices)
    tumour = np.round(1500 * (1 - ((position - centre) / 0.2) ** 2).clip(0))
    split = ["val"] * subjects + ["test"] * (2 * subjects)
    role = ["healthy"] * (2 * subjects) + ["mixed"] * subjects
    table = pd.DataFrame(
        {
            "subject": np.repeat([f"s{number:04d}" for number in range(people)], slices),
            "source": np.repeat(role, slices),
            "role": np.repeat(role, slices),
            "split": np.repeat(split, slices),
            "slice": np.tile(np.arange(slices), people),
            "position": position,
            "brain_px": area,
            "spacing_mm": 1.0,
            "tumour_px": np.where(np.repeat(role, slices) == "mixed", tumour, 0.0),
        }
    )
    level = rng.normal(0, 0.5, (scores, people)).repeat(slices, axis=1)
    values = level + table["tumour_px"].to_numpy() / 1000 + rng.normal(size=level.shape)
    names = [f"score_{number}" if number % 4 else f"trivial_{number}" for number in range(scores)]
    return pd.concat([table, pd.DataFrame(dict(zip(names, values, strict=True)))], axis=1)


def timed(what: str, work: Callable[[], object]) -> float:
    wall, cpu = time.perf_counter(), time.process_time()
    work()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    print(f"{what:58} {wall:6.1f} s, {cpu:6.1f} s of CPU", flush=True)
    return wall


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=int, default=30)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--slices", type=int, default=125)
    options = parser.parse_args()
    table = simulated(options.scores, options.subjects, options.slices)
    calibration = calibrate(table, DecisionConfig(score="score_1", scan_percentile=90))
    everything = EvaluationConfig()
    headline = everything.model_copy(update={"min_tumour_px": (50,)})
    print(
        f"{options.scores} scores, {options.subjects * options.slices:,} slices of "
        f"{options.subjects} subjects, {everything.resamples:,} resamples"
    )
    one, more = "metrics at one tumour size, and strata", "metrics at nine sizes, and strata"
    took = timed(one, lambda: evaluate(table, calibration, headline))
    timed(more, lambda: evaluate(table, calibration, everything))
    timed("audit", lambda: audit(table, calibration, everything))
    print(f"bound of {BOUND:.0f} s for the first: {'kept' if took <= BOUND else 'BROKEN'}")


if __name__ == "__main__":
    main()
