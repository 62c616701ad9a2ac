"""A generated cohort of brains with and without glioma-like lesions, in BIDS layout."""

from twinvae.cohort.phantom.generate import generate_cohort

__all__ = ["generate_cohort"]
