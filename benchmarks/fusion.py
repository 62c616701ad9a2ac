"""What the fused score of several contrasts gains over single ones, with the package's bundles.

    python benchmarks/fusion.py /path/to/scans -o runs/fusion

Thresholds and scales come from 40 healthy generated brains; judged are 24 generated patients and,
apart from them, the BraTS patients with a tumour mask in `brats2021` and `brats2023` of the folder,
which must also hold `labelmaps`. Nothing is trained. About half an hour on two cores.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd

from twinvae.cohort import index_sources, write_manifest
from twinvae.config import SourceConfig, SplitConfig, load_config
from twinvae.detection.shipped import shipped_bundles
from twinvae.evaluation import read_metrics
from twinvae.runs.folder import Run
from twinvae.runs.stages import run_stages
from twinvae.scoring import read_scores, write_scores

CONFIG = Path(__file__).parents[1] / "configs" / "bundle.yaml"
BUNDLES = {"T2w": "t2w", "FLAIR": "flair", "T1w": "t1w"}
TRAIN = 6  # healthy brains that the z-score rival learns from


def twinvae(*words: object) -> None:
    subprocess.run([sys.executable, "-m", "twinvae", *map(str, words)], check=True)


def manifest(data: Path, cohort: Path, contrast: str, out: Path) -> None:
    sources = [
        SourceConfig(path=cohort / "healthy", role="healthy", source="phantom"),
        SourceConfig(path=cohort / "mixed", role="mixed", source="phantom"),
        *(SourceConfig(path=data / year, role="mixed") for year in ("brats2021", "brats2023")),
    ]
    table = index_sources(sources, contrast, SplitConfig())
    table = table[(table["role"] == "healthy") | (table["tumour_mask"] != "")]
    healthy = table["role"] == "healthy"
    first = sorted(table.loc[healthy, "subject"])[:TRAIN]
    table = table.assign(split="test")
    table.loc[healthy, "split"] = "val"
    table.loc[healthy & table["subject"].isin(first), "split"] = "train"
    write_manifest(table, out)


def scored(data: Path, contrast: str, out: Path) -> Path:
    name = BUNDLES[contrast]
    cohort, listed, folder = out / "cohorts" / contrast, out / f"{contrast}.tsv", out / name
    twinvae("phantom", cohort, "--labels", data / "labelmaps", "--contrast", contrast,
            "--healthy", TRAIN + 40, "--mixed", 24, "--seed", 21)  # fmt: skip
    manifest(data, cohort, contrast, listed)
    bundle = shipped_bundles()[name]
    os.environ["TWINVAE_CONTRAST"] = contrast
    deciding = load_config(bundle / "config.yaml").decision.score
    config = load_config(CONFIG, {
        "scoring.scores": [deciding], "scoring.maps": [],
        "contrast": contrast, "name": name, "cohort.sources": [], "cohort.manifest": str(listed),
        "training.healthy.start": str(bundle / "models" / "healthy"),
        "training.mixed.start": str(bundle / "models" / "mixed"),
        "decision.score": deciding,
    })  # fmt: skip
    run_stages(Run.create(config, folder), until="calibrate")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("data", type=Path)
    parser.add_argument("-o", "--out", type=Path, required=True)
    given = parser.parse_args()
    data, out = given.data.resolve(), given.out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    runs = {contrast: scored(data, contrast, out) for contrast in BUNDLES}
    twinvae("fuse", *(f"{c}={run}" for c, run in runs.items()), "-o", out / "mixed")
    fused = read_scores(out / "all" / "scores.tsv")
    for kind, real in (("generated", False), ("real", True)):
        part = fused[(fused["role"] == "healthy") | ((fused["source"] != "phantom") == real)]
        write_scores(out / f"{kind}.tsv", part)
        twinvae("evaluate", out / f"{kind}.tsv", "-o", out / f"judged-{kind}")
        metrics = read_metrics(out / f"judged-{kind}" / "metrics.tsv")
        chosen = metrics["metric"].isin(["auroc", "auroc_matched"]) & (
            metrics["min_tumour_px"] == 50
        )
        rows = metrics[chosen & (metrics["level"] == "slice") & (metrics["subset"] == "mixed")]
        print(f"\n{kind} patients, k = 50 pixels")
        print(
            rows.pivot_table(index="score", columns="metric", values="value").round(3).to_string()
        )


if __name__ == "__main__":
    pd.set_option("display.width", 120)
    main()
