"""Where tensors live and in which precision the networks run."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from twinvae.config import ComputeConfig
from twinvae.cores import cores
from twinvae.errors import ConfigError


@dataclass(frozen=True)
class Compute:
    """A resolved ``ComputeConfig``."""

    device: torch.device
    bf16: bool

    @classmethod
    def resolve(cls, options: ComputeConfig) -> Compute:
        """Choose the device and set torch's threads; ``ConfigError`` when CUDA is not there."""
        has_gpu = torch.cuda.is_available()
        if options.device == "cuda" and not has_gpu:
            raise ConfigError("compute.device: expected a CUDA GPU for 'cuda', found none")
        torch.set_num_threads(min(options.threads or cores(), cores()))
        name = options.device if options.device != "auto" else ("cuda" if has_gpu else "cpu")
        return cls(torch.device(name), options.precision == "bf16")

    def autocast(self) -> AbstractContextManager[None]:
        """The precision context of every forward pass."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)
