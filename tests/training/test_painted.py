"""Slabs painted on label maps as training goes: the anatomy's, in any contrast."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from label_phantom import labels, write_labels
from twinvae.cohort.phantom.labels import NAMES
from twinvae.config import ModelConfig, TrainConfig
from twinvae.errors import ConfigError
from twinvae.models import build_model
from twinvae.training import Compute, fit
from twinvae.training.painted import PaintedSlabs, _Painting

CPU = Compute(torch.device("cpu"), bf16=False)
SIZE, MANY = 32, np.arange(24)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("labels")
    write_labels(out / "a.nii.gz", labels())
    write_labels(out / "b.nii.gz", labels(shift=(3, -6, 5), scale=1.06))
    return out


@pytest.fixture(scope="module")
def painted(folder: Path) -> PaintedSlabs:
    return PaintedSlabs.of_folder(folder, SIZE, slabs=48, watched=8)


def slabs(painted: PaintedSlabs, seed: int) -> torch.Tensor:
    return painted.batch(MANY, CPU.device, torch.Generator().manual_seed(seed))


def test_one_generator_gives_the_same_slabs_and_another_gives_others(painted) -> None:
    first = slabs(painted, 1)
    assert first.shape == (24, 3, SIZE, SIZE)
    assert first.dtype == torch.float32
    assert 0 <= first.min() < first.max() <= 1
    assert torch.equal(first, slabs(painted, 1))
    assert (first - slabs(painted, 2)).abs().mean() > 0.02


def test_the_brain_lies_in_the_middle_of_black_and_its_median_near_that_of_the_recipe(painted):
    found = slabs(painted, 3)
    border = torch.cat([found[..., 0], found[..., -1]]) > 0
    assert border.float().mean() < 0.02
    share = (found > 0).float().mean((1, 2, 3))
    assert (share > 0.04).all()
    assert share.max() < 0.75
    medians = [slab[slab > 0].median().item() for slab in found]
    assert np.median(medians) == pytest.approx(0.45, abs=0.08)


def test_neighbours_are_like_each_other_and_not_the_same(painted) -> None:
    found = slabs(painted, 4)
    near = (found[:, 0] - found[:, 1]).abs().mean()
    far = (found[1:, 1] - found[:-1, 1]).abs().mean()
    assert 0 < near < 0.6 * far


def test_rows_go_from_front_to_back_and_slices_from_below(painted) -> None:
    low = replace(painted, heights=tuple(h[:1] + 20 for h in painted.heights))
    painting = _Painting(low, 24, np.random.default_rng(0), torch.Generator().manual_seed(0))
    places = painting.places()
    x, y, z = places.unbind(1)
    assert (y[:, :, 0] > y[:, :, -1]).all()
    assert (z[:, 2].float().mean((1, 2)) > z[:, 0].float().mean((1, 2)) + 4).all()
    mirrored = (x[..., 0] < x[..., -1]).float().mean((1, 2))
    assert set(mirrored.tolist()) == {0.0, 1.0}  # half of the brains are
    tissue = painting._look_up(painted.tissue, places)
    rows = (tissue == 1 + NAMES.index("cerebellar_cortex")).nonzero()[:, 2].float()
    assert rows.mean() > 1.1 * (tissue > 0).nonzero()[:, 2].float().mean()


def test_tissue_has_its_contrast_s_signal_and_fluid_lies_between_folia_only(painted) -> None:
    painting = _Painting(painted, 2, np.random.default_rng(5), torch.Generator().manual_seed(5))
    places = painting.places()
    tissue = painting._look_up(painted.tissue, places).long()
    signal = painting.signal(tissue, places)
    for name in ("white", "cortex", "thalamus", "ventricles", "cerebellar_cortex"):
        for each, where, contrast in zip(
            signal, tissue == 1 + NAMES.index(name), painting.contrasts, strict=True
        ):
            if name == "cerebellar_cortex" and where.any():
                ends = sorted((contrast[name], contrast.tissue[0]))
                assert ends[0] - 1e-5 <= each[where].min() < each[where].max() <= ends[1] + 1e-5
            elif where.any():
                torch.testing.assert_close(
                    each[where], torch.full_like(each[where], contrast[name])
                )


def test_a_training_that_was_cut_off_gives_the_weights_of_a_whole_one(painted, tmp_path) -> None:
    config = ModelConfig(
        kind="slab_unet", image_size=SIZE, encoder_channels=(4, 8), decoder_channels=(4,)
    )
    options = TrainConfig(labels=tmp_path, batch_size=16, epochs=2)

    def train(place: Path, epochs: int, data: PaintedSlabs = painted) -> bytes:
        def stop(*_: object) -> None:
            raise KeyboardInterrupt

        with pytest.MonkeyPatch.context() as patch:
            if epochs < options.epochs:
                patch.setitem(fit.__globals__, "learning_rate", _until(epochs))
            try:
                fit(build_model(config, 0), data, options, CPU, seed=3, folder=place, label="x")
            except KeyboardInterrupt:
                return b""
        return (place / "weights.safetensors").read_bytes()

    whole = train(tmp_path / "whole", 2)
    assert train(tmp_path / "cut", 1) == b""
    assert train(tmp_path / "cut", 2) == whole
    other = replace(painted, tissue=painted.tissue.flip(0))
    assert other.content(MANY) != painted.content(MANY)
    assert train(tmp_path / "cut", 2, other) != whole


def _until(epochs: int):
    def rate(options: TrainConfig, progress: float) -> float:
        if progress * options.epochs >= epochs:
            raise KeyboardInterrupt
        return options.learning_rate

    return rate


def test_a_folder_without_label_maps_says_so(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no label maps"):
        PaintedSlabs.of_folder(tmp_path, SIZE, slabs=4)
