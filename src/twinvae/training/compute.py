"""Where tensors live, what slices are as tensors, and in which precision the networks run."""

from __future__ import annotations

import copy
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from twinvae.config import ComputeConfig
from twinvae.errors import ConfigError
from twinvae.models import DiagonalGaussian
from twinvae.parallel import cores, gpus, keep_freed_memory
from twinvae.vocabulary import FULL_SCALE

PASSES = ("features", "encode", "decode", "reconstruct", "examine")
"""Methods of a model that are passes of its network; everything else is arithmetic."""
_COMPILED = ("encode", "decode", "last")
"""Those that training compiles; they draw nothing. ``last`` is that of the U-Nets."""

_Network = TypeVar("_Network", bound=nn.Module)


@dataclass(frozen=True)
class Compute:
    """A resolved ``ComputeConfig``."""

    device: torch.device
    bf16: bool
    compile: bool = False
    log: str = "none"
    """Where else a training's log goes: ``none`` or ``tensorboard``."""

    @classmethod
    def resolve(cls, options: ComputeConfig) -> Compute:
        """Choose the device, set torch's threads; ``ConfigError`` when CUDA is not there."""
        if options.precision == "auto":
            raise ConfigError("compute.precision: expected fp32 or bf16 by now, found auto")
        name = "cuda" if gpus(options.device) else "cpu"
        keep_freed_memory()
        torch.set_num_threads(min(options.threads or cores(), cores()))
        set_arithmetic(deterministic=options.deterministic)
        bf16 = options.precision == "bf16"
        return cls(torch.device(name), bf16, options.compile, options.log)

    def autocast(self) -> AbstractContextManager[None]:
        """The precision context of training's forward passes.

        What a model makes of its network's answers in there, likelihoods and divergences, stays in
        float32: they are sums of float32 numbers, which autocast leaves alone.
        """
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16)

    def arithmetic(self) -> AbstractContextManager[None]:
        """The context of all that is not a network's pass: float32, whatever is around it."""
        return torch.autocast(self.device.type, enabled=False)

    @property
    def kind(self) -> str:
        """What a training's bits depend on, besides the machine."""
        return ("bf16" if self.bf16 else "fp32") + (", compiled" if self.compile else "")

    def trained(self, model: _Network) -> _Network:
        """``model`` as its training asks it: itself, or a view whose passes are compiled.

        The view shares all weights and leaves their names alone. Batches of each size are compiled
        apart, for a training has two at most. Raises ``ConfigError`` without a C++ compiler.
        """
        if not self.compile:
            return model
        _require_compiler()
        torch.compiler.reset()  # what other trainings compiled counts against torch's limit
        view = copy.copy(model)
        for name in _COMPILED:
            if hasattr(model, name):
                setattr(view, name, torch.compile(getattr(model, name), dynamic=False))
        return view

    def network(self, model: _Network) -> _Network:
        """``model``, its passes in this precision and their results in float32.

        A view that shares all weights. What it computes from its own passes, such as a likelihood,
        is in float32; so is whatever the caller computes.
        """
        if not self.bf16:
            return model
        view = copy.copy(model)
        for name in PASSES:
            if hasattr(model, name):
                setattr(view, name, self._within(getattr(model, name)))
        return view

    def _within(self, network_pass: Callable[..., Any]) -> Callable[..., Any]:
        def run(*given: Any, **named: Any) -> Any:
            with self.autocast():
                found = network_pass(*given, **named)
            return _in_float32(found)

        return run


def to_tensor(images: NDArray[np.uint16], device: torch.device) -> Tensor:
    """Stored slices (n, H, W) as float32 (n, 1, H, W) in [0, 1] on ``device``."""
    scaled = np.asarray(images, dtype=np.float32) / np.float32(FULL_SCALE)
    return sent(torch.from_numpy(scaled), device).unsqueeze(1)


def sent(tensor: Tensor, device: torch.device) -> Tensor:
    """``tensor`` on ``device``; to a GPU from pinned memory, while the CPU goes on."""
    if device.type != "cuda":
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


def set_arithmetic(*, deterministic: bool) -> None:
    """The same sums on every device: float32 is float32 on a GPU too, not TF32.

    Whoever wants speed there asks for bf16. cuBLAS must be told before it is first used.
    """
    torch.backends.cuda.matmul.allow_tf32 = False
    torch.backends.cudnn.allow_tf32 = False
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    if deterministic != torch.are_deterministic_algorithms_enabled():  # the call imports a compiler
        torch.use_deterministic_algorithms(deterministic)


def _in_float32(found: Any) -> Any:
    """What a pass gives: a tensor, a posterior, or several tensors."""
    if isinstance(found, Tensor):
        return found.float()
    if isinstance(found, DiagonalGaussian):
        return DiagonalGaussian(found.mean.float(), found.variance.float())
    return type(found)(_in_float32(each) for each in found)


def _require_compiler() -> None:
    wanted = os.environ.get("CXX") or ("clang++" if sys.platform == "darwin" else "g++")
    if shutil.which(wanted) is None:
        raise ConfigError(
            f"compute.compile: expected a C++ compiler, found no {wanted}; install one, name it in "
            f"the environment variable CXX, or leave the setting out"
        )
