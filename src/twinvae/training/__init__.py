"""One ``fit``, used once per model; the train stage around it."""

from twinvae.training.compute import Compute, to_tensor
from twinvae.training.data import SliceData
from twinvae.training.fit import MODEL_FILES, fit, help_train
from twinvae.training.twins import check_networks, train_twins

__all__ = [
    "MODEL_FILES",
    "Compute",
    "SliceData",
    "check_networks",
    "fit",
    "help_train",
    "to_tensor",
    "train_twins",
]
