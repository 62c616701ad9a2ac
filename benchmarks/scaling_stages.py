"""Stages of benchmarks/scaling.py: their sizes, synthetic inputs, and the call that is measured.

A stage is a function of a folder and a size that makes the input and gives back the call. Imports
stand inside: each point is a process that loads only what its stage needs.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from measuring import forget_peak, held_gib, peak_gib

Call = Callable[[], object]
SLICES = 125  # of a simulated subject
_SCORES = 3
_RESAMPLES = 200
_FACTOR = 4


@dataclass(frozen=True)
class Stage:
    """One line of the figure."""

    make: Callable[[Path, int], Call]
    unit: str
    """What n counts."""
    start: int
    steps: int
    quick_start: int

    def sizes(self, *, quick: bool = False) -> list[int]:
        """The ladder: n, 4n, 16n, and further."""
        first, steps = (self.quick_start, 3) if quick else (self.start, self.steps)
        return [first * _FACTOR**step for step in range(steps)]


def measured_point(stage: str, n: int, room: Path, memory: float) -> dict[str, float]:
    """Make the input, make the call, and say what it took. ``memory``: GiB it may hold.

    A second, tiny one goes first, so that imports and first calls are not counted.
    """
    limit = int(memory * 2**30)
    one = STAGES[stage]
    for name in ("first", "measured"):
        (room / name).mkdir()
    one.make(room / "first", max(1, one.quick_start // _FACTOR))()
    call = one.make(room / "measured", n)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    forget_peak()
    before, wall, cpu = held_gib(), time.perf_counter(), time.process_time()
    call()
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = peak_gib()
    added = max(0.0, peak - before)
    return {"seconds": wall, "cpu": cpu, "peak_gib": peak, "added_gib": added}


def index(room: Path, n: int) -> Call:
    """Empty files in BIDS folders, listed, split, and written as a manifest."""
    from twinvae.config import SourceConfig, SplitConfig
    from twinvae.runs.stages import write_index

    for number in range(n):
        folder = room / "bids" / f"sub-{number:06d}" / "anat"
        folder.mkdir(parents=True)
        (folder / f"sub-{number:06d}_T2w.nii.gz").touch()
    sources = [SourceConfig(path=room / "bids", role="healthy", layout="bids")]
    return lambda: write_index(sources, "T2w", SplitConfig(), room / "manifest.tsv")


def prepare(room: Path, n: int) -> Call:
    """Scans of 24×28×16 voxels, no two alike, through the paper's recipe, in one process."""
    import nibabel as nib
    import numpy as np

    from twinvae.cohort.manifest import manifest_table, write_manifest
    from twinvae.config import load_config
    from twinvae.imaging import prepare_cohort

    shape, affine = (24, 28, 16), np.diag([7.0, 7.0, 9.0, 1.0])
    grid = np.meshgrid(*(np.linspace(-1, 1, size) for size in shape), indexing="ij")
    brain = sum((axis / 0.9) ** 2 for axis in grid) < 1
    draw, rows = np.random.default_rng(0), []
    for number in range(n):
        path = room / f"{number:06d}.nii"
        image = (brain * draw.integers(300, 900, shape)).astype(np.int16)
        nib.save(nib.Nifti1Image(image, affine), path)
        split = ("train", "val", "test")[number % 3]
        who = {"subject": path.stem, "source": "s", "role": "mixed", "split": split}
        rows.append({**who, "image": str(path)})
    write_manifest(manifest_table(rows), room / "manifest.tsv")
    steps = load_config("paper").recipe
    return lambda: prepare_cohort(room / "manifest.tsv", steps, room / "slices", jobs=1)


