"""The healing U-Net removes what was planted and leaves the rest as it was."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from twinvae.config import ModelConfig
from twinvae.models import TrainingBatch, build_model, mirror
from twinvae.models.unets import HealingUNet

SIZE = 32


def healing(**options: object) -> HealingUNet:
    model = build_model(
        ModelConfig(
            kind="healing_unet", image_size=SIZE, encoder_channels=(8, 16), decoder_channels=(8,),
            options={"contrast": "T2w", "strength": (0.5, 1.0), "diameter_mm": (40, 70), **options},
        ),
        seed=0,
    )  # fmt: skip
    assert isinstance(model, HealingUNet)
    return model


def brains(n: int, seed: int) -> Tensor:
    """Symmetric discs with a smooth gradient from front to back; (n, 1, 32, 32)."""
    generator = torch.Generator().manual_seed(seed)
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    radius = 10 + 4 * torch.rand((n, 1, 1), generator=generator)
    inside = torch.hypot(y - 15.5, x - 15.5) < radius
    slope = torch.rand((n, 1, 1), generator=generator) * 0.01
    return ((0.35 + slope * (y - 15.5)) * inside).unsqueeze(1)


@pytest.mark.parametrize("mirrored", [True, False])
def test_it_learns_to_remove_what_it_was_not_shown(mirrored: bool) -> None:
    torch.manual_seed(0)
    model, generator = healing(mirror=mirrored), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(200):
        x = brains(16, seed=step)
        optimiser.zero_grad()
        model.loss(TrainingBatch(x, x), generator=generator).objective.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1000.0)
        optimiser.step()
    model.eval()
    healthy = brains(24, seed=1000)
    model.options.__dict__["planted"] = 1.0
    ill = model.with_lesions(healthy, healthy > 0, torch.Generator().manual_seed(7))
    with torch.no_grad():
        healed, kept = model.reconstruct(ill), model.reconstruct(healthy)
    before = (ill - healthy).square().mean()
    assert (healed - healthy).square().mean() < 0.35 * before
    assert (kept - healthy).square().mean() < 0.1 * before


def test_it_starts_from_the_slice_and_never_touches_the_background() -> None:
    model, x = healing().eval(), brains(4, seed=0)
    with torch.no_grad():
        model.correction.bias.fill_(0.2)
        x_h = model.reconstruct(x)
    assert torch.equal(x_h[x == 0], x[x == 0])
    assert (x_h[x > 0] != x[x > 0]).any()
    assert x_h.max() <= 1


def test_noise_outside_the_brain_is_as_absent_in_training_as_in_use() -> None:
    model, healthy = healing(), brains(4, seed=0)
    noise = 0.01 * torch.rand(healthy.shape, generator=torch.Generator().manual_seed(1))
    clean, noisy = (
        model.loss(TrainingBatch(x, healthy), generator=torch.Generator().manual_seed(2)).objective
        for x in (healthy, healthy + noise * (healthy == 0))
    )
    assert torch.equal(clean, noisy)


def test_the_share_of_slices_with_a_lesion_is_as_asked() -> None:
    model, x = healing(planted=0.25), brains(400, seed=0)
    ill = model.with_lesions(x, x > 0, torch.Generator().manual_seed(0))
    changed = (ill != x).flatten(1).any(1)
    assert changed.float().mean() == pytest.approx(0.25, abs=0.07)


def test_the_mirror_turns_about_the_brains_own_midline() -> None:
    x = torch.zeros(1, 1, 4, 8)
    x[..., 1, 2:7] = torch.tensor([0.1, 0.2, 0.3, 0.4, 0.5])
    expected = torch.zeros_like(x)
    expected[..., 1, 2:7] = torch.tensor([0.5, 0.4, 0.3, 0.2, 0.1])
    torch.testing.assert_close(mirror(x, x > 0), expected)
