"""One volume at a time: reading and writing, the recipe, the slice store."""

from twinvae.imaging.fitted_recipe import FittedRecipe, Stripping, fit_recipe
from twinvae.imaging.memory import is_image, to_nibabel, volume_in_memory
from twinvae.imaging.prepare import Shard, merge_shards, prepare_cohort, prepare_shard
from twinvae.imaging.prepared import (
    INDEX_COLUMNS,
    PreparedScan,
    back_to_scan,
    brain_on_scan,
    in_scan_units,
    prepare_scan,
    unit_images,
    whole_brain_on_scan,
)
from twinvae.imaging.scan import ScanFiles
from twinvae.imaging.steps.hdbet import hd_bet_installed
from twinvae.imaging.store import Block, SliceStore, new_array
from twinvae.imaging.volume import (
    Volume,
    read_brain_mask,
    read_tumour_mask,
    read_volume,
    write_volume,
)

__all__ = [
    "INDEX_COLUMNS",
    "Block",
    "FittedRecipe",
    "PreparedScan",
    "ScanFiles",
    "Shard",
    "SliceStore",
    "Stripping",
    "Volume",
    "back_to_scan",
    "brain_on_scan",
    "fit_recipe",
    "hd_bet_installed",
    "in_scan_units",
    "is_image",
    "merge_shards",
    "new_array",
    "prepare_cohort",
    "prepare_scan",
    "prepare_shard",
    "read_brain_mask",
    "read_tumour_mask",
    "read_volume",
    "to_nibabel",
    "unit_images",
    "volume_in_memory",
    "whole_brain_on_scan",
    "write_volume",
]
