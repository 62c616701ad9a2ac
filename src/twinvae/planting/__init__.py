"""Lesions planted in healthy scans, with their masks: to train on, and to choose without labels."""

from twinvae.planting.contrast import PlantedContrast
from twinvae.planting.slices import Planting, plant_in_slices
from twinvae.planting.volume import plant_in_volume

__all__ = ["PlantedContrast", "Planting", "plant_in_slices", "plant_in_volume"]
