"""The pictures of a report are those of the run's slices and models."""

from __future__ import annotations

import numpy as np
import pytest

from twinvae.imaging import SliceStore, unit_images
from twinvae.runs.folder import Run
from twinvae.runs.report_data import _Galleries, report_material
from twinvae.scoring import Models, read_scores
from twinvae.scoring.deciding import deciding_map


@pytest.mark.parametrize(
    ("score", "shown"),
    [
        ("residual_local", "residual"),
        ("residual", "residual"),
        ("gradient_kl_residual_context", "gradient_kl_residual"),
        ("latent_l2", "residual"),
    ],
)
def test_the_map_is_the_one_behind_the_score(tiny_run: Run, score: str, shown: str) -> None:
    assert deciding_map(score, Models.load(tiny_run.models)).source.name == shown


def test_mistakes_show_their_own_slices_and_residuals(tiny_run: Run) -> None:
    store, material = SliceStore.open(tiny_run.slices), report_material(tiny_run)
    scores = read_scores(tiny_run.scores)
    chosen = np.array([3, 1])
    gallery = _Galleries.of(tiny_run, store).mistakes(scores, chosen, material.calibration)
    rows = np.flatnonzero(store.index["split"] != "train")[chosen]
    np.testing.assert_array_equal(gallery.images, unit_images(store.images[rows]))
    inside = store.brain[rows] > 0
    residual = np.clip(gallery.images - gallery.reconstructions, 0, None)
    assert gallery.maps is not None
    np.testing.assert_allclose(gallery.maps[inside], residual[inside], atol=1e-6)
    assert not gallery.maps[~inside].any()
    assert gallery.captions[1].startswith(f"{scores['subject'][1]}\nslice {scores['slice'][1]}")


def test_a_report_of_a_run_has_every_gallery(tiny_run: Run) -> None:
    material = report_material(tiny_run)
    assert material.mixed is not None
    assert material.mixed.masks is not None
    assert material.healthy is not None
    assert material.healthy.masks is None
    for gallery in (material.false_positives, material.false_negatives):
        assert gallery is not None
        assert gallery.map_name == "residual"
    assert {"Thresholds of slices", "Thresholds of scans"} <= set(material.made)
