"""Runs of several contrasts of the same generated people, fused and packed, made once."""

from __future__ import annotations

from pathlib import Path

import pytest

from label_phantom import labels, write_labels
from tiny import tiny_config
from twinvae.detection.shipped import CARD_SECTIONS
from twinvae.imaging import SliceStore
from twinvae.runs.folder import Run
from twinvae.runs.fuse import fuse_runs
from twinvae.runs.pack import ship_composite
from twinvae.runs.stages import run_stages

CONTRASTS = ("T2w", "FLAIR", "T1w")
SCORE = {"T2w": "residual_local", "FLAIR": "residual_local", "T1w": "image_l2"}


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A finished run of each contrast, of the same generated people."""
    place = tmp_path_factory.mktemp("fuse")
    maps = place / "labels"
    write_labels(maps / "a.nii.gz", labels())
    found = {}
    for contrast in CONTRASTS:
        people = {"healthy": 14, "mixed": 8, "spacing_mm": 4.0, "seed": 3,
                  "labels": str(maps), "contrast": contrast}  # fmt: skip
        config = tiny_config(
            name=contrast, contrast=contrast, cohort__phantom=people,
            cohort__split={"train": 0.4, "val": 0.4, "test": 0.2},
            training__healthy__epochs=1, training__mixed__epochs=1,
            scoring__scores=["residual_local", "image_l2"], decision__score=SCORE[contrast],
            decision__percentiles=[80.0], decision__rule="conformal",
            decision__scan_rule="conformal",
        )  # fmt: skip
        run = Run.create(config, place / contrast)
        run_stages(run, until="calibrate")
        found[contrast] = run.folder
    return found


@pytest.fixture(scope="session")
def fused(runs: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("fused") / "all"
    assert fuse_runs(runs, out).notes == ()
    return out


@pytest.fixture(scope="session")
def card(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("card") / "card.md"
    path.write_text("# Tiny\n\nNot for clinical use.\n" + "".join(
        f"\n## {section}\n\nNothing.\n" for section in CARD_SECTIONS
    ))  # fmt: skip
    return path


@pytest.fixture(scope="session")
def composite(fused: Path, card: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("bundles") / "any"
    ship_composite(fused, {}, card, out)
    return out


def scans_of(runs: dict[str, Path], subject: str) -> dict[str, Path]:
    role = "healthy" if "H" in subject else "mixed"
    anat = Path("cohort", role, f"sub-{subject}", "anat")
    return {c: run / anat / f"sub-{subject}_{c}.nii.gz" for c, run in runs.items()}


def a_patient(runs: dict[str, Path]) -> str:
    index = SliceStore.open(runs["T2w"] / "slices").index
    mine = index[(index["role"] == "mixed") & (index["split"] == "test")]
    return str(mine["subject"].iloc[0])
