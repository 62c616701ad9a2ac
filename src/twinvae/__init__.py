"""twinvae: find tumours in brain MRI without tumour labels. Not for clinical use.

What a notebook needs is exported here by name and imported when it is first asked for, so that
``import twinvae`` takes no time:

>>> import twinvae
>>> twinvae.load_config("paper").models.healthy.latent_size
128
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

# Two busy threads beside another busy process spin in OpenMP's barrier and run 3-16 times
# slower; waiting passively costs nothing otherwise. It must be set before torch is imported.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

__version__ = "0.1.0"

if TYPE_CHECKING:
    from twinvae.cohort.phantom import generate_cohort as generate_cohort
    from twinvae.config import PhantomConfig as PhantomConfig
    from twinvae.config import RunConfig as RunConfig
    from twinvae.config import load_config as load_config
    from twinvae.detection.bundle import Bundle as Bundle
    from twinvae.detection.bundle import read_bundle as read_bundle
    from twinvae.detection.detect import Detection as Detection
    from twinvae.detection.detect import detect_scans as detect_scans
    from twinvae.detection.detect_patients import detect_patients as detect_patients
    from twinvae.detection.detector import Detector as Detector
    from twinvae.detection.recalibrate import Site as Site
    from twinvae.detection.recalibrate import calibrate_on_site as calibrate_on_site
    from twinvae.detection.result import PatientResult as PatientResult
    from twinvae.detection.result import Result as Result
    from twinvae.detection.shipped import bundle_path as bundle_path
    from twinvae.detection.shipped import shipped_bundles as shipped_bundles
    from twinvae.detection.write_patient import PatientDetection as PatientDetection
    from twinvae.errors import TwinvaeError as TwinvaeError
    from twinvae.imaging import SliceStore as SliceStore
    from twinvae.models import VAE as VAE
    from twinvae.runs.crossval import cross_validate as cross_validate
    from twinvae.runs.evaluate_table import evaluate_table as evaluate_table
    from twinvae.runs.folder import Run as Run
    from twinvae.runs.fuse import fuse_runs as fuse_runs
    from twinvae.runs.stages import run_stage as run_stage
    from twinvae.runs.stages import run_stages as run_stages
    from twinvae.runs.study import run_study as run_study
    from twinvae.scoring import read_scores as read_scores

_WHERE = {
    "twinvae.cohort.phantom": ("generate_cohort",),
    "twinvae.config": ("PhantomConfig", "RunConfig", "load_config"),
    "twinvae.detection.bundle": ("Bundle", "read_bundle"),
    "twinvae.detection.detect": ("Detection", "detect_scans"),
    "twinvae.detection.detect_patients": ("detect_patients",),
    "twinvae.detection.detector": ("Detector",),
    "twinvae.detection.recalibrate": ("Site", "calibrate_on_site"),
    "twinvae.detection.result": ("PatientResult", "Result"),
    "twinvae.detection.shipped": ("bundle_path", "shipped_bundles"),
    "twinvae.detection.write_patient": ("PatientDetection",),
    "twinvae.errors": ("TwinvaeError",),
    "twinvae.imaging": ("SliceStore",),
    "twinvae.models": ("VAE",),
    "twinvae.runs.crossval": ("cross_validate",),
    "twinvae.runs.evaluate_table": ("evaluate_table",),
    "twinvae.runs.folder": ("Run",),
    "twinvae.runs.fuse": ("fuse_runs",),
    "twinvae.runs.stages": ("run_stage", "run_stages"),
    "twinvae.runs.study": ("run_study",),
    "twinvae.scoring": ("read_scores",),
}
_EXPORTS = {name: module for module, names in _WHERE.items() for name in names}


def __getattr__(name: str) -> Any:
    """Import what is exported when it is asked for (PEP 562)."""
    if name not in _EXPORTS:
        raise AttributeError(f"module 'twinvae' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
