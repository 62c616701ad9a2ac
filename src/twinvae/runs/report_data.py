"""Gathers, from a run's files, everything its report is made from."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.config import dump_config
from twinvae.decision import Calibration
from twinvae.evaluation import read_metrics
from twinvae.files import read_json
from twinvae.imaging import SliceStore, unit_images
from twinvae.imaging.quality import read_flags
from twinvae.models import SHARED, twin_folders
from twinvae.reporting.contact_sheets import summarise_flags
from twinvae.reporting.gallery import (
    Gallery,
    captions,
    choose_slices,
    worst_captions,
    worst_slices,
)
from twinvae.reporting.report import ReportMaterial
from twinvae.runs.folder import Run
from twinvae.scoring import (
    AbnormalityMap,
    Models,
    moved,
    read_fitted,
    read_scores,
    score_batches,
    scored_rows,
)
from twinvae.scoring.deciding import deciding_map
from twinvae.training import Compute

_TITLES = {
    "healthy": "VAE-H, healthy slices",
    "mixed": "VAE, mixed slices",
    SHARED: "one model, slices of both roles",
}


def report_material(run: Run) -> ReportMaterial:
    """Read a run's tables, logs and slices; the galleries' pictures are made anew."""
    judged = judged_tables(run)
    store = SliceStore.open(run.slices)
    galleries = _Galleries.of(run, store)
    scores, size = judged["scores"], run.config.evaluation.headline_min_tumour_px
    wrong, missed = worst_slices(scores, judged["calibration"], size)
    return ReportMaterial(
        **judged,
        logs={title: log for title, f in _trained(run).items() if (log := _log(f))},
        mixed=galleries.typical(scores, choose_slices(scores, "mixed", size), masks=True),
        healthy=galleries.typical(scores, choose_slices(scores, "healthy", size), masks=False),
        false_positives=galleries.mistakes(scores, wrong, judged["calibration"]),
        false_negatives=galleries.mistakes(scores, missed, judged["calibration"]),
        made=_made(run, judged["calibration"]),
        skipped=store.skipped[["image", "reason"]].to_numpy().tolist(),
        flags=summarise_flags(read_flags(run.flags)) if run.flags.is_file() else None,
    )


def judged_tables(run: Run) -> dict[str, Any]:
    """What every report stands on: the configuration, the scores and how they were judged."""
    return {
        "config": dump_config(run.config),
        "scores": read_scores(run.scores),
        "calibration": Calibration(read_json(run.calibration)),
        "metrics": read_metrics(run.folder / "metrics.tsv"),
        "audit": read_json(run.folder / "audit.json"),
    }


@dataclass(frozen=True)
class _Galleries:
    """Pictures of the rows of a run's scores."""

    run: Run
    store: SliceStore
    rows: NDArray[np.int64]
    """For each row of the scores, that of the store."""
    models: Models
    compute: Compute

    @classmethod
    def of(cls, run: Run, store: SliceStore) -> Self:
        compute = Compute.resolve(run.config.compute)
        models = Models.load(run.models).to(compute.device)
        return cls(run, store, scored_rows(store), models, compute)

    def typical(self, scores: pd.DataFrame, chosen: NDArray[np.int64], *, masks: bool) -> Gallery:
        """Slices chosen without looking at scores, and VAE-H's idea of them."""
        gallery = self._drawn(chosen, captions(scores, chosen, self.run.config.decision.score))
        return gallery if masks else replace(gallery, masks=None)

    def mistakes(
        self, scores: pd.DataFrame, chosen: NDArray[np.int64], calibration: Calibration
    ) -> Gallery:
        """Slices that verdicts are wrong about, with the map behind the verdicts' score."""
        shown = deciding_map(calibration["decision_score"], self.models).source
        return self._drawn(chosen, worst_captions(scores, chosen, calibration), shown)

    def _drawn(
        self, chosen: NDArray[np.int64], said: Sequence[str], shown: AbnormalityMap | None = None
    ) -> Gallery:
        rows = self.rows[chosen]
        images, brain = unit_images(self.store.images[rows]), self.store.brain[rows]
        x_h, maps = np.zeros_like(images), np.zeros_like(images)
        fitted = moved(read_fitted(self.run.fitted), self.compute.device)
        for batch in score_batches(
            self.store, rows, self.models, self.run.config.scoring, self.compute,
            maps=[] if shown is None else [shown], x_h=True, fitted=fitted,
        ):  # fmt: skip
            x_h[batch.at] = batch.x_h
            if shown is not None:
                maps[batch.at] = batch.maps[shown.name]
        return Gallery(
            images=images,
            reconstructions=x_h * brain,
            captions=said,
            masks=self.store.tumour[rows].astype(bool),
            maps=None if shown is None else maps * brain,
            map_name="" if shown is None else shown.name.replace("_", " "),
        )


def _trained(run: Run) -> dict[str, Path]:
    """Every trained model of the run: what it is called, and its folder."""
    return {_TITLES[f.name]: f for f in twin_folders(run.models).values()}


def _log(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "log.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


def _made(run: Run, calibration: Calibration) -> dict[str, object]:
    """How the run was made, for the reader; no times, so that equal runs give equal pages."""
    facts = read_json(run.folder / "run.json")
    versions = ", ".join(f"{name} {v}" for name, v in facts["versions"].items() if v)
    trained = {title: read_json(f / "trained.json") for title, f in _trained(run).items()}
    return {
        "Seed": run.config.seed,
        "Source revision": facts["git_revision"] or "installed package",
        "Versions": f"Python {facts['python']}, {versions}",
        "Precision": run.config.compute.precision,
        **_thresholds(calibration),
        **{
            f"Trained: {title}": f"{fact['parameters']:,} parameters"
            for title, fact in trained.items()
        },
    }


def _thresholds(calibration: Calibration) -> dict[str, object]:
    """What verdicts rest on, for the reader."""
    rule, scans = calibration["rule"], calibration["scan_rule"]
    return {
        "Thresholds of slices": f"{rule['name'].replace('_', ' ')}: {rule['summary']}. "
        f"Guarantee: {rule['guarantee']}. Assumes: {rule['assumes']}.",
        "Thresholds of scans": f"{scans['summary']}. Guarantee: {scans['guarantee']}.",
        "Set on": calibration["origin"]["says"],
    }
