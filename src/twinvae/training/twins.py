"""The train stage: both models of a run, or the one that serves as both."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

import torch

from twinvae.config import ModelConfig, RunConfig, TrainConfig
from twinvae.errors import ConfigError
from twinvae.files import write_json, write_text
from twinvae.imaging import SliceStore
from twinvae.models import (
    SHARED,
    Model,
    build_model,
    load_model,
    model_class,
    round_weights,
    save_model,
)
from twinvae.outputs import remove
from twinvae.training.adapt import adapted
from twinvae.training.checkpoint import delete_checkpoint
from twinvae.training.compute import Compute
from twinvae.training.data import (
    TrainingData,
    conditioned_slices,
    role_slices,
    with_reconstructions,
)
from twinvae.training.event_files import forget_events, keep_events, require_tensorboard
from twinvae.training.fit import MODEL_FILES, fit, size_of
from twinvae.training.painted import PaintedSlabs
from twinvae.vocabulary import ROLES


def train_twins(
    config: RunConfig,
    store: SliceStore,
    folder: Path,
    pool: Path | None = None,
    *,
    fresh: bool = False,
) -> None:
    """Fit VAE-H on healthy slices and VAE on mixed slices, each with a seed of its own.

    Each is stored in ``folder/ROLE``; a conditional model is trained once, on the slices of both
    roles, and stored in ``folder/shared``. ``pool``, ``fresh``: see ``fit``.
    """
    check_networks(config)
    work = _Work(store, folder, Compute.resolve(config.compute), pool, fresh)
    if is_shared(config):
        for role in ROLES:
            _forget(folder / role)
        _train_shared(config, work)
        return
    _forget(folder / SHARED)
    models, training, seed = config.models, config.training, 2 * config.seed
    healthy = _train_one("healthy", models.healthy, training.healthy, work, seed)
    _train_one("mixed", models.mixed, training.mixed, work, seed + 1, healthy)


@dataclass(frozen=True)
class _Work:
    """What both trainings share."""

    store: SliceStore
    folder: Path
    compute: Compute
    pool: Path | None
    fresh: bool

    def fit(
        self, network: Model, data: TrainingData, options: TrainConfig, seed: int, role: str,
        folder: Path, start: str = "",
    ) -> Model:  # fmt: skip
        """Train ``network`` as that of ``role`` and store it in ``folder``."""
        model = fit(
            network, data, options, self.compute, seed=seed, folder=folder, start=start,
            label=f"train {'both' if role == SHARED else role}", pool=self.pool, fresh=self.fresh,
        )  # fmt: skip
        keep_events(folder, self.compute.log)
        return model


def _forget(folder: Path) -> None:
    """Remove the model in ``folder``, and nothing else."""
    delete_checkpoint(folder)
    forget_events(folder)
    remove(folder, [folder / name for name in MODEL_FILES])


def is_shared(config: RunConfig) -> bool:
    """Whether one training serves both roles."""
    return model_class(config.models.healthy.kind).conditional


def check_networks(config: RunConfig) -> None:
    """Raise ``ConfigError`` unless both models can be built, trained and logged as configured.

    Nothing is allocated, so that a run can fail before its scans are prepared.
    """
    require_tensorboard(config.compute)
    models, training = config.models, config.training
    with torch.device("meta"):
        twins = [build_model(each, seed=0) for each in (models.healthy, models.mixed)]
    for role, model, options in zip(ROLES, twins, (training.healthy, training.mixed), strict=True):
        if options.adapt.rounds and not (role == "healthy" and model.finds_lesions):
            raise ConfigError(
                f"training.{role}.adapt: expected a healthy model that looks for lesions "
                f"(slab_unet), found the {role} model of kind {model.config.kind}"
            )
        if options.labels is not None and not model.slab:
            raise ConfigError(
                f"training.{role}.labels: expected a model that sees slabs (slab_unet), found the "
                f"{role} model of kind {model.config.kind}"
            )
    if not any(model.conditional for model in twins):
        return
    if models.healthy != models.mixed or training.healthy != training.mixed:
        kind = next(model.config.kind for model in twins if model.conditional)
        raise ConfigError(
            f"kind {kind}: is trained once for both roles; expected models.healthy = models.mixed "
            f"and training.healthy = training.mixed, found them different"
        )
    if training.healthy.data != "own":
        raise ConfigError(
            f"training.data: expected own (each slice with its role as condition) for kind "
            f"{models.healthy.kind}, found {training.healthy.data}"
        )


def _train_one(
    role: str,
    config: ModelConfig,
    options: TrainConfig,
    work: _Work,
    seed: int,
    healthy: Model | None = None,
) -> Model:
    network, start = _at_start(config, options, seed)
    last = work.folder / role
    first = last / "round-0" if options.adapt.rounds else last
    if options.data == "none":
        trained = _untrained(network, options, first)
    else:
        data = _slices(role, options, work, network, healthy)
        trained = work.fit(network, data, options, seed, role, first, start)

    def go_on(model: Model, data: TrainingData, again: TrainConfig, folder: Path) -> Model:
        return work.fit(model, data, again, seed, role, folder, _weights(model))

    return adapted(trained, work.store, options, work.compute, go_on, last)


def _slices(
    role: str, options: TrainConfig, work: _Work, network: Model, healthy: Model | None
) -> TrainingData:
    """What ``network`` is trained on."""
    if options.labels is not None:
        size = network.config.image_size
        return PaintedSlabs.of_folder(options.labels, size, options.painted)
    if options.data != "mixed_and_healthy_reconstructions":
        return role_slices(work.store, role, options, slabs=network.slab)
    if healthy is None:
        raise ConfigError(f"training.{role}.data: expected slices, found {options.data}")
    return with_reconstructions(work.store, healthy, work.compute)


def _at_start(config: ModelConfig, options: TrainConfig, seed: int) -> tuple[Model, str]:
    """The model before training, and the name of its weights unless they follow from ``seed``."""
    network = build_model(config, seed)
    if options.start is None:
        return network, ""
    given = load_model(options.start)
    try:
        network.load_state_dict(given.state_dict())
    except RuntimeError:
        raise ConfigError(
            f"{options.start}: expected a model of kind {config.kind} and of the widths "
            f"configured, found kind {given.config.kind}, {list(given.config.encoder_channels)}"
        ) from None
    return network, _weights(network)


def _weights(model: Model) -> str:
    """A name for the very weights."""
    found = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        found.update(name.encode())
        found.update(value.cpu().contiguous().numpy().tobytes())
    return found.hexdigest()


def _train_shared(config: RunConfig, work: _Work) -> Model:
    seed = 2 * config.seed
    network = build_model(config.models.healthy, seed)
    labelled = getattr(network.options, "labelled_patients", 0)
    data = conditioned_slices(work.store, labelled, config.seed)
    return work.fit(network, data, config.training.healthy, seed, SHARED, work.folder / SHARED)


def _untrained(network: Model, options: TrainConfig, folder: Path) -> Model:
    """Store ``network`` as it is: with its random weights an ablation, with given ones no news."""
    network.eval()
    if options.half:
        round_weights(network)
    save_model(network, folder)
    write_text(folder / "log.jsonl", "")
    write_json(
        folder / "trained.json", {"fingerprint": "untrained", "seconds": 0, **size_of(network)}
    )
    return network
