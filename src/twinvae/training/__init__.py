"""One ``fit``, used once per model."""

from twinvae.training.compute import Compute
from twinvae.training.fit import SliceData, fit, to_tensor

__all__ = ["Compute", "SliceData", "fit", "to_tensor"]
