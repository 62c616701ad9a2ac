"""The mirror image in three dimensions, on a head whose symmetry is known exactly."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from twinvae.imaging.symmetry import Stack, aligned_mirror

LENGTH, HEIGHT = 170.0, 127.5  # mm, as long and as high as brains are
PIXEL = 200 / 96
RIGHT = np.array([0.0, 5.0, 32.0])  # a place in the right half: z, y, x in mm


def head(where: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Intensity and brain at places (3, …), z, y, x in mm of the head: even in x alone."""
    z, y, x = where
    brain = (z / (HEIGHT / 2)) ** 2 + (y / (LENGTH / 2)) ** 2 + (x / 66) ** 2 < 1
    sulci = np.cos(x / 7) * np.cos(y / 9 + 0.4) + np.cos(x / 11) * np.cos(z / 8 + y / 21)
    return (0.4 + 0.1 * sulci) * brain, brain


class Head:
    """Slices of that head, turned and shifted, with what else is done to it."""

    def __init__(self, yaw=0.0, roll=0.0, shift=0.0, *, slices=40, size=96, mass=0.0, warp=0.0):
        pixel = 200 / size
        edge = (np.arange(size) + 0.5) * pixel - 100
        heights = np.linspace(-0.4, 0.4, slices) * HEIGHT if slices > 1 else np.zeros(1)
        grid = np.stack(np.meshgrid(heights, edge, edge, indexing="ij"))
        a, b = np.radians(yaw), np.radians(roll)
        turn_yaw = np.array([[1, 0, 0], [0, np.cos(a), -np.sin(a)], [0, np.sin(a), np.cos(a)]])
        turn_roll = np.array([[np.cos(b), 0, -np.sin(b)], [0, 1, 0], [np.sin(b), 0, np.cos(b)]])
        turn = turn_yaw @ turn_roll  # its last row is across the plane, in the picture's axes
        self.normal = turn.T @ np.array([0, 0, 1.0])
        self.through = np.array([0, 0, shift])
        self.where = np.tensordot(turn, grid - self.through[:, None, None, None], 1)
        away = np.linalg.norm(self.where - RIGHT[:, None, None, None], axis=0)
        pushed = self.where.copy()
        pushed[2] -= warp * np.exp(-((away / 25) ** 2) / 2)
        image, brain = head(pushed)
        self.lesion = brain & (away < mass)
        self.images = np.clip(image + 0.4 * self.lesion, 0, 1).astype(np.float32)
        self.brain, self.position, self.pixel = brain, heights / HEIGHT + 0.5, pixel

    def mirror(self, **options) -> np.ndarray:
        return aligned_mirror(self.images, self.brain, self.position, self.pixel, **options)

    def core(self, mirror: np.ndarray) -> np.ndarray:
        """The brain's inside in each slice, where it has a mirror image."""
        inside = head(self.where * np.array([1, 1.15, 1.15])[:, None, None, None])[1]
        return inside & (mirror > 0)

    def plane_error(self) -> tuple[float, float]:
        """How far the plane that is found is off: degrees, and mm at the head's middle."""
        heights = (self.position - self.position[0]) * HEIGHT
        stack = Stack(self.images, self.brain, heights / 4, self.pixel / 4)
        plane = stack.coarse().plane()
        normal = np.array(
            [np.sin(plane.roll), np.cos(plane.roll) * np.sin(plane.yaw),
             np.cos(plane.roll) * np.cos(plane.yaw)]
        )  # fmt: skip
        origin = np.array([self.position[0] - 0.5, 0, 0]) * HEIGHT - [0, 100, 100]
        through = plane.through * 4 + origin + [0, 2, 2]  # the first cell's centre is at 2 mm
        angle = np.degrees(np.arccos(min(1.0, abs(normal @ self.normal))))
        return float(angle), abs(float((self.through - through) @ normal))


@pytest.mark.parametrize(
    ("yaw", "roll", "shift"), [(0, 0, 0), (6, 0, 3), (0, -5, -4), (-7, 4, 5), (3, 8, -2)]
)
def test_the_plane_of_a_tilted_head_is_found(yaw, roll, shift):
    angle, off = Head(yaw, roll, shift).plane_error()
    assert angle < 0.5
    assert off < 0.5


@pytest.mark.parametrize(("yaw", "roll"), [(0, 0), (-5, 3)])
def test_a_large_mass_that_pushes_one_half_does_not_tilt_the_plane(yaw, roll):
    angle, off = Head(yaw, roll, mass=24, warp=8).plane_error()
    assert angle < 1
    assert off < 1


