"""Where scans come from: the manifest, data sets as they are shipped, splits by subject."""

from twinvae.cohort.index import TUMOUR_FREE, add_tumour_free, index_sources
from twinvae.cohort.layouts import LAYOUTS
from twinvae.cohort.manifest import read_manifest, require_contrast, write_manifest
from twinvae.cohort.split import assign_splits, empty_splits
from twinvae.config.contrast import standard_contrast

__all__ = [
    "LAYOUTS",
    "TUMOUR_FREE",
    "add_tumour_free",
    "assign_splits",
    "empty_splits",
    "index_sources",
    "read_manifest",
    "require_contrast",
    "standard_contrast",
    "write_manifest",
]
