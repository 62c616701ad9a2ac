"""One subject from its seed: anatomy, perhaps a lesion, picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from twinvae.cohort.phantom.anatomy import Body, draw_body, sample_tissue, subject_grid
from twinvae.cohort.phantom.growth import grow
from twinvae.cohort.phantom.lesion import draw_plan, paint, push_aside
from twinvae.cohort.phantom.maps import load_maps
from twinvae.cohort.phantom.scanner import brain_mask, draw_scanner, take_picture, tissue_signal
from twinvae.config import PhantomConfig
from twinvae.vocabulary import Role

_STREAM = {"healthy": 0, "mixed": 1}


@dataclass(frozen=True)
class Subject:
    """A generated scan on one RAS grid."""

    picture: npt.NDArray[np.int16]
    """(X, Y, Z): T2w signal, 0 outside the brain."""
    brain: npt.NDArray[np.bool_]
    """(X, Y, Z): the brain."""
    lesion: npt.NDArray[np.bool_]
    """(X, Y, Z): oedema and core; empty without a lesion."""
    affine: npt.NDArray[np.float64]
    """4×4: voxel to mm."""


def has_tumour(options: PhantomConfig, index: int) -> bool:
    """Whether mixed subject ``index`` carries a lesion: the share is kept over every prefix."""
    share = options.tumour_share
    return int((index + 1) * share + 1e-9) > int(index * share + 1e-9)


def body_of(options: PhantomConfig, role: Role, index: int) -> Body:
    """The body of subject ``index`` (from 0) of a source; costs nothing."""
    return draw_body(streams(options, role, index)[0], older=role == "mixed")


def make_subject(options: PhantomConfig, role: Role, index: int) -> Subject:
    """Generate subject ``index`` (from 0) of a source; the same arguments give the same voxels.

    Body, anatomy, scan and lesion draw from streams of their own, so a subject with and without
    its lesion (``tumour_share`` 1 and 0) is otherwise the same person in the same scan.
    """
    _, anatomy_rng, scan_rng, lesion_rng = streams(options, role, index)
    maps, body = load_maps(), body_of(options, role, index)
    grid = subject_grid(options.spacing_mm)
    tumour = role == "mixed" and has_tumour(options, index)
    plan = draw_plan(lesion_rng, maps, options.spacing_mm) if tumour else None
    push = partial(push_aside, plan) if plan else None
    tissue = sample_tissue(anatomy_rng, body, grid, maps, push)

    scanner = draw_scanner(scan_rng, role)
    signal = tissue_signal(scan_rng, tissue, scanner)
    lesion = np.zeros(grid.shape, dtype=np.bool_)
    if plan:
        spread = grow(lesion_rng, tissue, plan.centre_mm, plan.diameter_mm, plan.core_mm)
        signal = paint(lesion_rng, signal, tissue, spread, plan, scanner)
        lesion[tissue.inside] = spread.mask
    picture = take_picture(scan_rng, tissue, signal, scanner)
    return Subject(picture, brain_mask(tissue), lesion, grid.affine)


def streams(options: PhantomConfig, role: Role, index: int) -> list[np.random.Generator]:
    """Four independent streams of a subject: body, anatomy, scan, lesion."""
    seed = np.random.SeedSequence((options.seed, _STREAM[role], index))
    return [np.random.default_rng(child) for child in seed.spawn(4)]
