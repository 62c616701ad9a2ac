"""Lesions planted in slices: reproducible, inside the brain, as large and as bright as asked."""

import numpy as np
import pytest
import torch
from scipy import ndimage
from torch import Tensor
from torch.nn import functional

from twinvae.planting import Planting, plant_in_slices

N, SIDE = 200, 64


@pytest.fixture(scope="module")
def slices():
    """Flat discs of brain at 0.4."""
    y, x = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    brain = ((y - 32) ** 2 + (x - 31) ** 2 < 27**2).expand(N, 1, SIDE, SIDE)
    return 0.4 * brain.float(), brain.clone()


def planted(slices, seed=0, pixel_mm=3.0, **options):
    generator = torch.Generator().manual_seed(seed)
    return plant_in_slices(*slices, generator, pixel_mm=pixel_mm, options=Planting(**options))


def test_same_seed_same_lesions_and_inputs_are_left_alone(slices):
    before = slices[0].clone()
    first, again, other = planted(slices), planted(slices), planted(slices, seed=1)
    assert torch.equal(first.images, again.images)
    assert torch.equal(first.masks, again.masks)
    assert not torch.equal(first.masks, other.masks)
    assert torch.equal(slices[0], before)


def test_masks_lie_in_the_brain_and_hold_what_changed(slices):
    images, brain = slices
    result = planted(slices)
    assert result.images.dtype == torch.float32
    assert result.masks.dtype == torch.bool
    assert result.masks.flatten(1).any(1).all()
    assert not (result.masks & ~brain).any()
    changed = (result.images - images).abs()
    assert not changed[~brain].any()
    assert (result.images >= 0).all()
    assert (result.images <= 1).all()
    most = (changed * result.masks).flatten(1).sum(1) / changed.flatten(1).sum(1)
    assert most.mean() > 0.75


@pytest.mark.parametrize(("contrast", "share"), [("T2w", 0.9), ("FLAIR", 0.9), ("T1w", 0.1)])
def test_sign_follows_the_contrast(slices, contrast, share):
    result = planted(slices, contrast=contrast, core=0.0, strength=(0.3, 0.5), texture=0.0)
    change = ((result.images - slices[0]) * result.masks).flatten(1).sum(1)
    assert float((change > 0).float().mean()) == pytest.approx(share, abs=0.07)


def test_strength_is_relative_to_the_tissue(slices):
    exact = {"strength": (0.5, 0.5), "opacity": (1.0, 1.0), "texture": 0.0, "core": 0.0}
    result = planted(slices, contrast="T2w", edge_mm=(0.1, 0.2), diameter_mm=(25, 25), **exact)
    inside = torch.stack([i[m].median() for i, m in zip(*result, strict=True)])
    bright = inside > 0.4
    # Where a lesion reaches the border, the tissue it lies in still is 0.4.
    torch.testing.assert_close(inside[bright], torch.full_like(inside[bright], 0.6))
    torch.testing.assert_close(inside[~bright], torch.full_like(inside[~bright], 0.4 / 1.5))


def test_size_is_in_mm_whatever_the_pixel(slices):
    def diameter_mm(pixel_mm):
        result = planted(slices, pixel_mm=pixel_mm, diameter_mm=(30, 30), second=0.0)
        whole = ndimage.binary_erosion(slices[1][0, 0].numpy(), iterations=int(18 / pixel_mm))
        centres = [ndimage.center_of_mass(m[0].numpy()) for m in result.masks]
        deep = np.array([whole[tuple(np.round(c).astype(int))] for c in centres])
        area = result.masks.flatten(1).sum(1).numpy()[deep] * pixel_mm**2
        return np.median(2 * np.sqrt(area / np.pi))

    assert diameter_mm(2.0) == pytest.approx(30, rel=0.12)
    assert diameter_mm(4.0) == pytest.approx(30, rel=0.12)


def test_a_slice_without_brain_comes_back_unchanged(slices):
    images, brain = slices[0][:4], slices[1][:4].clone()
    brain[1] = False
    result = planted((images, brain), push=0.3)
    assert torch.equal(result.images[1], images[1])
    assert not result.masks[1].any()
    assert result.masks[0].any()


