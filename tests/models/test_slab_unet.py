"""The U-Net of slabs removes what was planted, says where it was, and looks at the neighbours."""

from __future__ import annotations

import pytest
import torch
from test_healing import SIZE, brains
from torch import Tensor

from twinvae.config import ModelConfig
from twinvae.errors import ConfigError
from twinvae.models import TrainingBatch, build_model
from twinvae.models.slab_unet import SlabUNet


def network(**options: object) -> SlabUNet:
    model = build_model(
        ModelConfig(
            kind="slab_unet", image_size=SIZE, encoder_channels=(16, 24), decoder_channels=(16,),
            options={
                "contrast": "T2w", "strength": (0.5, 1.0), "diameter_mm": (40, 70), "push": 0.0,
                "infiltrating": 0.0, **options,
            },
        ),
        seed=0,
    )  # fmt: skip
    assert isinstance(model, SlabUNet)
    return model


def slabs(n: int, seed: int) -> Tensor:
    """Those discs, the same in all three slices; (n, 3, 32, 32)."""
    return brains(n, seed).expand(-1, 3, -1, -1).contiguous()


@pytest.fixture(scope="module")
def trained() -> SlabUNet:
    torch.manual_seed(0)
    model, generator = network(), torch.Generator().manual_seed(0)
    optimiser = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(150):
        x = slabs(16, seed=step)
        optimiser.zero_grad()
        model.loss(TrainingBatch(x, x), generator=generator).objective.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 2000.0)
        optimiser.step()
    return model.eval()


def with_lesions(model: SlabUNet, n: int) -> tuple[Tensor, Tensor, Tensor]:
    healthy = slabs(n, seed=1000)
    model.options.__dict__["planted"] = 1.0
    ill, lesion = model.with_lesions(healthy, healthy > 0, torch.Generator().manual_seed(7))
    return healthy, ill, lesion


def test_it_heals_and_finds_what_it_was_not_shown(trained: SlabUNet) -> None:
    healthy, ill, lesion = with_lesions(trained, 24)
    with torch.no_grad():
        healed, found = trained.examine(ill)
        kept, nothing = trained.examine(healthy)
    middle = healthy[:, 1:2]
    before = (ill[:, 1:2] - middle).square().mean()
    assert (healed - middle).square().mean() < 0.5 * before
    assert (kept - middle).square().mean() < 0.1 * before
    assert found[lesion].mean() > 0.4
    assert found[~lesion & (middle > 0)].mean() < 0.2
    assert nothing[middle > 0].mean() < 0.1


def test_lesions_go_on_through_the_slab(trained: SlabUNet) -> None:
    healthy, ill, _ = with_lesions(trained, 24)
    changed = ((ill - healthy).abs() > 0.05).flatten(2).sum(2)
    assert (changed[:, 1] > 0).float().mean() > 0.8
    both = (changed[:, 0] > 0) & (changed[:, 2] > 0)
    assert both.float().mean() > 0.5  # 40 mm and more, in slices 4.2 mm apart
    assert (changed[:, 0] != changed[:, 2]).any()  # it is no cylinder


def test_background_stays_and_the_neighbours_are_looked_at(trained: SlabUNet) -> None:
    _, ill, _ = with_lesions(trained, 4)
    with torch.no_grad():
        healed, found = trained.examine(ill)
        alone = trained.examine(ill[:, 1:2])[1]
        other = trained.examine(torch.cat([slabs(4, 1000)[:, :1], ill[:, 1:]], 1))[1]
    outside = ill[:, 1:2] == 0
    assert (healed[outside] == 0).all()
    assert (found[outside] == 0).all()
    assert alone.shape == found.shape
    assert not torch.equal(other, found)
    torch.testing.assert_close(alone, trained.examine(ill[:, 1:2].expand(-1, 3, -1, -1))[1])


def test_what_does_not_count_does_not_count() -> None:
    """Pixels outside the mask, such as a tumour in a mixed slice, leave the loss as it is."""
    model, x = network(planted=1.0), slabs(4, 3)
    mask = torch.ones((4, 1, SIZE, SIZE), dtype=torch.bool)
    mask[..., : SIZE // 2] = False
    other = x.clone()
    side = slice(SIZE // 2 - 1)  # a pixel further the scanner's blur reaches what counts
    other[..., side] = x[..., side] * 0.5

    def loss(target: Tensor) -> Tensor:
        batch = TrainingBatch(x, target, mask)
        return model.loss(batch, generator=torch.Generator().manual_seed(2)).objective

    torch.testing.assert_close(loss(x), loss(other))


def test_other_kinds_do_not_look_for_lesions() -> None:
    config = ModelConfig(
        kind="healing_unet", image_size=16, encoder_channels=(4, 8), decoder_channels=(4,)
    )
    with pytest.raises(ConfigError, match="does not look for lesions"):
        build_model(config, 0).examine(torch.zeros(1, 1, 16, 16))
