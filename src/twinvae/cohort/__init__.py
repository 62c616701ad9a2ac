"""Where scans come from: the manifest, one file per layout, splits by subject."""

from twinvae.cohort.index import index_sources
from twinvae.cohort.layouts import LAYOUTS, Layout
from twinvae.cohort.manifest import COLUMNS, read_manifest, validate_manifest, write_manifest
from twinvae.cohort.split import assign_splits, empty_splits, split_sizes
from twinvae.cohort.tumour_free import TUMOUR_FREE, add_tumour_free

__all__ = [
    "COLUMNS",
    "LAYOUTS",
    "TUMOUR_FREE",
    "Layout",
    "add_tumour_free",
    "assign_splits",
    "empty_splits",
    "index_sources",
    "read_manifest",
    "split_sizes",
    "validate_manifest",
    "write_manifest",
]
