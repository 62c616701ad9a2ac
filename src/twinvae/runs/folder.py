"""A run: one folder that holds everything one configuration produced, and which stages are done.

A stage leaves a stamp: what it was done with (settings, code, the checksums of what it read) and
the checksum of everything it wrote. It is done again when the first would be another today, and
its files are never taken for what they no longer are.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from twinvae.config import RunConfig, dump_config, load_config
from twinvae.errors import OutputError, StageError
from twinvae.files import checksum, digest, read_json, sealed, unsealed, write_json, write_yaml
from twinvae.outputs import Kind, claim, locked, own_files
from twinvae.progress import say
from twinvae.provenance import STAGE_CODE, code_digest, made_with
from twinvae.runs.checks import require_contrast
from twinvae.training import MODEL_FILES

STAGES = ("index", "prepare", "train", "score", "calibrate", "evaluate", "report")


@dataclass(frozen=True)
class Run:
    """A run's folder and configuration."""

    folder: Path
    config: RunConfig
    pool: Path | None = None
    """Folder where runs that belong together keep trained models, so that each is trained once."""

    @classmethod
    def create(
        cls, config: RunConfig, folder: Path, pool: Path | None = None, *, kind: Kind = "run"
    ) -> Run:
        """Start a run in ``folder``, or go on there with ``config``: changed stages are redone.

        Raises ``OutputError`` when the folder holds something else, or lies within what the
        configuration reads, ``StageError`` while another process works there, and ``ConfigError``
        when planted lesions or the score contradict the contrast.
        """
        require_contrast(config)
        config = _with_precision(config, Path(folder))
        run = cls(Path(folder), config, pool)
        given = config.cohort.manifest
        if given is not None and given.resolve() == run.manifest.resolve():
            raise OutputError(f"{given}: expected another manifest than the run's own")
        claim(run.folder, kind, config.cohort.paths())
        with locked(run.folder, wait_s=3.0):  # shards that start together
            write_yaml(run.folder / "config.yaml", dump_config(config))
            facts = {
                "name": config.name,
                "seed": config.seed,
                "config": checksum(run.folder / "config.yaml"),
                **made_with(),
            }
            write_json(run.folder / "run.json", facts)
        return run

    @classmethod
    def open(cls, folder: Path) -> Run:
        """An existing run; ``StageError`` when ``folder`` is none."""
        path = Path(folder) / "config.yaml"
        if not path.is_file():
            raise StageError(f"{folder}: expected a run's folder (with config.yaml), found none")
        facts = Path(folder) / "run.json"
        if facts.is_file() and read_json(facts)["config"] != checksum(path):
            say(f"warning: {path} is not as it was written; it is used as it is now")
        return cls(Path(folder), load_config(path))

    def alone(self) -> AbstractContextManager[None]:
        """Work here alone; ``StageError`` when another process does."""
        return locked(self.folder)

    def share_slices(self, other: Run) -> None:
        """Take the manifest and slices of ``other``, of the same cohort and recipe, as this run's.

        They stay where they are; links lead there.
        """
        for stage in ("index", "prepare"):
            write_json(self._stamp(stage), sealed(other._done(stage)))
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
    def starts(self) -> dict[str, Path]:
        """Role → folder of the model whose weights its training begins with, where one is given."""
        training = self.config.training
        given = {"healthy": training.healthy.start, "mixed": training.mixed.start}
        return {role: folder for role, folder in given.items() if folder is not None}

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
        """Changes when the stage would give something else.

        It stands for the stage's settings and code, and for what every stage before it wrote.
        """
        sums = {
            name: {file: entry["sha256"] for file, entry in self._written(name).items()}
            for name in STAGES[: STAGES.index(stage)]
        }
        settings = {key: self._plain[key] for key in _SETTINGS[stage]}
        matters = {"train": ("precision", "compile"), "score": ("precision",)}.get(stage, ())
        compute = {key: self._plain["compute"][key] for key in matters}
        return digest([settings, compute, sums, extra, code_digest(STAGE_CODE[stage])])

    def stage(
        self,
        stage: str,
        work: Callable[[], None],
        *,
        extra: Any = None,
        listing: bool = False,
        force: bool = False,
    ) -> bool:
        """Do ``work`` unless it was done with this fingerprint; returns whether it was done now.

        ``extra`` is what else decides the outcome, such as files outside the run; with ``listing``
        only doing the work tells. Raises ``StageError`` when the stage before is not done, or when
        a file that an earlier stage or this one wrote is no longer as it was; ``force`` takes
        earlier ones as they are.
        """
        before = STAGES[: STAGES.index(stage)]
        if not force:
            for name in (*before, stage):
                self.check_written(name)
        if not self.pending(stage, extra) and not force and not listing:
            self.check_written(stage, thoroughly=True)  # what is kept is what will be read
            return False
        for name in before:
            if force:
                self._stamp_again(name)
            else:
                self.check_written(name, thoroughly=True)
        wanted = self.fingerprint(stage, extra)
        self._stamp(stage).unlink(missing_ok=True)
        work()
        self._write_stamp(stage, wanted)
        return True

    def pending(self, stage: str, extra: Any = None) -> bool:
        """Whether there is something to do; ``StageError`` when the stage before is not done."""
        position = STAGES.index(stage)
        if position and not self._done(STAGES[position - 1]):
            raise StageError(
                f"{self.folder}: stage {stage} reads what {STAGES[position - 1]} writes; "
                f"run that first (or `twinvae run`)"
            )
        missing = [name for name in self._written(stage) if not (self.folder / name).is_file()]
        return bool(missing) or self._done(stage).get("fingerprint") != self.fingerprint(
            stage, extra
        )

    def check_written(self, stage: str, *, thoroughly: bool = False) -> None:
        """Raise ``StageError`` when a file that ``stage`` wrote has changed since.

        Files of the same size and time are taken for the same, unless ``thoroughly``. One that is
        gone is no change: the stage is then to be done again.
        """
        for name, entry in self._written(stage).items():
            path = self.folder / name
            if not path.is_file() or (not thoroughly and _state(path) == entry["state"]):
                continue
            if checksum(path) != entry["sha256"]:
                raise StageError(
                    f"{path}: expected the file as the stage {stage} wrote it, found it edited or "
                    f"damaged; delete it and run again to have it made anew, or take it as it is "
                    f"by giving --force to the command of the stage that reads it"
                )

    def _stamp_again(self, stage: str) -> None:
        """Take the stage's files as they are now."""
        if done := self._done(stage):
            self._write_stamp(stage, done["fingerprint"])

    def _write_stamp(self, stage: str, fingerprint: str) -> None:
        wrote = {
            str(path.relative_to(self.folder)): {"sha256": checksum(path), "state": _state(path)}
            for path in _outputs(self.folder, stage)
        }
        stamp = {"fingerprint": fingerprint, "made_with": made_with(), "wrote": wrote}
        write_json(self._stamp(stage), sealed(stamp))

    def _written(self, stage: str) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = self._done(stage).get("wrote", {})
        return found

    def _stamp(self, stage: str) -> Path:
        return self.folder / "stages" / f"{stage}.json"

    def _done(self, stage: str) -> dict[str, Any]:
        """The stage's stamp; empty when it was not done, or by a version that sealed none."""
        path = self._stamp(stage)
        found = read_json(path) if path.is_file() else {}
        if "seal" not in found:
            return {}
        stamp = unsealed(found)
        if stamp is None:
            raise StageError(
                f"{path}: expected the stage's stamp as it was written, found it edited or "
                f"damaged; delete it and run again to have the stage {stage} done anew"
            )
        return stamp