def test_a_symmetric_head_is_its_own_mirror_image():
    tilted = Head(5, -4, 3)
    for deform in (False, True):
        mirror = tilted.mirror(deform=deform)
        core = tilted.core(mirror)
        assert core.sum() > 0.6 * tilted.brain.sum()
        assert np.abs(mirror - tilted.images)[core].mean() < 0.015
    flipped = np.abs(tilted.images[:, :, ::-1] - tilted.images)[core].mean()
    assert flipped > 0.05  # what the tilt does to a plain flip


def test_without_tilt_it_is_the_flip():
    straight = Head()
    mirror = straight.mirror(deform=False)
    core = straight.core(mirror)
    assert np.abs(mirror - straight.images[:, :, ::-1])[core].max() < 0.03


def test_the_deformation_brings_a_warped_half_onto_the_other():
    warped = Head(warp=6)
    stiff, soft = warped.mirror(deform=False), warped.mirror()
    core = warped.core(stiff) & warped.core(soft)
    near = core & (np.linalg.norm(warped.where - RIGHT[:, None, None, None], axis=0) < 30)
    before, after = (np.abs(warped.images - m)[near].mean() for m in (stiff, soft))
    assert after < 0.6 * before


@pytest.mark.parametrize("warp", [0, 5])
def test_a_lesion_keeps_its_contrast(warp):
    """0.4 above what is there; the deformation must not fetch brightness for it."""
    sick = Head(mass=10, warp=warp)
    mirror = sick.mirror()
    inside = sick.lesion & (mirror > 0)
    assert inside.sum() > 0.95 * sick.lesion.sum()
    assert (sick.images - mirror)[inside].mean() > 0.8 * 0.4


@pytest.mark.parametrize("size", [64, 96, 128])
@pytest.mark.parametrize("slices", [1, 2, 3, 5, 40])
def test_any_size_and_few_slices(size, slices):
    few = Head(4, 0, 3, slices=slices, size=size)
    mirror = few.mirror()
    assert mirror.dtype == np.float32
    assert mirror.shape == few.images.shape
    assert ((mirror >= 0) & (mirror <= 1)).all()
    assert not mirror[~few.brain].any()
    core = few.core(mirror)
    assert core.sum() > 0.6 * few.brain.sum()
    assert np.abs(mirror - few.images)[core].mean() < 0.02


def test_slices_far_apart_are_not_mixed():
    """Of two slices 100 mm apart, what one shows does not depend on the other."""
    both = Head(3, 0, slices=2)
    alone = both.mirror()
    both.images[1] = both.images[1] ** 2
    np.testing.assert_array_equal(both.mirror()[0], alone[0])


def test_slices_without_brain_have_no_mirror_image():
    part = Head(slices=20)
    part.brain[[0, 7, 19]] = False
    part.images *= part.brain
    mirror = part.mirror()
    assert not mirror[[0, 7, 19]].any()
    assert all(mirror[i].any() for i in (3, 10, 15))
    part.brain[:] = False
    assert not part.mirror().any()


def test_a_brain_without_contrast_or_of_one_pixel():
    plain = Head(slices=10)
    plain.images[:] = 0.5 * plain.brain
    mirror = plain.mirror()
    np.testing.assert_allclose(mirror[plain.core(mirror)], 0.5, atol=1e-5)
    plain.brain[:] = False
    plain.brain[4, 50, 50] = True
    mirror = plain.mirror()
    assert set(np.flatnonzero(mirror)) <= set(np.flatnonzero(plain.brain))


def test_positions_that_do_not_rise_are_refused():
    wrong = Head(slices=4)
    wrong.position = wrong.position[::-1]
    with pytest.raises(ValueError, match="expected positions that rise, found"):
        wrong.mirror()


def test_the_same_bits_whatever_the_threads():
    code = (
        "import hashlib, sys; sys.path.insert(0, sys.argv[1]); from test_symmetry import Head;"
        "print(hashlib.sha256(Head(2, 3, mass=12).mirror().tobytes()).hexdigest())"
    )
    here = Head(2, 3, mass=12)
    first, second = here.mirror(), here.mirror()
    np.testing.assert_array_equal(first, second)
    threads = "2" if os.environ.get("OMP_NUM_THREADS") == "1" else "1"
    names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
    done = subprocess.run(
        [sys.executable, "-c", code, os.path.dirname(__file__)],
        env=os.environ | dict.fromkeys(names, threads),
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == hashlib.sha256(first.tobytes()).hexdigest()
