"""The examples of docs/architecture.md: each is run as it stands there, and does what it says."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tiny import tiny_config
from twinvae.cohort.layouts import LAYOUTS, index_layout
from twinvae.config import ModelConfig
from twinvae.decision import calibrate
from twinvae.decision.rules import RULES
from twinvae.imaging import ScanFiles
from twinvae.imaging.scan import load_scan
from twinvae.imaging.steps import apply_step
from twinvae.models import MODELS, build_model
from twinvae.runs.folder import Run
from twinvae.scoring import SCORES, read_scores

PAGE = Path(__file__).parents[1] / "docs" / "architecture.md"


@pytest.fixture(autouse=True)
def registries() -> Iterator[None]:
    """What an example registers is gone afterwards."""
    kept: list[tuple[dict[str, Any], dict[str, Any]]] = [
        (one, dict(one))
        for one in (SCORES, MODELS, LAYOUTS, RULES)  # type: ignore[list-item]
    ]
    yield
    for one, before in kept:
        one.clear()
        one.update(before)


def run_example(title: str) -> dict[str, Any]:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(rf"^### {title}$.*?```python\n(.*?)```", text, re.MULTILINE | re.DOTALL)
    assert len([line for line in code.splitlines() if line.strip()]) <= 13
    names: dict[str, Any] = {}
    exec(compile(code, f"architecture.md, {title}", "exec"), names)
    return names


class Slices:
    """What the score looks at of a batch of three slices."""

    x = torch.linspace(0, 1, 3 * 16).view(3, 1, 4, 4)
    x_h = torch.zeros(3, 1, 4, 4)
    brain = torch.ones(3, 1, 4, 4, dtype=torch.bool)


def test_a_score() -> None:
    run_example("A score")
    found = SCORES["image_median"].compute(Slices())  # type: ignore[arg-type]
    assert torch.allclose(found, Slices.x.flatten(1).quantile(0.5, dim=1))


def test_a_model() -> None:
    run_example("A model")
    options = {"encoder_channels": [4, 8], "decoder_channels": [4], "latent_size": 3}
    config = ModelConfig(kind="root_vae", image_size=16, **options)  # type: ignore[arg-type]
    x = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    plain = build_model(config.model_copy(update={"kind": "vae"}), seed=1).eval()
    root = build_model(config, seed=1).eval()
    assert torch.equal(root.encode(x).mean, plain.encode(x.sqrt()).mean)


def test_a_layout(tmp_path: Path) -> None:
    run_example("A layout")
    for number in (17, 18, 19):
        (tmp_path / f"clinic_0{number}_t2.nii.gz").touch()
    table = index_layout(tmp_path, "auto", "mixed", "clinic", "T2w")
    assert list(table["subject"]) == ["017", "018", "019"]


def test_a_rule(tiny_run: Run) -> None:
    run_example("A rule")
    scores = read_scores(tiny_run.scores)
    decision = tiny_config().decision.model_copy(update={"rule": "halves"})
    found = calibrate(scores, decision)["scores"]["latent_l2"]["slice"]
    healthy = scores[(scores["role"] == "healthy") & (scores["split"] == "val")]
    area = healthy["brain_px"] * healthy["spacing_mm"] ** 2
    (edge,) = found["shape"]["size_edges"]
    assert edge == pytest.approx(np.median(area))


def test_a_step(tiny_scan: Path) -> None:
    names = run_example("A step")
    scan = load_scan(ScanFiles(subject="one", image=tiny_scan))
    scan = replace(scan, image=scan.image / scan.image.max())
    assert np.array_equal(apply_step(names["Root"](), scan, {}).image, np.sqrt(scan.image))
