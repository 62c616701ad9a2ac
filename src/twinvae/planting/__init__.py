"""Lesions planted in healthy scans, with their masks: to train on, and to choose without labels."""

from twinvae.planting.in_slices import Planting, plant_in_slices
from twinvae.planting.in_volumes import PlantedContrast, plant_in_volume

__all__ = ["PlantedContrast", "Planting", "plant_in_slices", "plant_in_volume"]
