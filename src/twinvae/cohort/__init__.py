"""Where scans come from: the manifest, data sets as they are shipped, splits by subject."""

from twinvae.cohort.index import TUMOUR_FREE, add_tumour_free, index_sources
from twinvae.cohort.layouts import LAYOUTS, Layout
from twinvae.cohort.manifest import COLUMNS, read_manifest, validate_manifest, write_manifest
from twinvae.cohort.split import assign_splits, empty_splits, split_sizes

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
