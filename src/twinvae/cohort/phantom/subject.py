"""One subject from its seed: a brain, perhaps a lesion, its picture.

The brain is the template's, deformed, or that of a label map. The latter is in the spirit of
SynthSeg (Billot et al. 2023), which paints label maps at random; here each tissue's signal follows
from its relaxation times, so that the picture is of the contrast asked for.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from twinvae.cohort.phantom.brain import (
    Body,
    Tissue,
    draw_body,
    draw_load,
    hyperintensities,
    sample_tissue,
    smooth_field,
    subject_grid,
    water_of_hyperintensity,
)
from twinvae.cohort.phantom.labels import Anatomy, class_table, label_maps, load_anatomy
from twinvae.cohort.phantom.lesion import draw_plan, grow, paint, push_aside
from twinvae.cohort.phantom.mni152 import FloatArray, Maps, load_maps
from twinvae.cohort.phantom.scanner import (
    Contrast,
    acquire,
    brain_mask,
    draw_acquisition,
    draw_contrast,
    draw_scanner,
    take_picture,
    tissue_signal,
)
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
    _, anatomy_rng, scan_rng, lesion_rng, _ = streams(options, role, index)
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
    """Five independent streams of a subject: body, anatomy, scan, lesion, white matter disease."""
    seed = np.random.SeedSequence((options.seed, _STREAM[role], index))
    return [np.random.default_rng(child) for child in seed.spawn(5)]


_EXTRA_STREAM = 1_000_000  # beyond any subject's number: the order in which maps are used


def label_map_of(options: PhantomConfig, role: Role, index: int) -> Path:
    """The label map subject ``index`` is made from; all are used before one comes again."""
    if options.labels is None:
        raise ValueError("expected options with labels, a folder of label maps")
    paths = label_maps(options.labels)
    turn, place = divmod(index, len(paths))
    order = streams(options, role, _EXTRA_STREAM + turn)[0].permutation(len(paths))
    return paths[int(order[place])]


def labelled_body(options: PhantomConfig, role: Role, index: int) -> Body:
    """The body of a subject made from a label map: the map's own, changed and perhaps mirrored."""
    rng = streams(options, role, index)[0]
    body = draw_body(rng, older=role == "mixed")
    size = np.exp(rng.normal(0.015, 0.03) + rng.normal(0, 0.02, size=3))
    size[0] *= rng.choice((-1, 1))
    growth = rng.normal((body.age - 50) / 25, 1.2)
    return replace(
        body,
        size=(float(size[0]), float(size[1]), float(size[2])),
        ventricle_mm=float(np.clip(growth, -2.5, 5)),
        sulci=float(rng.normal(-0.65 + (body.age - 50) / 200, 0.15)),
    )


def make_labelled_subject(options: PhantomConfig, role: Role, index: int) -> Subject:
    """Generate subject ``index`` (from 0) of a source; the same arguments give the same voxels.

    Both sources are drawn from one distribution of scanners, so that they differ by lesions and
    age only. Streams are apart as in ``make_subject``, so that a subject of one seed has the same
    brain, white matter disease and lesion in every contrast: it is one patient.
    """
    _, anatomy_rng, scan_rng, lesion_rng, disease_rng = streams(options, role, index)
    anatomy = load_anatomy(label_map_of(options, role, index))
    body = labelled_body(options, role, index)
    contrast = draw_contrast(scan_rng, options.contrast)
    maps = _painted(anatomy, contrast)
    grid = subject_grid(options.spacing_mm)
    tumour = role == "mixed" and has_tumour(options, index)
    plan = draw_plan(lesion_rng, maps, options.spacing_mm) if tumour else None
    push = partial(push_aside, plan) if plan else None
    tissue = sample_tissue(anatomy_rng, body, grid, maps, push)
    if options.contrast == "random":
        tissue = _stripped_anew(scan_rng, tissue)
    diseased = hyperintensities(disease_rng, tissue, maps, draw_load(disease_rng, body.age))
    wet = np.array(water_of_hyperintensity(disease_rng), dtype=np.float32)
    signal = _signal(scan_rng, tissue, contrast, diseased * (float(contrast.level(wet)) - 1))
    lesion = np.zeros(grid.shape, dtype=np.bool_)
    if plan:
        spread = grow(lesion_rng, tissue, plan.centre_mm, plan.diameter_mm, plan.core_mm)
        signal = paint(lesion_rng, signal, tissue, spread, plan, contrast)
        lesion[tissue.inside] = spread.mask
    picture = acquire(scan_rng, tissue, signal, draw_acquisition(scan_rng, options.contrast))
    return Subject(picture, brain_mask(tissue), lesion, grid.affine)


def _painted(anatomy: Anatomy, contrast: Contrast) -> Maps:
    """The anatomy's maps, the fourth being how far each structure is from its class's signal."""
    classes = np.array([contrast["cortex"], contrast["white"], contrast["csf"]], dtype=np.float32)
    deviation = (contrast.tissue - classes[class_table()])[anatomy.tissue]
    detail = 128 * (1 + ndimage.uniform_filter(deviation, 3))
    return replace(anatomy.maps, tissue=(*anatomy.maps.tissue[:3], detail))


def _stripped_anew(rng: np.random.Generator, tissue: Tissue) -> Tissue:
    """With a skull stripped too near here and too far there, by up to about 2 mm."""
    uneven = smooth_field(rng, tissue.grid, 25.0, 0.15)[0][tissue.inside]
    edge = np.clip(0.5 + rng.normal(0, 0.2) + uneven, 0.1, 0.95)
    return replace(tissue, brain=tissue.rim < edge)


def _signal(
    rng: np.random.Generator, tissue: Tissue, contrast: Contrast, disease: FloatArray
) -> FloatArray:
    """(n,): noise-free signal of the voxels, ``disease`` (n,) added, relative to white matter."""
    grey, white, csf = tissue.shares
    field = partial(smooth_field, rng, tissue.grid)
    # Skull stripping leaves dura, bone and vessels on the surface in places, most of them dark.
    surface = 1 - np.clip(tissue.rim * (2.0 + 1.2 * field(10.0, 1.0)[0][tissue.inside]), 0, 0.9)
    wander = field(6.0, rng.uniform(0.01, 0.03))[0][tissue.inside]
    flow = field(20.0, 0.12)[0][tissue.inside]
    signal = contrast["cortex"] * grey * (1 + 2 * wander) + white * (1 + wander)
    signal += contrast["csf"] * csf * (1 + flow) + tissue.detail + disease
    result: FloatArray = np.maximum(signal * surface, 0).astype(np.float32)
    return result
