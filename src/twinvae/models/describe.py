"""What a model is, in words (`models show`) and layer by layer (`describe`), for people to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from twinvae.config import documented_fields
from twinvae.models.contract import Model
from twinvae.models.registry import model_class

_Row = tuple[str, str, str, int]
_LAYERS = nn.Conv2d | nn.ConvTranspose2d | nn.Linear | nn.GroupNorm


def model_lines(kind: str) -> Iterator[str]:
    """What it is, where it was published, what it offers, and its own options."""
    model = model_class(kind)
    yield f"{kind}: {(model.__doc__ or '').splitlines()[0]}"
    yield f"source: {model.source}"
    if model.conditional:
        yield "training: one for both roles; models.healthy and models.mixed must be the same"
    if not model.has_encoding:
        encoding = "none; latent scores need another mixed model"
    else:
        learned = "a posterior with learned variances"
        encoding = learned if model.variational else "a code, given as N(code, I)"
    yield f"encoding: {encoding}"
    options = list(documented_fields(model.Options, "options."))
    yield from options or ["options: none of its own"]


def layer_table(model: Model) -> Sequence[_Row]:
    """One row a layer: name, what it is, output shape (channels × H × W), parameters.

    In the order a reconstruction uses them; what it does not use comes last, without a shape.
    """
    rows: dict[str, _Row] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, _LAYERS)}
    hooks = [layer.register_forward_hook(_recorder(rows, name)) for name, layer in layers.items()]
    side = model.config.image_size
    with torch.no_grad():
        model.reconstruct(torch.zeros(1, 1, side, side))
    for handle in hooks:
        handle.remove()
    for name, layer in layers.items():
        rows.setdefault(name, (name, _what(layer), "", _count(layer)))
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[0] not in layers:
            what = "one learned variance" if parameter.ndim == 0 else "learned numbers"
            rows[name] = (name, what, str(parameter.numel()), parameter.numel())
    return list(rows.values())


def _recorder(rows: dict[str, _Row], name: str) -> Callable[[nn.Module, object, Tensor], None]:
    def hook(layer: nn.Module, _inputs: object, output: Tensor) -> None:
        shape = "×".join(str(side) for side in output.shape[1:])
        rows.setdefault(name, (name, _what(layer), shape, _count(layer)))

    return hook


def _count(layer: nn.Module) -> int:
    return sum(p.numel() for p in layer.parameters())


def _what(layer: nn.Module) -> str:
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        side, stride = layer.kernel_size[0], layer.stride[0]
        kind = "transposed conv" if isinstance(layer, nn.ConvTranspose2d) else "conv"
        return f"{kind} {side}×{side}" + (f", stride {stride}" if stride > 1 else "")
    return "dense" if isinstance(layer, nn.Linear) else "group norm"
