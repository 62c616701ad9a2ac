"""A run: one folder that holds everything one configuration produced, and which stages are done."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from twinvae import __version__
from twinvae.config import RunConfig, dump_config, load_config
from twinvae.errors import StageError
from twinvae.files import digest, read_json, write_json, write_yaml

STAGES = ("index", "prepare", "train", "score", "calibrate", "evaluate", "report")


@dataclass(frozen=True)
class Run:
    """A run's folder and configuration."""

    folder: Path
    config: RunConfig
    pool: Path | None = None
    """Folder where runs that belong together keep trained models, so that each is trained once."""

    @classmethod
    def create(cls, config: RunConfig, folder: Path, pool: Path | None = None) -> Run:
        """Start a run in ``folder``, or go on there with ``config``: changed stages are redone."""
        run = cls(Path(folder), config, pool)
        write_yaml(run.folder / "config.yaml", dump_config(config))
        write_json(run.folder / "run.json", _provenance(config))
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run; ``StageError`` when ``folder`` is none."""
        path = Path(folder) / "config.yaml"
        if not path.is_file():
            raise StageError(f"{folder}: expected a run's folder (with config.yaml), found none")
        return cls(Path(folder), load_config(path))

    def share_slices(self, other: Run) -> None:
        """Take the manifest and slices of ``other``, of the same cohort and recipe, as this run's.

        They stay where they are; links lead there.
        """
        for stage in ("index", "prepare"):
            write_json(self._stamp(stage), other._done(stage))
        for name in ("manifest.tsv", "slices"):
            link = self.folder / name
            if not link.is_symlink():
                link.symlink_to(os.path.relpath(other.folder / name, self.folder))

    @property
    def manifest(self) -> Path:
        """The table of scans."""
        return self.folder / "manifest.tsv"

    @property
    def slices(self) -> Path:
        """The slice store."""
        return self.folder / "slices"

    @property
    def scans(self) -> Path:
        """Statistics of each prepared scan."""
        return self.slices / "scans.tsv"

    @property
    def flags(self) -> Path:
        """What quality control says of each scan."""
        return self.slices / "qc.tsv"

    @property
    def models(self) -> Path:
        """Holds ``healthy`` and ``mixed``."""
        return self.folder / "models"

    @property
    def scores(self) -> Path:
        """The table of scores."""
        return self.folder / "scores.tsv"

    @property
    def fitted(self) -> Path:
        """What fitted scores learned from healthy slices; only there if some did."""
        return self.folder / "fitted.safetensors"

    @property
    def maps(self) -> Path:
        """Maps of test slices with tumour masks; only there if ``scoring.maps`` names some."""
        return self.folder / "maps"

    @property
    def calibration(self) -> Path:
        """The thresholds."""
        return self.folder / "calibration.json"

    @property
    def bundle(self) -> Path:
        """Everything detection needs."""
        return self.folder / "bundle"

    @cached_property
    def _plain(self) -> dict[str, Any]:
        return dump_config(self.config)

    def fingerprint(self, stage: str, extra: Any = None) -> str:
        """Changes when the stage would give something else: its settings, or a stage before it."""
        position = STAGES.index(stage)
        before = self._done(STAGES[position - 1]) if position else {}
        settings = {key: self._plain[key] for key in _SETTINGS[stage]}
        compute = self._plain["compute"]["precision"] if stage in ("train", "score") else None
        return digest([settings, compute, before.get("fingerprint"), extra, __version__])

    def stage(
        self, stage: str, work: Callable[[], None], *, extra: Any = None, force: bool = False
    ) -> bool:
        """Do ``work`` unless it was done with this fingerprint; returns whether it was done now.

        ``extra`` is what else decides the outcome, such as files outside the run. Raises
        ``StageError`` when the stage before it is not done.
        """
        wanted = self.fingerprint(stage, extra)
        if not self.pending(stage, extra) and not force:
            return False
        self._stamp(stage).unlink(missing_ok=True)
        work()
        write_json(self._stamp(stage), {"fingerprint": wanted})
        return True

    def pending(self, stage: str, extra: Any = None) -> bool:
        """Whether there is something to do; ``StageError`` when the stage before is not done."""
        position = STAGES.index(stage)
        if position and not self._done(STAGES[position - 1]):
            raise StageError(
                f"{self.folder}: stage {stage} reads what {STAGES[position - 1]} writes; "
                f"run that first (or `twinvae run`)"
            )
        return self._done(stage).get("fingerprint") != self.fingerprint(stage, extra)

    def _stamp(self, stage: str) -> Path:
        return self.folder / "stages" / f"{stage}.json"

    def _done(self, stage: str) -> dict[str, Any]:
        path = self._stamp(stage)
        stamp: dict[str, Any] = read_json(path) if path.is_file() else {}
        return stamp


_SETTINGS: dict[str, tuple[str, ...]] = {
    "index": ("cohort", "contrast"),
    "prepare": ("recipe",),
    "train": ("models", "training", "seed"),
    "score": ("scoring",),
    "calibrate": ("decision", "contrast"),
    "evaluate": ("evaluation", "decision"),
    "report": ("name", "about"),
}


def _provenance(config: RunConfig) -> dict[str, Any]:
    names = ("twinvae", "torch", "numpy", "scipy", "SimpleITK", "nibabel", "scikit-learn")
    return {
        "name": config.name,
        "seed": config.seed,
        "config": digest(dump_config(config)),
        "git_revision": _git_revision(),
        "python": platform.python_version(),
        "machine": platform.machine(),
        "versions": {name: _version(name) for name in names},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _git_revision() -> str | None:
    """Revision of the source tree this package runs from; None when installed without one."""
    here = Path(__file__).resolve().parent
    if here.parent.name != "src":
        return None
    try:
        done = subprocess.run(
            ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"],
            capture_output=True, text=True, timeout=5, check=False,
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
