"""Seconds to judge a table of scores: metrics with intervals, and the audit.

    python benchmarks/evaluation_cost.py [--scores 30] [--subjects 40] [--slices 125] [--out FILE]

A simulated table of mixed test slices (40 subjects of 125 slices: 5,000), 30 scores, 2,000
resamples of subjects, the headline tumour size: one row a score for each of the three AUROCs,
partial AUROC, sensitivity at two specificities, average precision, prevalence and six metrics of
verdicts, at the levels of slices and subjects; then the strata and the other tumour sizes, which
every run has too. Bound: 20 s for the first on two cores.

Beside it, in turns, a bootstrap as one writes it with scikit-learn: draw subjects, put their slices
together, call ``roc_auc_score`` (whole and partial), ``average_precision_score`` and ``roc_curve``,
again and again. A few of its resamples of one score are timed and multiplied; ours are the whole
evaluation of that score, which has the matched and adjusted AUROCs, subjects, verdicts and strata
besides.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from measuring import Row, ratios, row, write_part

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


def naive(table: pd.DataFrame, name: str, tumour_px: int, resamples: int) -> None:
    """A bootstrap over subjects with scikit-learn, of five metrics of one score."""
    from sklearn.metrics import average_precision_score, roc_auc_score, roc_curve

    rows = table[(table["role"] == "mixed") & (table["split"] == "test")]
    groups = [group for _, group in rows.groupby("subject")]
    rng = np.random.default_rng(0)
    for _ in range(resamples):
        drawn = pd.concat([groups[i] for i in rng.integers(0, len(groups), len(groups))])
        truth, score = (drawn["tumour_px"] > tumour_px).to_numpy(), drawn[name].to_numpy()
        roc_auc_score(truth, score)
        roc_auc_score(truth, score, max_fpr=0.1)
        average_precision_score(truth, score)
        fpr, tpr, _ = roc_curve(truth, score)
        [tpr[fpr <= share].max() for share in (0.05, 0.01)]


def against_naive(
    table: pd.DataFrame, options: EvaluationConfig, rounds: int, few: int = 20
) -> Row:
    """All of ours beside five metrics of the naive bootstrap, for one score."""
    names = [name for name in table.columns if name.startswith(("score_", "trivial_"))]
    one = table.drop(columns=[name for name in names if name != "score_1"])
    calibration = calibrate(one, DecisionConfig(score="score_1", scan_percentile=90))
    tumour_px = options.headline_min_tumour_px
    ours, theirs = [], []
    for _ in range(rounds):
        started = time.process_time()
        naive(one, "score_1", tumour_px, few)
        theirs.append((time.process_time() - started) * options.resamples / few)
        started = time.process_time()
        evaluate(one, calibration, options)
        ours.append(time.process_time() - started)
    return row(
        f"scikit-learn and a naive bootstrap, one score, {len(one):,} rows",
        "evaluate",
        ratios(theirs, ours),
        note=f"{few} of its {options.resamples:,} resamples timed, five metrics; ours gives all",
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--scores", type=int, default=30)
    parser.add_argument("--subjects", type=int, default=40)
    parser.add_argument("--slices", type=int, default=125)
    parser.add_argument("--rounds", type=int, default=3, help="of turns with the naive bootstrap")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    table = simulated(options.scores, options.subjects, options.slices)
    calibration = calibrate(table, DecisionConfig(score="score_1", scan_percentile=90))
    everything = EvaluationConfig()
    headline = everything.model_copy(update={"min_tumour_px": (50,)})
    judged = options.subjects * options.slices
    print(
        f"{options.scores} scores, {judged:,} slices of "
        f"{options.subjects} subjects, {everything.resamples:,} resamples"
    )
    one, more = "metrics at one tumour size, and strata", "metrics at nine sizes, and strata"
    took = timed(one, lambda: evaluate(table, calibration, headline))
    whole = options.scores >= 30 and judged >= 5000  # as the bound says
    rows = [
        row(f"evaluate, {judged:,} judged slices, {options.scores} scores: {one}", "", [took], "s",
            most=BOUND if whole else None)
    ]  # fmt: skip
    for what, work in (
        (more, lambda: evaluate(table, calibration, everything)),
        ("audit", lambda: audit(table, calibration, everything)),
    ):
        rows.append(row(f"the same table: {what}", "", [timed(what, work)], "s"))
    rows.append(against_naive(table, headline, options.rounds))
    write_part(options.out, rows)


if __name__ == "__main__":
    main()
