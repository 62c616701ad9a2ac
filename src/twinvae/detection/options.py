"""What a user may choose when scans are judged: one place for the command line and for Python."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict, get_args

from twinvae.config import ComputeConfig, validated
from twinvae.errors import ConfigError
from twinvae.imaging import Stripping
from twinvae.parallel import Device

Layout = Literal["auto", "bids", "folders"]


class Chosen(TypedDict, total=False):
    """The fields of ``DetectOptions`` as keywords of a function (PEP 692); all may be left out."""

    brain_masks: Sequence[Path | str]
    participants: Sequence[str]
    sessions: Sequence[str]
    trust_grid: bool
    skull_strip: bool | Stripping
    maps: Sequence[str]
    strict: bool
    force: bool
    again: bool
    dicom: bool | None
    layout: Layout
    device: Device | None
    threads: int | None
    jobs: int | None
    dask: str | None


def check_compute(device: str | None, threads: int | None) -> None:
    """Raise ``ConfigError`` for a device, or a number of threads, that there cannot be."""
    own = {"device": "auto" if device is None else device, "threads": threads}
    validated(ComputeConfig, own, "options")


@dataclass(frozen=True, kw_only=True)
class DetectOptions:
    """Options of ``detect_scans`` and ``detect_patients``, given by their names."""

    brain_masks: Sequence[Path | str] = ()
    """One for each scan, in their order; only beside scans that are given one by one."""
    participants: Sequence[str] = ()
    """Subjects to take of folders and tables, ``sub-`` or not; all when empty."""
    sessions: Sequence[str] = ()
    """Sessions to take of them, ``ses-`` or not; all when empty."""
    trust_grid: bool = False
    """Masks of a scan's shape and voxel size lie on its grid, whatever their headers say."""
    skull_strip: bool | Stripping = False
    """Find the brain in heads without a mask: by HD-BET (``pip install "twinvae[hdbet]"``) or by
    a template, as it says; True: by HD-BET where that is installed, else by the template."""
    maps: Sequence[str] = ()
    """Further maps to write: names or patterns."""
    strict: bool = False
    """The first scan that cannot be used ends everything."""
    force: bool = False
    """Judge scans out of domain, too."""
    again: bool = False
    """Judge every scan anew, whatever an earlier call left."""
    dicom: bool | None = None
    """DICOM objects of DICOM series; None: where highdicom is installed."""
    layout: Layout = "auto"
    """How results are laid out: ``folders``, one a scan; ``bids``, as derivatives of a BIDS data
    set; ``auto``: BIDS of a folder with a BIDS ``dataset_description.json``, else folders."""
    device: Device | None = None
    """auto, cpu or cuda."""
    threads: int | None = None
    """CPU threads of each process; by default its share of the cores."""
    jobs: int | None = 1
    """Processes. Each loads the bundle and holds a scan and its maps in memory. None: as many as
    pay and fit, as ``twinvae detect`` has it."""
    dask: str | None = None
    """Scheduler of a Dask cluster whose workers judge instead, as `tcp://host:8786`."""

    def __post_init__(self) -> None:
        check_compute(self.device, self.threads)
        if self.jobs is not None and self.jobs < 1:
            raise ConfigError(f"jobs: expected at least 1, found {self.jobs}")
        if self.layout not in get_args(Layout):
            known = ", ".join(get_args(Layout))
            raise ConfigError(f"output-layout: expected one of {known}, found {self.layout!r}")
        for name in ("brain_masks", "participants", "sessions", "maps"):
            given = getattr(self, name) or ()
            if isinstance(given, str | Path):
                raise ConfigError(f"{name}: expected a list, found {given!r}")
            object.__setattr__(self, name, tuple(given))
        if self.skull_strip and self.brain_masks:
            raise ConfigError("skull-strip: expected no brain masks beside it, found some")
