"""Where the scans come from and how subjects are split."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from twinvae.config.base import Documented
from twinvae.vocabulary import Role

PhantomContrast = Literal["T2w", "FLAIR", "T1w"]


class PhantomConfig(Documented):
    """A generated cohort made from the MNI152 tissue maps or, with `labels`, from label maps."""

    healthy: int = Field(default=90, ge=1)
    """Subjects of the healthy source."""
    mixed: int = Field(default=80, ge=1)
    """Subjects of the mixed source."""
    seed: int = Field(default=0, ge=0)
    """The same seed gives the same bytes."""
    spacing_mm: float = Field(default=2.0, ge=1.0, le=4.0)
    """Isotropic voxel size of the volumes, in mm."""
    tumour_share: float = Field(default=0.7, ge=0.0, le=1.0)
    """Share of mixed subjects that carry a lesion."""
    labels: Path | None = None
    """Folder of FreeSurfer- or SynthSeg-style segmentations to make the brains from; relative to
    the configuration file."""
    contrast: PhantomContrast = "T2w"
    """Contrast of the scans; others than T2w need `labels`."""

    @model_validator(mode="after")
    def _contrast_can_be_made(self) -> Self:
        if self.labels is None and self.contrast != "T2w":
            raise ValueError(f"contrast {self.contrast} needs labels, a folder of label maps")
        return self


class SourceConfig(Documented):
    """One folder of scans, or one hand-written table of them."""

    path: Path
    """Folder or CSV/TSV table; relative to the configuration file."""
    role: Role
    """`healthy`: everyone in it is guaranteed healthy. `mixed`: may hold tumours."""
    layout: str = "auto"
    """How the folder is laid out, one of `twinvae layouts list`; `auto` recognises it."""
    series: str | None = None
    """Layout dicom: take the series whose SeriesDescription or SeriesInstanceUID fits this pattern
    (`*t2*tra*`, any case), whatever their headers say; by default they are chosen by contrast."""
    source: str | None = None
    """Name of the source in every table; by default the folder's or file's name."""
    trust_grid: bool = False
    """Masks of the scan's shape and voxel size take the scan's affine, whatever origin or turn
    their own header says; those that do not lie in the brain are refused all the same."""


class SplitConfig(Documented):
    """Seeded splits by subject, within each source; never by slice."""

    train: float = Field(default=0.70, gt=0, lt=1)
    """Share of subjects to train on."""
    val: float = Field(default=0.15, ge=0, lt=1)
    """Share of subjects to set thresholds on."""
    test: float = Field(default=0.15, ge=0, lt=1)
    """Share of subjects to test on."""
    seed: int = Field(default=0, ge=0)
    """Seed of the shuffle."""

    @model_validator(mode="after")
    def _sums_to_one(self) -> Self:
        if abs(self.train + self.val + self.test - 1) > 1e-6:
            total = self.train + self.val + self.test
            raise ValueError(f"train + val + test must be 1, found {total:g}")
        return self


class CohortConfig(Documented):
    """Exactly one of `phantom`, `sources` or `manifest` says where the scans are."""

    phantom: PhantomConfig | None = None
    """Generate a cohort inside the run folder."""
    sources: tuple[SourceConfig, ...] = ()
    """Folders or tables to index."""
    manifest: Path | None = None
    """A manifest.tsv that already exists; relative to the configuration file."""
    split: SplitConfig = SplitConfig()
    """Used for subjects whose split is not already given by a manifest or table."""
    tumour_free_as_healthy: bool = False
    """Let slices without tumour of mixed subjects stand in for healthy ones, where there is no
    healthy source. This uses tumour masks of training and validation subjects: no longer without
    labels."""

    def paths(self) -> tuple[Path, ...]:
        """Files and folders that the user gave, which are only read."""
        given = [source.path for source in self.sources]
        labels = None if self.phantom is None else self.phantom.labels
        return (*given, *(path for path in (self.manifest, labels) if path is not None))

    @model_validator(mode="after")
    def _exactly_one(self) -> Self:
        given = [self.phantom is not None, bool(self.sources), self.manifest is not None]
        if sum(given) != 1:
            raise ValueError("give exactly one of phantom, sources, manifest")
        return self
