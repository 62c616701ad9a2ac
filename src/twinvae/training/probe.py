"""Which precision this machine computes faster in, by trying both."""

from __future__ import annotations

import time
from typing import Literal

import torch
from torch.nn import functional

from twinvae.config import ComputeConfig
from twinvae.training.compute import Compute

Precision = Literal["fp32", "bf16"]
_SECONDS = 0.5  # for each
_GAIN = 1.2  # bf16 must be so many times faster: it is less exact


def faster_precision(options: ComputeConfig) -> Precision:
    """`bf16` where a convolution of the paper's shapes is clearly faster in it; takes a second."""
    compute = Compute.resolve(options.model_copy(update={"precision": "fp32"}))
    passes = {bf16: _passes(compute.device, bf16=bf16) for bf16 in (False, True)}
    return "bf16" if passes[True] > _GAIN * passes[False] else "fp32"


def _passes(device: torch.device, *, bf16: bool) -> float:
    """Forward and backward passes a second of 64 → 128 channels, 4×4, stride 2, at 32×32."""
    draw = torch.Generator(device).manual_seed(0)
    x = torch.randn(32, 64, 32, 32, generator=draw, device=device)
    weight = torch.randn(128, 64, 4, 4, generator=draw, device=device).requires_grad_()

    def once() -> None:
        with torch.autocast(device.type, torch.bfloat16, enabled=bf16):
            found = functional.conv2d(x, weight, stride=2, padding=1)
        found.float().sum().backward()  # type: ignore[no-untyped-call]
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    once()  # the first chooses kernels
    done, started = 0, time.perf_counter()
    while time.perf_counter() - started < _SECONDS:
        once()
        done += 1
    return done / (time.perf_counter() - started)
