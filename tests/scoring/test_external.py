"""A score and a map from another package, found by their entry point."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from test_scores import MODELS, SIDE, batch, brains

from twinvae.errors import ConfigError
from twinvae.scoring import MAPS, SCORES, select_scores
from twinvae.scoring.registry import load_external

CODE = '''
from twinvae.scoring.registry import abnormality_map
from twinvae.scoring.registry import score


@score("outside_mean", "mean of x over all pixels", "a package of someone else")
def outside_mean(batch):
    """Mean."""
    return batch.x.flatten(1).mean(1)


@abnormality_map("outside_square", "the square of x", "a package of someone else")
def outside_square(batch):
    """x²."""
    return batch.x.square()
'''


def package(folder: Path, name: str, code: str) -> Path:
    """A package as an installer would leave it: a module and its metadata."""
    (folder / f"{name}.py").write_text(code)
    metadata = folder / f"{name}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[twinvae.scores]\n{name} = {name}\n")
    return folder


@pytest.fixture
def registries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Registries that forget afterwards what this test adds."""
    scores, maps = dict(SCORES), dict(MAPS)
    yield
    for registry, before in ((SCORES, scores), (MAPS, maps)):
        registry.clear()
        registry.update(before)


@pytest.mark.usefixtures("registries")
def test_score_and_map_from_outside_are_computed_like_any_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(package(tmp_path, "outside_scores", CODE))
    load_external()
    load_external()  # once is enough
    x, brain = brains()
    names = ["outside_mean", "outside_square_local", "outside_square"]
    chosen = [s for s in select_scores(names, MODELS) if s.name in names]
    with torch.no_grad():
        found = {entry.name: entry.compute(batch(x, brain)) for entry in chosen}
    torch.testing.assert_close(found["outside_mean"], x.flatten(1).mean(1))
    torch.testing.assert_close(found["outside_square"], x.square().flatten(1).sum(1))
    assert found["outside_square_local"].shape == (5,)
    assert x.shape[-1] == SIDE


@pytest.mark.usefixtures("registries")
def test_broken_package_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(package(tmp_path, "broken_scores", "import no_such_thing"))
    with pytest.raises(ConfigError, match=r"broken_scores .*no_such_thing"):
        load_external()


def test_score_from_outside_is_listed(tmp_path: Path) -> None:
    places = [str(package(tmp_path, "outside_scores", CODE)), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, places))}
    command = [sys.executable, "-m", "twinvae", "scores", "list"]
    listed = subprocess.run(
        command, env=environment, check=True, capture_output=True, text=True, timeout=120
    ).stdout
    assert "outside_mean" in listed
    assert "outside_square_local" in listed
    assert "latent_fisher_rao" in listed
