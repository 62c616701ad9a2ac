"""The contrast is said once: what is planted, the score's sign and the scans taken follow."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from dicom_files import classic
from tiny import tiny_config
from twinvae.cohort import read_manifest
from twinvae.cohort.told_contrast import other_contrast, told_contrast
from twinvae.config import RunConfig, SourceConfig, SplitConfig, dump_config, load_config
from twinvae.detection.detect import detect_scans
from twinvae.detection.recalibrate import Site, calibrate_on_site
from twinvae.dicom import list_series
from twinvae.errors import ConfigError, DataError, PartialFailureError
from twinvae.files import read_json
from twinvae.models import build_model
from twinvae.models.contract import TrainingBatch
from twinvae.runs.checks import opposite_score
from twinvae.runs.folder import Run
from twinvae.runs.stages import run_stage, write_index
from twinvae.scoring import SCORES

SIGNED = "residual_mirror_zscore{}_local_context"


@pytest.mark.parametrize(
    ("contrast", "planted", "sign"),
    [("T2w", "T2w", ""), ("FLAIR", "FLAIR", ""), ("T1w", "T1w", "_negative"),
     ("t1", "T1w", "_negative"), ("T2star", "any", "")],
)  # fmt: skip
def test_all_follows_from_the_contrast(contrast: str, planted: str, sign: str) -> None:
    config = load_config("best", {"contrast": contrast})
    assert config.scoring.planted == config.models.healthy.options["contrast"] == planted
    assert config.decision.score == SIGNED.format(sign)
    assert f"residual{sign}_local" in config.scoring.scores
    assert "_signed" not in str(dump_config(config))
    assert load_config("demo", {"contrast": contrast}).decision.score == f"residual{sign}_local"


@pytest.mark.parametrize(("contrast", "darker"), [("T1w", True), ("T2w", False)])
def test_preset_best_plants_lesions_of_the_contrast(contrast: str, darker: bool) -> None:
    """In training: of the lesions planted in plain slices, nearly all are dark in T1w."""
    model = build_model(load_config("best", {"contrast": contrast}).models.healthy, seed=0)
    seen: list[torch.Tensor] = []
    model.heal = lambda x: seen.append(x) or x  # type: ignore[method-assign]
    plain = torch.zeros(64, 1, 128, 128)
    plain[:, :, 20:108, 20:108] = 0.45
    model.loss(TrainingBatch(plain, plain), generator=torch.Generator().manual_seed(0))
    (ill,) = seen
    change = (ill - plain).flatten(1).sum(1)
    signs = change[change.abs() > 1].sign()
    assert len(signs) > 30
    assert float((signs < 0).float().mean()) == pytest.approx(0.9 if darker else 0.1, abs=0.1)


def test_settings_given_as_models_follow_too() -> None:
    whole = tiny_config()
    parts = {name: getattr(whole, name) for name in RunConfig.model_fields}
    again = RunConfig(**{**parts, "contrast": "T1w", "scoring": whole.scoring.model_copy(
        update={"planted": "auto"})})  # fmt: skip
    assert again.scoring.planted == "T1w"
    assert again.models == whole.models


@pytest.mark.parametrize(
    ("contrast", "changes", "says"),
    [
        ("T1w", {"decision.score": "residual_local"},
         "decision.score: expected residual_negative_local with contrast T1w, in which tumours are "
         "dark, found residual_local"),
        ("FLAIR", {"decision.score": SIGNED.format("_negative")},
         "decision.score: expected residual_mirror_zscore_local_context"),
        ("T1w", {"scoring.planted": "FLAIR"}, "scoring.planted: expected T1w, any or auto"),
        ("T2w", {"models.healthy.kind": "healing_unet",
                 "models.healthy.options": {"contrast": "T1w"}},
         "models.healthy.options.contrast: expected T2w, any or auto"),
    ],
)  # fmt: skip
def test_what_contradicts_the_contrast_is_refused_unless_said_to(
    contrast: str, changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    given = {"contrast": contrast, "scoring.scores": ["residual*"], **changes}
    config = load_config("demo", given)
    with pytest.raises(ConfigError) as error:
        Run.create(config, tmp_path / "run")
    assert str(error.value).startswith(says)
    assert str(error.value).endswith("for an ablation say against_contrast: true")
    assert not (tmp_path / "run").exists()
    ablation = load_config("demo", {**given, "against_contrast": True})
    assert Run.create(ablation, tmp_path / "run").config == ablation


@pytest.mark.parametrize(
    ("contrast", "changes"),
    [
        ("T1w", {"scoring.planted": "any", "decision.score": "image_l2"}),
        ("FLAIR", {"scoring.planted": "T2w"}),
        ("T2star", {"scoring.planted": "T1w", "decision.score": "residual_negative_local",
                    "scoring.scores": ["residual*"]}),
    ],
)  # fmt: skip
def test_what_does_not_contradict_is_taken(
    contrast: str, changes: dict[str, Any], tmp_path: Path
) -> None:
    Run.create(load_config("demo", {"contrast": contrast, **changes}), tmp_path / "run")


def test_every_score_of_what_is_dark_is_the_opposite_of_one() -> None:
    dark = [name for name in SCORES if "_negative" in name and not name.startswith("trivial")]
    assert dark
    for name in dark:
        other = opposite_score(name)
        assert other in SCORES
        assert opposite_score(other) == name
    assert opposite_score("latent_l2") is None


def test_index_writes_the_contrast_and_a_run_of_another_refuses_it(
    tiny_run: Run, tmp_path: Path
) -> None:
    listed = tmp_path / "scans.tsv"
    source = SourceConfig(path=tiny_run.folder / "cohort/mixed", role="mixed")
    write_index([source], "t2", SplitConfig(), listed)
    assert set(read_manifest(listed)["contrast"]) == {"T2w"}
    other = tiny_config(cohort__phantom=None, cohort__manifest=str(listed), contrast="T1w")
    with pytest.raises(DataError, match=r"scans\.tsv: scan 1 .*expected contrast T1w, found T2w"):
        run_stage(Run.create(other, tmp_path / "run"), "index")
    with pytest.raises(DataError, match=r"scans\.tsv: scan 1 .*expected contrast T1w, found T2w"):
        write_index([source], "T1w", SplitConfig(), listed, append=True)
    same = tiny_config(cohort__phantom=None, cohort__manifest=str(listed))
    assert run_stage(Run.create(same, tmp_path / "run"), "index")


def test_a_table_that_says_another_contrast_is_refused_and_one_that_says_none_is_not(
    tiny_scan: Path, tmp_path: Path
) -> None:
    table = tmp_path / "scans.csv"
    source = SourceConfig(path=table, role="mixed")
    for said in ("t1", "T2", ""):
        table.write_text(f"subject,image,contrast\nP1,{tiny_scan},\nP2,{tiny_scan},{said}\n")
        if said == "t1":
            with pytest.raises(DataError, match=r"scans\.csv: scan 2 \(subject P2.*T2w, found t1"):
                write_index([source], "T2w", SplitConfig(), tmp_path / "no.tsv")
        else:
            write_index([source], "T2w", SplitConfig(), tmp_path / f"{said}.tsv")


@pytest.mark.parametrize(
    ("name", "contrast"),
    [
        ("sub-01_ses-1_T1w.nii.gz", "T1w"), ("BraTS-GLI-00000-000-t1n.nii.gz", "T1w"),
        ("BraTS-GLI-00000-000-t2w.nii.gz", "T2w"), ("BraTS-GLI-00000-000-t2f.nii.gz", "FLAIR"),
        ("TCGA_CS_6290_20000917_flair.nii.gz", "FLAIR"), ("P1_T2_FLAIR.mha", "FLAIR"),
        ("BraTS2021_00006_t1ce.nii.gz", "T1gd"), ("sub-01_ce-gd_T1w.nii.gz", "T1gd"),
        ("IXI002-Guys-0828-T2.nii.gz", "T2w"), ("sub-02_PDw.nii.gz", "PDw"),
        ("scan.nii.gz", ""), ("PD_017.nii.gz", ""), ("gd_017.nii.gz", ""), ("P1_post.nii.gz", ""),
        ("T1_T2w.nii.gz", ""),  # the first visit
    ],
)  # fmt: skip
def test_names_say_a_contrast_plainly_or_nothing(name: str, contrast: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"some")
    assert told_contrast(tmp_path / name)[0] == contrast
    others = {"T1w", "T2w", "FLAIR", "T1gd", "PDw"} - {contrast}
    for other in others:
        assert bool(other_contrast(tmp_path / name, "", other)) == bool(contrast)
    assert not other_contrast(tmp_path / name, "", contrast or "T2w")
    assert not other_contrast(tmp_path / name, "", "random")
    assert not other_contrast(tmp_path / name, "FLAIR", "FLAIR")  # whoever says it is believed
    assert not other_contrast(tmp_path / "gone" / name, "", "FLAIR")  # reading it says why


def test_headers_say_it_whatever_the_folder_is_called(tmp_path: Path) -> None:
    data, affine = np.ones((4, 4, 3)), np.diag([1.0, 1.0, 5.0, 1.0])
    t1 = {"SeriesDescription": "mprage sag", "EchoTime": "3"}
    classic(tmp_path / "P1_T2w" / "a", data, affine, series="1", **t1)
    assert told_contrast(tmp_path / "P1_T2w") == ("T1w", "its headers")
    timed = {"SeriesDescription": "brain", "EchoTime": "120", "InversionTime": "2300"}
    classic(tmp_path / "P1_T2w" / "b", data, affine, series="2", **timed)
    assert told_contrast(tmp_path / "P1_T2w") == ("", "")  # which of the two is not said
    (uid,) = {h.SeriesInstanceUID for h in list_series(tmp_path / "P1_T2w" / "b")[0].headers}
    said = other_contrast(Path(f"{tmp_path / 'P1_T2w'}#{uid}"), "", "T2w")
    assert said.startswith("expected a scan of contrast T2w, found FLAIR by its headers (TE 120")


def test_detect_skips_a_scan_of_another_contrast_unless_forced(
    tiny_run: Run, tiny_scan: Path, tmp_path: Path
) -> None:
    other = tmp_path / "P1_T1w.nii.gz"
    shutil.copyfile(tiny_scan, other)
    with pytest.raises(PartialFailureError) as error:
        detect_scans(tiny_run.bundle, [other, tiny_scan], tmp_path / "out", threads=1)
    assert "1 of 2 scans skipped" in str(error.value)
    for part in (str(other), "contrast T2w, found T1w by its name", "bundle of that", "--force"):
        assert part in str(error.value)
    (forced,) = detect_scans(tiny_run.bundle, [other], tmp_path / "out", threads=1, force=True)
    warned = read_json(forced.folder / "verdict.json")["warnings"]
    said = "OTHER CONTRAST: expected a scan of contrast T2w, found T1w by its name."
    assert said in warned
    assert said in (forced.folder / "report.html").read_text()


def test_calibrate_skips_them_too(tiny_run: Run, tiny_scan: Path, tmp_path: Path) -> None:
    image = nib.load(tiny_scan)
    nib.save(image, tmp_path / "P1_T1w.nii.gz")
    table = tmp_path / "scans.csv"
    table.write_text("subject,image\nP1,P1_T1w.nii.gz\n")
    cpu = {"compute.threads": 1, "compute.jobs": 1, "compute.device": "cpu"}
    with pytest.raises(DataError, match=r"P1_T1w.*T2w, found T1w by its name; .*column contrast"):
        calibrate_on_site(tiny_run.bundle, Site(table, "healthy"), tmp_path / "new", overrides=cpu)
