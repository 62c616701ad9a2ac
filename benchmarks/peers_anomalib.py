"""anomalib's PatchCore and Reverse Distillation on a run's slices, for ``benchmarks/peers.py``.

Both stand on a backbone trained on photographs, which no package ships: its weights come from a
file. Their networks are used without anomalib's trainer, with the settings of its own models.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from twinvae.errors import ConfigError, DataError

PHOTOGRAPHS = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Mean and standard deviation of the colours that the backbones were trained on (ImageNet)."""


@dataclass(frozen=True)
class Backbone:
    """Which network, and how slices are given to it."""

    weights: Path
    """Its weights, safetensors, named as timm names them."""
    name: str = "wide_resnet50_2"
    side: int = 256
    """Slices are enlarged to side × side pixels."""
    slices: int = 500
    """PatchCore remembers patches of that many healthy training slices, evenly spaced."""
    epochs: int = 20
    """Of Reverse Distillation."""
    batch: int = 16
    device: str = "cpu"


def anomalib_scores(
    train: NDArray[np.uint16], scored: NDArray[np.uint16], backbone: Backbone, seed: int
) -> Iterator[tuple[str, NDArray[np.float64]]]:
    """Column name and scores of ``scored`` (n, H, W) by each model fitted on ``train`` alone."""
    try:
        from anomalib.models.image.patchcore.torch_model import PatchcoreModel
        from anomalib.models.image.reverse_distillation.torch_model import ReverseDistillationModel
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"--weights: expected anomalib, found none ({error}); pip install '.[peers-anomalib]'"
        ) from None
    torch.manual_seed(seed)  # anomalib draws from both global generators
    np.random.seed(seed)
    patchcore = PatchcoreModel(("layer2", "layer3"), backbone.name, pre_trained=False)
    load_backbone(patchcore.feature_extractor.feature_extractor, backbone.weights)
    remember(patchcore.to(backbone.device), train, backbone)
    yield "anomalib_patchcore", predict(patchcore, scored, backbone)
    size = (backbone.side, backbone.side)
    layers = ("layer1", "layer2", "layer3")
    distilled = ReverseDistillationModel(backbone.name, size, layers, "add", pre_trained=False)
    load_backbone(distilled.encoder.feature_extractor, backbone.weights)
    distil(distilled.to(backbone.device), train, backbone)
    yield "anomalib_reverse_distillation", predict(distilled, scored, backbone)


def load_backbone(network: nn.Module, weights: Path) -> None:
    """Give ``network`` its weights; those of layers it does not have are left in the file."""
    try:
        found = network.load_state_dict(load_file(weights), strict=False)
    except (OSError, SafetensorError, RuntimeError) as error:
        raise DataError(f"{weights}: expected this backbone's weights, found {error}") from None
    if found.missing_keys:
        raise DataError(f"{weights}: expected weights {found.missing_keys[0]} …, found none")


def remember(model: nn.Module, train: NDArray[np.uint16], backbone: Backbone) -> None:
    """Fill PatchCore's memory with a tenth of the patches, as spread out as can be."""
    places = np.linspace(0, len(train) - 1, min(backbone.slices, len(train))).astype(int)
    model.train()
    for x in pictures(train[places], backbone):
        model(x)
    model.subsample_embedding(0.1)


def distil(model: nn.Module, train: NDArray[np.uint16], backbone: Backbone) -> None:
    """Teach the decoder to say what the backbone says of healthy slices."""
    from anomalib.models.image.reverse_distillation.loss import ReverseDistillationLoss

    learned = [*model.decoder.parameters(), *model.bottleneck.parameters()]
    optimiser = torch.optim.Adam(learned, lr=0.005, betas=(0.5, 0.99))
    loss = ReverseDistillationLoss()
    model.train()
    for _ in range(backbone.epochs):
        for x in pictures(train[torch.randperm(len(train)).numpy()], backbone):
            optimiser.zero_grad()
            loss(*model(x)).backward()
            optimiser.step()


@torch.no_grad()
def predict(
    model: nn.Module, images: NDArray[np.uint16], backbone: Backbone
) -> NDArray[np.float64]:
    """One score a slice."""
    model.eval()
    found = [model(x).pred_score.flatten().double().cpu() for x in pictures(images, backbone)]
    return torch.cat(found).numpy()


def pictures(images: NDArray[np.uint16], backbone: Backbone) -> Iterator[Tensor]:
    """Slices (n, H, W) as the backbone expects photographs: (batch, 3, side, side)."""
    mean, deviation = (torch.tensor(colour).view(1, 3, 1, 1) for colour in PHOTOGRAPHS)
    for at in range(0, len(images), backbone.batch):
        x = torch.from_numpy(images[at : at + backbone.batch] / np.float32(65535)).unsqueeze(1)
        x = functional.interpolate(x, size=(backbone.side,) * 2, mode="bilinear", antialias=True)
        yield ((x - mean) / deviation).to(backbone.device)
