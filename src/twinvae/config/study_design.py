"""What a study is: models × scores × seeds × data, in one file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from twinvae.config.base import Documented
from twinvae.config.load import load_config, parse_settings, preset_names, validated
from twinvae.config.run import RunConfig
from twinvae.errors import ConfigError

_NAME = r"^[A-Za-z0-9._-]+$"
_CELL_SETTINGS = ("models", "training", "scoring", "decision")


class StudyData(Documented):
    """One set of scans, with how they are prepared."""

    config: str
    """A preset or a configuration file, relative to the study's file."""
    folds: int | None = Field(default=None, ge=2)
    """Cross-validate over so many folds of mixed subjects; by default one split."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dotted settings over that configuration, as after `--set`."""
    models: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """Settings of single models on these scans, by the model's name."""


class StudyConfig(Documented):
    """Every model is trained on every set of scans with every seed; every score is compared."""

    name: str = Field(min_length=1, pattern=_NAME)
    """Name of the study; its folder is studies/NAME unless told otherwise."""
    about: str = ""
    """One sentence on what it is for."""
    seeds: tuple[int, ...] = Field(default=(0,), min_length=1)
    """Seeds of weights, batches and augmentation; splits and generated cohorts stay the same."""
    data: dict[str, StudyData] = Field(min_length=1)
    """Sets of scans, by name."""
    models: dict[str, dict[str, Any]] = Field(min_length=1)
    """Pairs of models, by name: dotted settings of `models`, `training`, `scoring`, `decision`."""
    settings: dict[str, Any] = Field(default_factory=dict)
    """Dotted settings of everything; `scoring.scores` says what is compared."""

    @model_validator(mode="after")
    def _models_are_known(self) -> Self:
        for name, scans in self.data.items():
            unknown = sorted(set(scans.models) - set(self.models))
            if unknown:
                raise ValueError(f"data.{name}.models: expected names of models, found {unknown}")
            self._keep_the_slices(scans.models)
        return self

    @field_validator("seeds")
    @classmethod
    def _once(cls, seeds: tuple[int, ...]) -> tuple[int, ...]:
        if len(set(seeds)) < len(seeds) or min(seeds) < 0:
            raise ValueError("expected each seed once and none below 0")
        return seeds

    @field_validator("models")
    @classmethod
    def _keep_the_slices(cls, models: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
        for name, settings in models.items():
            for dotted in settings:
                if dotted.split(".")[0] not in _CELL_SETTINGS:
                    raise ValueError(
                        f"{name}: expected settings of {', '.join(_CELL_SETTINGS)}, found "
                        f"{dotted}; what changes the slices belongs to data"
                    )
        return models

    def run_config(self, data: str, model: str | None, seed: int, folder: Path) -> RunConfig:
        """The configuration of one run; without a model, of preparing its scans.

        ``folder`` is that of the study's file. Later settings win: those of the data, of the study,
        of the model, of the model on these scans.
        """
        scans = self.data[data]
        known = scans.config in preset_names()
        own = self.models[model] | scans.models.get(model, {}) if model is not None else {}
        changes: Mapping[str, Any] = scans.settings | self.settings | own
        name = f"{self.name}-{data}" if model is None else f"{self.name}-{data}-{model}"
        return load_config(
            scans.config if known else folder / scans.config,
            {**changes, "name": name, "seed": seed},
        )


def load_study(path: Path) -> StudyConfig:
    """Read a study's YAML file; every run it asks for is validated. Raises ``ConfigError``."""
    if not path.is_file():
        raise ConfigError(f"{path}: expected a study's YAML file, found none")
    values = parse_settings(path.read_text(encoding="utf-8"), str(path))
    study = validated(StudyConfig, values, str(path))
    for data in study.data:
        for model in study.models:
            study.run_config(data, model, study.seeds[0], path.resolve().parent)
    return study
