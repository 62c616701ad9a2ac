"""The configuration of the tiny run: every stage, in seconds."""

from __future__ import annotations

from typing import Any

from twinvae.config import RunConfig, load_config

TINY: dict[str, Any] = {
    "name": "tiny",
    "cohort.phantom": {"healthy": 20, "mixed": 12, "spacing_mm": 4.0, "seed": 3},
    "recipe": [
        {"step": "reorient"},
        {"step": "brain_mask"},
        {"step": "percentile_scale", "level": 0.8},
        {"step": "select_slices", "min_area_mm2": 4000},
        {"step": "crop_resize", "field_of_view_mm": 200, "size": 32},
    ],
    "models.healthy": {
        "image_size": 32, "encoder_channels": [4, 8, 16], "decoder_channels": [8, 4],
        "latent_size": 8,
    },
    "models.mixed": {
        "image_size": 32, "encoder_channels": [4, 8, 16], "decoder_channels": [8, 4],
        "latent_size": 8,
    },
    "training.healthy.epochs": 3,
    "training.mixed.epochs": 2,
    "decision.percentiles": [95.0, 90.0],
    "decision.scan_percentile": 50.0,
    "evaluation": {"min_tumour_px": [0, 5], "headline_min_tumour_px": 5, "resamples": 50},
    "compute": {"device": "cpu", "threads": 1, "jobs": 1},
}  # fmt: skip


def tiny_config(**changes: Any) -> RunConfig:
    """The tiny configuration with dotted changes (dots written as __)."""
    return load_config("demo", TINY | {k.replace("__", "."): v for k, v in changes.items()})
