"""One ``fit``, used once per model; the train stage around it."""

from twinvae.training.compute import Compute
from twinvae.training.fit import SliceData, fit, to_tensor
from twinvae.training.twins import check_networks, train_twins

__all__ = ["Compute", "SliceData", "check_networks", "fit", "to_tensor", "train_twins"]