def score(room: Path, n: int) -> Call:
    """Random slices of 32×32 pixels on disk, 20 a scan, by tiny networks and the default scores."""
    import numpy as np
    import pandas as pd

    from twinvae.config import ComputeConfig, ModelConfig, ScoringConfig
    from twinvae.imaging import SliceStore
    from twinvae.imaging.store import Block
    from twinvae.models import build_model
    from twinvae.scoring import Models, score_and_fit, scored_rows, select_scores, write_scores
    from twinvae.training import Compute

    side, a_scan = 32, 20
    scans = max(6, n // a_scan)

    def blocks() -> Any:
        draw = np.random.default_rng(0)
        for scan in range(scans):
            split = ("train", "val", "test")[scan % 3]
            images = draw.integers(1, 65535, (a_scan, side, side)).astype(np.uint16)
            number = np.arange(a_scan)
            table = pd.DataFrame(
                {"subject": f"s{scan:06d}", "session": "", "source": "s",
                 "role": "healthy" if scan % 2 else "mixed", "split": split,
                 "slice": number, "position": number / a_scan, "brain_px": 9000,
                 "tumour_px": pd.array([0] * a_scan, "Int64"), "spacing_mm": 1.0, "pixel_mm": 6.0}
            )  # fmt: skip
            ones = np.ones(images.shape, np.uint8)
            yield Block(images, ones, np.zeros_like(ones), table)

    store = SliceStore.write(room / "slices", blocks(), slices=scans * a_scan, size=side)
    config = ModelConfig(
        image_size=side, encoder_channels=(4, 8, 16), decoder_channels=(8, 4), latent_size=8
    )
    models = Models(build_model(config, 0).eval(), build_model(config, 1).eval())
    options = ScoringConfig()
    compute = Compute.resolve(ComputeConfig(threads=1, device="cpu"))

    def call() -> None:
        scores = select_scores(options.scores, models)
        table, _ = score_and_fit(store, scored_rows(store), models, scores, options, compute)
        write_scores(room / "scores.tsv", table)

    return call


def _table(n: int) -> Any:
    from evaluation_cost import simulated

    return simulated(_SCORES, max(4, round(n / 3 / SLICES)), SLICES)


def _decision() -> Any:
    from twinvae.config import DecisionConfig

    return DecisionConfig(score="score_1", scan_percentile=50)


def _evaluation() -> Any:
    from twinvae.config import EvaluationConfig

    return EvaluationConfig(min_tumour_px=(50,), resamples=_RESAMPLES)


def read(room: Path, n: int) -> Call:
    """A table of scores read and checked."""
    from twinvae.files import write_table
    from twinvae.scoring import read_scores

    write_table(room / "scores.tsv", _table(n))
    return lambda: read_scores(room / "scores.tsv")


def calibrate(room: Path, n: int) -> Call:
    """Thresholds by the default rule, a third of the rows healthy validation slices."""
    from twinvae.decision import calibrate as set_thresholds

    del room
    table, decision = _table(n), _decision()
    return lambda: set_thresholds(table, decision)


def evaluate(room: Path, n: int) -> Call:
    """Metrics with intervals of 200 resamples, a third of the rows mixed test slices."""
    from twinvae.decision import calibrate as set_thresholds
    from twinvae.evaluation import evaluate as judge

    del room
    table, options = _table(n), _evaluation()
    thresholds = set_thresholds(table, _decision())
    return lambda: judge(table, thresholds, options)


def report(room: Path, n: int) -> Call:
    """The page of a large table; its metrics, whose number does not grow, are those of a part."""
    from twinvae.config import dump_config
    from twinvae.decision import Calibration
    from twinvae.decision import calibrate as set_thresholds
    from twinvae.evaluation import audit
    from twinvae.evaluation import evaluate as judge
    from twinvae.reporting.report import ReportMaterial, write_report

    table, part, options = _table(n), _table(min(n, 15_000)), _evaluation()
    few = options.model_copy(update={"resamples": 20})
    thresholds = Calibration(set_thresholds(part, _decision()))
    metrics, found = judge(part, thresholds, few), audit(part, thresholds, few)
    config = {"name": "scaling", "about": "", "evaluation": dump_config(options),
              "decision": dump_config(_decision())}  # fmt: skip
    material = ReportMaterial(config, table, thresholds, metrics, found)
    return lambda: write_report(material, room)


def detect(room: Path, n: int) -> Call:
    """Links to one generated scan of BraTS's size, judged by a bundle of the package."""
    from prepare import brats_like

    from twinvae.detection.detect import detect_scans

    (scan,) = brats_like(room, 1)
    links = [room / f"link-{number:05d}-t2w.nii.gz" for number in range(n)]
    for link in links:
        link.symlink_to(scan)
    return lambda: detect_scans(Path("t2w"), links, room / "found", force=True, threads=1)


STAGES = {
    "index": Stage(index, "scans", 6_250, 3, 100),
    "prepare": Stage(prepare, "scans", 100, 4, 20),
    "score": Stage(score, "slices", 2_500, 4, 500),
    "read scores": Stage(read, "rows", 39_000, 5, 2_000),
    "calibrate": Stage(calibrate, "rows", 39_000, 5, 2_000),
    "evaluate": Stage(evaluate, "rows", 9_750, 6, 2_000),
    "report": Stage(report, "rows", 39_000, 5, 2_000),
    "detect": Stage(detect, "scans", 4, 3, 1),
}