def _outputs(folder: Path, stage: str) -> list[Path]:
    """The files that the stage wrote, in order."""
    found: list[Path] = []
    for pattern in _WRITES[stage]:
        if pattern.endswith("/"):
            found += own_files(folder / pattern)
        else:
            found += sorted(folder.glob(pattern))
    return found


def _state(path: Path) -> list[int]:
    status = path.stat()
    return [status.st_size, status.st_mtime_ns]


_SETTINGS: dict[str, tuple[str, ...]] = {
    "index": ("cohort", "contrast"),
    "prepare": ("recipe",),
    "train": ("models", "training", "seed"),
    "score": ("scoring",),
    "calibrate": ("decision", "contrast", "name"),
    "evaluate": ("evaluation", "decision"),
    "report": ("name", "about", "evaluation", "decision"),
}
_WRITES: dict[str, tuple[str, ...]] = {
    "index": ("manifest.tsv",),
    "prepare": ("slices/*.npy", "slices/*.tsv", "slices/recipe.json", "slices/qc/"),
    "train": tuple(f"models/*/{name}" for name in MODEL_FILES),
    "score": ("scores.tsv", "fitted.safetensors", "maps/"),
    "calibrate": ("calibration.json", "bundle/"),
    "evaluate": ("metrics.tsv", "audit.json"),
    "report": ("report.html", "figures/"),
}
"""What each stage writes in the run's folder; `NAME/`: what the folder's marker lists."""


def _with_precision(config: RunConfig, folder: Path) -> RunConfig:
    """``config``, its precision what the folder's run has, or the faster one, where `auto`."""
    if config.compute.precision != "auto":
        return config
    stored = folder / "config.yaml"
    if stored.is_file():
        precision = load_config(stored).compute.precision
    else:
        from twinvae.training.probe import faster_precision

        precision = faster_precision(config.compute)
    compute = config.compute.model_copy(update={"precision": precision})
    return config.model_copy(update={"compute": compute})