def test_mass_effect_moves_surroundings_away_and_keeps_the_outline(slices):
    _, brain = slices
    ramp = torch.linspace(0.3, 0.7, SIDE).view(1, 1, 1, -1) * brain.float()
    size = {"diameter_mm": (30.0, 30.0)}
    plain, pushed = planted((ramp, brain), **size), planted((ramp, brain), push=0.4, **size)
    assert torch.equal(plain.masks, pushed.masks)
    assert not pushed.images[~brain].any()
    moved = 0
    pairs = zip(plain.images, pushed.images, plain.masks, brain, strict=True)
    for before, after, mask, inside in pairs:
        x = torch.arange(SIDE).view(1, 1, -1) - torch.nonzero(mask)[:, 2].float().mean()
        outside = inside & ~mask & (x.abs() > 6)
        # What lay nearer to the centre shows further out: darker right of it, brighter left.
        moved += float(((after - before) * x.sign())[outside].mean()) < 0
    assert moved > 0.9 * N


def test_lesion_of_a_pixel_still_leaves_a_mask(slices):
    result = planted(slices, diameter_mm=(1.0, 2.0), pixel_mm=4.0)
    assert result.masks.flatten(1).any(1).all()


def slab_of(generator: torch.Generator, n: int = 32) -> tuple[Tensor, Tensor]:
    """Discs of one signal in three slices, with noise; and where they are."""
    y, x = torch.meshgrid(torch.arange(64), torch.arange(64), indexing="ij")
    brains = (torch.hypot(y - 31.5, x - 31.5) < 26).expand(n, 3, 64, 64)
    noise = 0.03 * torch.randn((n, 3, 64, 64), generator=generator)
    return ((0.4 + noise) * brains).clamp(0, 1), brains


def test_a_lesion_goes_on_through_a_slab_as_a_ball_does() -> None:
    draw = torch.Generator().manual_seed(0)
    images, brains = slab_of(draw, 200)
    options = Planting(diameter_mm=(30.0, 30.0), second=0.0)
    masks = plant_in_slices(
        images, brains, draw, pixel_mm=3.0, heights_mm=(-6.0, 0.0, 6.0), options=options
    ).masks
    area = masks.flatten(2).sum(2).float()
    assert (area[:, 1] > 0).float().mean() > 0.95
    far = (area[:, 0] - area[:, 2]).abs()
    assert (far > 0).float().mean() > 0.9  # its middle lies above or below
    assert 0.3 < (masks[:, 0] & masks[:, 1]).sum() / masks[:, 1].sum() < 1
    flat = plant_in_slices(images, brains, draw, pixel_mm=3.0, heights_mm=(0.0,) * 3).masks
    assert torch.equal(flat[:, 0], flat[:, 2])


def test_grain_keeps_the_noise_of_the_slice() -> None:
    images, brains = slab_of(torch.Generator().manual_seed(1))
    spread = []
    for grain in (0.0, 1.0):
        options = Planting(
            diameter_mm=(60.0, 60.0), opacity=(1.0, 1.0), texture=0.0, core=0.0, grain=grain
        )
        draw = torch.Generator().manual_seed(2)
        found = plant_in_slices(
            images, brains, draw, pixel_mm=3.0, heights_mm=(-4.0, 0.0, 4.0), options=options
        )
        inside = found.masks[:, 1] & (found.images[:, 1] < 0.99)
        fine = found.images[:, 1] - functional.avg_pool2d(found.images[:, 1], 3, 1, 1)
        spread.append(fine[inside].std().item())
    assert spread[1] ** 2 - spread[0] ** 2 > 0.02**2


def test_infiltrating_lesions_spare_fluid() -> None:
    draw = torch.Generator().manual_seed(3)
    images, brains = slab_of(draw)
    images = images.clone()
    images[..., 28:36, 28:36] = 0.95
    share = []
    for chance in (0.0, 1.0):
        options = Planting(diameter_mm=(90.0, 90.0), infiltrating=chance, push=0.0)
        again = torch.Generator().manual_seed(4)
        masks = plant_in_slices(
            images, brains, again, pixel_mm=3.0, heights_mm=(-4.0, 0.0, 4.0), options=options
        ).masks
        share.append(masks[..., 28:36, 28:36].float().mean() / masks.float().mean())
    assert share[1] < 0.3 * share[0]
