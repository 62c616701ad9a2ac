"""What a run is: everything that decides its outcome, validated, printable, stored with it."""

from __future__ import annotations

from collections.abc import Iterable
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from twinvae.config.base import Documented
from twinvae.config.contrast import AUTO, following_contrast
from twinvae.config.model import NetworksConfig, TrainingConfig
from twinvae.config.recipe_steps import AlignMirror, CropResize, RecipeStep
from twinvae.vocabulary import Role, Split

PhantomContrast = Literal["T2w", "FLAIR", "T1w", "random"]


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
    split: Split | None = None
    """Where all of its subjects go whose split is not given: `test` for a source that only judges,
    `train` for one to learn from; by default they are divided."""
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


class ComputeConfig(Documented):
    """On what the work is done; changes speed, not meaning."""

    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` takes the GPU when there is one."""
    precision: Literal["fp32", "bf16", "auto"] = "fp32"
    """Precision of the networks' passes in training and scoring alike. bf16 is faster on GPUs and
    on CPUs with AVX512-BF16 or AMX, and several times slower on CPUs without; `auto` tries both
    for a second when a run is made, and stores which it was."""
    deterministic: bool = False
    """On a GPU: only kernels that give the same bits every time, some of them slower; what has no
    such kernel is an error. A CPU always gives the same bits."""
    compile: bool = False
    """Train with passes that torch.compile has compiled; scoring is as without. It needs a C++
    compiler and some minutes, and gains nothing on a CPU (docs/architecture.md). Meant for GPUs,
    where it has not been measured."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads for torch; by default one per core."""
    jobs: int | None = Field(default=None, ge=1)
    """Processes for preparing scans; by default one per core."""
    log: Literal["none", "tensorboard"] = "none"
    """`tensorboard`: while a model trains, also write its log as event files, to
    `models/ROLE/tensorboard` (`pip install "twinvae[tensorboard]"`)."""


SCORE_GROUPS = {"all": ("*",), "latent": ("latent_*",), "image": ("image_*", "residual*")}
"""Short names for many scores, as patterns."""


def matching_names(wanted: str, names: Iterable[str]) -> list[str]:
    """Those of ``names``, in their order, that a name, pattern or group stands for."""
    patterns = SCORE_GROUPS.get(wanted, (wanted,))
    return [name for name in names if any(fnmatchcase(name, each) for each in patterns)]


class ScoringConfig(Documented):
    """Which scores are computed for every slice."""

    scores: tuple[str, ...] = ("latent_l2", "image_l2", "healthy_mean_norm", "residual_local")
    """Names from `twinvae scores list`, patterns such as `latent_*`, or the groups `all`, `latent`,
    `image`; each also with `_context` at its end, among the scan's slices (docs/scores.md). The
    trivial rivals are always added, in context too where another score is. `_signed` in a name, as
    in `residual_signed_local`, is `_negative` where the contrast shows tumours dark (T1w), and
    nothing elsewhere; so in `maps` and `decision.score`."""
    maps: tuple[str, ...] = ()
    """Names or patterns from `twinvae scores maps`: written for every test slice with a tumour
    mask, and judged pixel by pixel."""
    local_fwhm_mm: float = Field(default=8.0, gt=0)
    """Full width at half maximum, in mm, of the Gaussian that smooths maps before a local score
    takes their maximum."""
    rim_mm: float = Field(default=0.0, ge=0)
    """Local scores leave out a rim of the brain this wide, rounded to whole pixels: where skull
    stripping differs, or a sulcus opens to the surface, every map has its false alarms."""
    planted: Literal["auto", "T2w", "FLAIR", "T1w", "any"] = AUTO
    """Lesions from which `learned` scores learn: mostly bright ones (T2w, FLAIR), mostly dark ones
    (T1w), or both. `auto`: those of the run's `contrast`, both where it is another one."""
    context: float = Field(default=0.05, gt=0, le=1)
    """Full width at half maximum, as a share of the brain's height, of the Gaussian by which the
    scan's other slices count in `_context` scores."""
    baseline: float = Field(default=0.5, ge=0, le=1)
    """Share of the scan's own level, the lower quartile of its smoothed scores, that `_context`
    scores leave out."""
    top_share: float = Field(default=0.02, gt=0, le=1)
    """Read by no score any more; kept so that earlier configurations and bundles are accepted."""
    region_quantile: float = Field(default=0.9, gt=0, lt=1)
    """As `top_share`."""
    occlusion_patch_mm: float = Field(default=24.0, gt=0)
    """Side, in mm, of the square patches that the occlusion map replaces by the healthy
    reconstruction."""
    occlusion_stride_mm: float = Field(default=12.0, gt=0)
    """Step, in mm, from one such patch to the next."""
    batch_size: int = Field(default=256, ge=1)
    """Slices scored at once; does not change the scores."""


class DecisionConfig(Documented):
    """How scores become verdicts; fixed before any test scan is looked at (docs/calibration.md)."""

    score: str = "latent_l2"
    """The score that verdicts use."""
    rule: Literal[
        "percentile", "size_linear", "size_binned", "size_quantile", "conformal", "mondrian"
    ] = "percentile"
    """How a slice's threshold is set. `percentile`: the paper's, one for all slices. `size_…`: it
    depends on the slice's brain area, along a line, in bins, along smooth curves. `conformal`:
    ranks among healthy slices, with a guarantee; `mondrian`: the same within bins of area and
    position."""
    unit: Literal["auto", "slice", "subject"] = "auto"
    """What counts as one observation: every healthy `slice`, or every `subject`, however many
    slices it has. `auto`: subjects for `conformal` and `mondrian`, else slices, as in the paper."""
    percentiles: tuple[float, ...] = Field(default=(99.0,), min_length=1)
    """Percentiles of healthy validation slices offered as thresholds; verdicts use the first."""
    too_few: Literal["refuse", "lower"] = "refuse"
    """What happens to percentiles that the healthy validation subjects are too few for: an error,
    or the highest that they support in its place, and every verdict says so."""
    bins: int = Field(default=4, ge=1, le=50)
    """Bins of brain area, of equally many healthy slices, for `size_binned` and `mondrian`."""
    position_bins: int = Field(default=1, ge=1, le=50)
    """Bins of the position in the brain, crossed with those of area, for `mondrian`."""
    scan_percentile: float = Field(default=90.0, gt=0, lt=100)
    """Percentile of the healthy validation scans' statistics above which a scan is called
    abnormal."""
    scan_statistic: Literal["max", "top_mean", "longest_run", "fisher", "stouffer"] = "max"
    """What makes one number of a scan's slices: the highest score; the mean of the `top_slices`
    highest; the longest run of neighbouring abnormal slices; the slices' p-values put together by
    Fisher's or by Stouffer's sum."""
    scan_rule: Literal["percentile", "conformal"] = "percentile"
    """`conformal`: a threshold that healthy scans exceed at most as often as stated, on average
    over calibrations; it needs one or two scans more."""
    top_slices: int = Field(default=5, ge=1)
    """How many slices `top_mean` looks at."""
    fdr: float = Field(default=0.1, gt=0, lt=1)
    """False discovery rate wanted among the slices of one scan that are marked `abnormal_fdr`."""
    fdr_method: Literal["bh", "by"] = "bh"
    """Benjamini–Hochberg, or Benjamini–Yekutieli, which holds under any dependence of the slices
    and finds less."""

    @model_validator(mode="after")
    def _in_range(self) -> Self:
        for value in self.percentiles:
            if not 0 < value < 100:
                raise ValueError(f"percentiles must lie between 0 and 100, found {value:g}")
        return self


class EvaluationConfig(Documented):
    """How the run is judged."""

    min_tumour_px: tuple[int, ...] = (0, 10, 20, 25, 50, 75, 100, 125, 150)
    """Smallest tumours that count: a slice is a tumour slice when its mask holds more pixels."""
    headline_min_tumour_px: int = Field(default=50, ge=0)
    """The one of them that headlines use."""
    resamples: int = Field(default=2000, ge=0)
    """Bootstrap resamples of subjects behind each interval; 0 leaves intervals out."""
    match_log_area: float = Field(default=0.15, gt=0)
    """Pairs of slices count as similar when their log brain areas (of mm²) differ by less than
    this, …"""
    match_position: float = Field(default=0.08, gt=0)
    """… and their relative positions by less than this. Matched AUROCs count such pairs; adjusted
    ones place a tumour slice among such tumour-free slices, nearer ones counting more."""
    size_strata_mm2: tuple[float, ...] = (100, 400, 1000)
    """Tumour areas in mm², rising, between which tumour slices are also judged apart by size."""
    size_strata_px: tuple[int, ...] = (100, 400, 1000)
    """The same in pixels, for tables that do not say how large their pixels are."""

    @model_validator(mode="after")
    def _sizes_rise(self) -> Self:
        for name in ("size_strata_mm2", "size_strata_px"):
            sizes = getattr(self, name)
            if list(sizes) != sorted({max(0, size) for size in sizes}):
                raise ValueError(f"{name} must rise from 0 on, found {sizes}")
        return self

    @model_validator(mode="after")
    def _headline_is_listed(self) -> Self:
        if self.headline_min_tumour_px not in self.min_tumour_px:
            raise ValueError(
                f"headline_min_tumour_px must be one of min_tumour_px {list(self.min_tumour_px)}, "
                f"found {self.headline_min_tumour_px}"
            )
        return self


class RunConfig(Documented):
    """One run, from scans to report."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9._-]+$")
    """Name of the run; its folder is runs/NAME unless told otherwise."""
    about: str = ""
    """One sentence on what the run is for; shown on the report."""
    seed: int = Field(default=0, ge=0)
    """Seed of weights, batches, augmentation and posterior samples."""
    contrast: str = "T2w"
    """MRI contrast as BIDS writes it: T2w, T1w, FLAIR, … Which lesions are planted (`auto`) and the
    sign of scores (`_signed`) follow from it."""
    against_contrast: bool = False
    """Accept planted lesions and a deciding score of the other sign than the contrast's tumours
    have: an ablation, refused otherwise."""
    cohort: CohortConfig
    """Where the scans come from."""
    recipe: tuple[RecipeStep, ...] = Field(min_length=1)
    """Preprocessing, in order."""
    models: NetworksConfig
    """The two networks."""
    training: TrainingConfig = TrainingConfig()
    """How they are fitted."""
    scoring: ScoringConfig = ScoringConfig()
    """What is computed for each slice."""
    decision: DecisionConfig = DecisionConfig()
    """How scores become verdicts."""
    evaluation: EvaluationConfig = EvaluationConfig()
    """How the run is judged."""
    compute: ComputeConfig = ComputeConfig()
    """On what it runs."""

    @model_validator(mode="before")
    @classmethod
    def _follows_contrast(cls, values: Any) -> Any:
        if not isinstance(values, dict):
            return values
        contrast = values.get("contrast", cls.model_fields["contrast"].default)
        return following_contrast(values, contrast) if isinstance(contrast, str) else values

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        last = self.recipe[-1]
        if isinstance(last, AlignMirror):
            last = self.recipe[-2:][0]
        if not isinstance(last, CropResize):
            raise ValueError(f"recipe must end with crop_resize, found {last.step}")
        if last.size != self.models.healthy.image_size:
            raise ValueError(
                f"recipe's crop_resize size {last.size} and the models' image_size "
                f"{self.models.healthy.image_size} must agree"
            )
        chosen = (matching_names(name, [self.decision.score]) for name in self.scoring.scores)
        if not any(chosen):
            raise ValueError(
                f"decision.score {self.decision.score!r} must be one of scoring.scores "
                f"{list(self.scoring.scores)}"
            )
        return self
