"""Peers on the very slices of a finished run: PyOD's outlier detectors on the models' encodings.

    python benchmarks/peers.py RUN [-o RUN/peers.tsv]
    twinvae evaluate RUN/peers.tsv -o OUT

Writes the run's table of scores with a column more for each detector and model, such as
``pyod_knn_mixed``. Detectors see the posterior means of the run's healthy training slices and
nothing else: no label, no slice that is scored. Their settings are PyOD's own. docs/peers.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Protocol

import twinvae  # noqa: F401  first, since it tells OpenMP not to spin

# isort: split
import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray

from twinvae.errors import ConfigError, StageError, TwinvaeError
from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run
from twinvae.scoring import Models, batches, read_scores, scored_rows, write_scores
from twinvae.training import Compute

Array = NDArray[np.float64]
ALONE = ("ecod",)
"""Detectors that would learn from the slices they are asked about: asked about one at a time.

PyOD's ECOD joins them to its training set and counts anew, so that a slice's score would depend
on how many tumours were scored along with it.
"""


class Detector(Protocol):
    """PyOD's contract: fitted on (n, features), then one score a row, larger = more abnormal."""

    def fit(self, encodings: Array) -> object: ...

    def decision_function(self, encodings: Array) -> Array: ...


def detectors(seed: int) -> dict[str, Detector]:
    """New detectors by short name; ``ConfigError`` without PyOD."""
    try:
        from pyod.models.ecod import ECOD
        from pyod.models.iforest import IForest
        from pyod.models.knn import KNN
        from pyod.models.lof import LOF
        from pyod.models.ocsvm import OCSVM
    except ModuleNotFoundError as error:
        raise ConfigError(f"expected PyOD, found none ({error}); pip install '.[peers]'") from None
    return {
        "ecod": ECOD(),
        "iforest": IForest(random_state=seed),
        "knn": KNN(),
        "lof": LOF(),
        "ocsvm": OCSVM(),
    }


def encodings(run: Run, store: SliceStore, rows: NDArray[np.int64]) -> dict[str, Array]:
    """Posterior means (len(rows), latent) of ``rows`` by each model that has an encoding."""
    compute = Compute.resolve(run.config.compute)
    models = Models.load(run.models).to(compute.device)
    able = [role for role in ("healthy", "mixed") if getattr(models, role).has_encoding]
    if not able:
        raise ConfigError(f"{run.models}: expected a model with an encoding, found none")
    parts: dict[str, list[Array]] = {role: [] for role in able}
    for batch in batches(store, rows, models, run.config.scoring, compute):
        with torch.no_grad():
            for role in able:
                posterior = batch.posterior if role == "mixed" else batch.healthy_posterior
                parts[role].append(posterior.mean.double().cpu().numpy())
    return {role: np.concatenate(means) for role, means in parts.items()}


def peer_scores(
    train: Mapping[str, Array], scored: Mapping[str, Array], seed: int
) -> Iterator[tuple[str, Array]]:
    """Column name and scores of every detector on every model's encodings, by role as given."""
    for role, encoded in scored.items():
        for name, detector in detectors(seed).items():
            detector.fit(train[role])
            parts = np.split(encoded, len(encoded)) if name in ALONE else [encoded]
            scores = np.concatenate([detector.decision_function(part) for part in parts])
            yield f"pyod_{name}_{role}", scores


def require_same_slices(scores: pd.DataFrame, store: SliceStore, run: Run) -> None:
    """Raise ``StageError`` unless row for row ``scores`` is about ``scored_rows(store)``."""
    mine = store.index.iloc[scored_rows(store)]
    keys = ["source", "subject", "slice"]
    if scores[keys].astype(str).to_numpy().tolist() != mine[keys].astype(str).to_numpy().tolist():
        raise StageError(
            f"{run.scores}: expected the {len(mine)} slices of {run.slices} that are not of "
            f"training scans, in order, found others ({len(scores)}); run score again"
        )


def peers_table(run: Run) -> pd.DataFrame:
    """The run's table of scores with the peers' columns; says how long each took."""
    scores, store = read_scores(run.scores), SliceStore.open(run.slices)
    require_same_slices(scores, store, run)
    healthy = store.select("healthy", "train")
    if not len(healthy):
        raise StageError(f"{run.slices}: expected healthy training slices, found none")
    rows, seed = scored_rows(store), run.config.seed
    found = peer_scores(encodings(run, store, healthy), encodings(run, store, rows), seed)
    started = time.process_time()
    for name, column in found:
        scores[name] = column
        print(f"{name:29} {time.process_time() - started:7.1f} s of processor time", flush=True)
        started = time.process_time()
    return scores


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a finished run")
    parser.add_argument("-o", "--out", type=Path, help="table to write; by default RUN/peers.tsv")
    options = parser.parse_args()
    out = options.out or options.run / "peers.tsv"
    try:
        run = Run.open(options.run)
        write_scores(out, peers_table(run))
    except TwinvaeError as error:
        raise SystemExit(f"peers: {error}") from None
    print(f"{out}: judge it with twinvae evaluate {out} -o FOLDER")


if __name__ == "__main__":
    main()
