"""What has changed is done again, what has not is kept, and nothing edited is used unnoticed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from tiny import TINY, tiny_config
from twinvae import provenance
from twinvae.config import load_config
from twinvae.detection.bundle import read_bundle
from twinvae.errors import DataError, StageError
from twinvae.files import checksum, read_json
from twinvae.models import build_model, save_model
from twinvae.runs import folder as run_module
from twinvae.runs.folder import STAGES, Run
from twinvae.runs.stages import run_stage
from twinvae.training.fit import _Training


@pytest.fixture
def run(tiny_run: Run, tmp_path: Path) -> Run:
    """A copy of the finished run, as somebody might have moved it."""
    shutil.copytree(tiny_run.folder, tmp_path / "moved")
    return Run.open(tmp_path / "moved")


@pytest.fixture
def epochs(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Every epoch that is trained leaves its number here."""
    trained: list[int] = []
    epoch = _Training.epoch

    def noted(self: _Training, number: int, *rest: object) -> object:
        trained.append(number)
        return epoch(self, number, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(_Training, "epoch", noted)
    return trained


def redone(run: Run) -> list[str]:
    return [stage for stage in STAGES if run_stage(run, stage)]


def test_nothing_is_done_again_when_nothing_changed(run: Run) -> None:
    before = {path: path.stat().st_mtime_ns for path in run.folder.rglob("*") if path.is_file()}
    assert redone(run) == []
    assert {p: p.stat().st_mtime_ns for p in before} == before


@pytest.mark.parametrize(
    ("setting", "value", "stages"),
    [
        ("contrast", "T2star", STAGES),
        ("recipe", [*TINY["recipe"][:3], {**TINY["recipe"][3], "min_area_mm2": 4100},
                    TINY["recipe"][4]], STAGES[1:]),
        ("training.mixed.learning_rate", 2e-3, STAGES[2:]),
        ("models.healthy.activation", "leaky_relu", STAGES[2:]),
        ("seed", 3, STAGES[2:]),
        ("compute.precision", "bf16", STAGES[2:]),
        ("scoring.batch_size", 100, STAGES[3:]),
        ("decision.percentiles", [90.0], STAGES[4:]),
        ("evaluation.resamples", 51, STAGES[5:]),
        ("about", "Another word.", STAGES[6:]),
    ],
)  # fmt: skip
def test_a_changed_setting_redoes_what_depends_on_it(
    setting: str, value: object, stages: tuple[str, ...], run: Run
) -> None:
    changed = Run.create(load_config(run.folder / "config.yaml", {setting: value}), run.folder)
    position = STAGES.index(stages[0])
    for stage in STAGES[:position]:
        assert not changed_by(changed, stage), stage
    assert changed_by(changed, STAGES[position])


def changed_by(run: Run, stage: str) -> bool:
    """Whether the stage has something to do, without doing it."""
    from twinvae.runs.stages import _read

    return run.pending(stage, _read(run, stage))


@pytest.mark.parametrize("stage", STAGES)
def test_changed_code_of_a_stage_is_noticed(
    stage: str, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert not changed_by(run, stage)
    parts, digest = provenance.STAGE_CODE[stage], run_module.code_digest
    monkeypatch.setattr(
        run_module, "code_digest", lambda p: digest(p) + ("-new" if p == parts else "")
    )
    assert changed_by(run, stage)


def test_code_counts_and_comments_do_not(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    code = 'def f(x):\n    """Says."""\n    return x + 1\n'
    same = 'def f(x):  # why\n    """Says more."""\n\n    return (x + 1)\n'
    digests = []
    for source in (code, same, code.replace("1", "2")):
        (tmp_path / "part.py").write_text(source)
        monkeypatch.setattr(provenance, "_HERE", tmp_path)
        provenance.code_digest.cache_clear()
        digests.append(provenance.code_digest(("part.py",)))
    monkeypatch.setattr(provenance, "__version__", "99.0")
    provenance.code_digest.cache_clear()
    digests.append(provenance.code_digest(("part.py",)))
    provenance.code_digest.cache_clear()
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


def test_results_are_kept_by_the_letter_of_the_code(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(provenance, "_HERE", tmp_path)
    digests = []
    for source in ("x = 1\n", "x = 1\n", "x = 1  # why\n", "x = 2\n"):
        (tmp_path / "part.py").write_text(source)
        provenance.source_digest.cache_clear()
        digests.append(provenance.source_digest(("part.py",)))
    provenance.source_digest.cache_clear()
    assert digests[0] == digests[1]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("name", "stage"),
    [
        ("manifest.tsv", "prepare"),
        ("slices/images.npy", "train"),
        ("slices/brain.npy", "train"),
        ("slices/tumour.npy", "evaluate"),
        ("slices/index.tsv", "score"),
        ("slices/recipe.json", "calibrate"),
        ("models/healthy/weights.safetensors", "score"),
        ("models/mixed/model.json", "score"),
        ("scores.tsv", "calibrate"),
        ("calibration.json", "evaluate"),
        ("metrics.tsv", "report"),
        ("report.html", "report"),
    ],
)
def test_a_file_edited_by_hand_is_never_used_unnoticed(name: str, stage: str, run: Run) -> None:
    path = run.folder / name
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(StageError, match=r"expected the file as the stage .* wrote it") as error:
        run_stage(run, stage)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "name", ["slices/images.npy", "scores.tsv", "bundle/recipe.json", "metrics.tsv", "report.html"]
)
def test_a_flipped_bit_under_an_old_time_is_not_said_to_be_well(name: str, run: Run) -> None:
    """Disks lose bits without touching the time of a file."""
    path = run.folder / name
    status, raw = path.stat(), bytearray(path.read_bytes())
    raw[len(raw) // 2] ^= 1
    path.write_bytes(bytes(raw))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(StageError, match=name):
        redone(run)


@pytest.mark.parametrize("word", ["made_with", "fingerprint", "sha256", "seal"])
@pytest.mark.parametrize("stage", ["index", "score"])
def test_an_edited_stamp_is_named_and_made_anew(stage: str, word: str, run: Run) -> None:
    """A stamp vouches for files: an edited one must not speak ill, or well, of them."""
    path = run.folder / "stages" / f"{stage}.json"
    written = [p for p in run.folder.rglob("*") if p.is_file() and p.parent != path.parent]
    before = {p: checksum(p) for p in written}
    raw = bytearray(path.read_bytes())
    at = raw.index(f'"{word}"'.encode())
    raw[raw.index(b'"', at + len(word) + 2) + 2] ^= 1  # in the text that follows
    path.write_bytes(bytes(raw))
    with pytest.raises(StageError, match=rf"{stage}\.json: expected the stage's stamp") as error:
        redone(run)
    assert "delete it" in str(error.value)
    path.unlink()
    assert redone(run)[0] == stage
    assert {p: checksum(p) for p in before} == before


def test_stamps_of_a_version_without_seals_are_done_again(run: Run) -> None:
    path = run.folder / "stages" / "index.json"
    path.write_text(json.dumps({k: v for k, v in read_json(path).items() if k != "seal"}))
    assert redone(run) == ["index"]


def test_an_edited_table_is_taken_as_it_is_when_asked_to(run: Run) -> None:
    text = run.scores.read_text()
    run.scores.write_text(text[:-2] + ("2" if text[-2] == "1" else "1") + "\n")
    with pytest.raises(StageError, match=r"scores\.tsv"):
        run_stage(run, "evaluate")
    assert run_stage(run, "evaluate", force=True)
    # The thresholds come out as they were, and the metrics were made with these very scores.
    assert redone(run) == ["calibrate", "report"]


@pytest.mark.parametrize("name", ["slices/index.tsv", "report.html", "bundle/recipe.json"])
def test_a_file_that_is_gone_is_made_anew(name: str, run: Run) -> None:
    before = checksum(run.folder / name)
    (run.folder / name).unlink()
    assert redone(run)
    assert checksum(run.folder / name) == before


def edit(run: Run, where: str, split: str) -> None:
    """Change a voxel or two of a file of one scan of that split."""
    import pandas as pd

    table = pd.read_csv(run.manifest, sep="\t", keep_default_na=False)
    row = table[(table["split"] == split) & (table["role"] == "mixed")].iloc[0]
    path = run.folder / row[where]
    image = nib.Nifti1Image.from_filename(path)
    voxels = np.asarray(image.dataobj).copy()
    inside = np.argwhere(voxels > 0)
    middle = tuple(inside[len(inside) // 2])
    voxels[middle] = 0 if where.endswith("mask") else voxels.max()
    nib.save(nib.Nifti1Image(voxels, image.affine, image.header), path)


@pytest.mark.parametrize("where", ["image", "brain_mask"])
def test_one_edited_training_scan_is_prepared_and_trained_on_anew(
    where: str, run: Run, epochs: list[int]
) -> None:
    """The very fault seen: prepared again, and the old weights used."""
    before = checksum(run.models / "mixed/weights.safetensors")
    edit(run, where, "train")
    assert run_stage(run, "prepare")
    assert run_stage(run, "train")
    assert len(epochs) == 2, "the mixed model alone has other slices"
    assert checksum(run.models / "mixed/weights.safetensors") != before


def test_train_force_trains(run: Run, epochs: list[int]) -> None:
    before = checksum(run.models / "mixed/weights.safetensors")
    assert not run_stage(run, "train")
    assert epochs == []
    assert run_stage(run, "train", force=True)
    assert epochs == [0, 1, 2, 0, 1]
    assert checksum(run.models / "mixed/weights.safetensors") == before


def test_prepare_force_uses_no_part_of_a_run_that_was_killed(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    from twinvae.imaging import prepare

    tried: list[Path] = []
    work = prepare._prepare_part
    monkeypatch.setattr(prepare, "_prepare_part", lambda job: tried.append(job.part) or work(job))
    monkeypatch.setattr(prepare, "_merge", killed)
    for force, count in ((True, 32), (True, 32), (False, 0)):
        tried.clear()
        with pytest.raises(KeyboardInterrupt):
            run_stage(run, "prepare", force=force)
        assert len(tried) == count


def killed(*_: object) -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("part", ["images", "brain", "condition"])
def test_every_row_that_is_used_decides_whether_weights_are_old(part: str, tmp_path: Path) -> None:
    from twinvae.training import SliceData

    generator = np.random.default_rng(0)
    data = SliceData(
        images=generator.integers(0, 65536, (3000, 4, 4), dtype=np.uint16),
        brain=np.ones((3000, 4, 4), np.uint8),
        train=np.arange(0, 3000, 2),
        val=np.arange(1, 3000, 2),
        condition=np.zeros(3000, np.int64),
    )
    before = data.content(data.train)
    for row in (0, 2, 1022, 1024, 1500, 2046, 2048, 2998):
        getattr(data, part)[row] ^= 1
        assert data.content(data.train) != before, row
        getattr(data, part)[row] ^= 1
    getattr(data, part)[1] ^= 1  # not a training slice
    assert data.content(data.train) == before
    assert data.content(data.train[::-1]) != before


def test_where_neighbours_lie_decides_whether_weights_are_old() -> None:
    from twinvae.imaging.slabs import Slabs
    from twinvae.training import SliceData

    def content(position: np.ndarray, before: int = 0) -> str:
        """Of 30 slices of one scan, with ``before`` slices of another in the store before them."""
        names = ["a"] * before + ["b"] * 30
        index = pd.DataFrame({"subject": names, "session": "", "source": "s", "role": "healthy"})
        index["position"] = np.concatenate([np.linspace(0, 1, before), position])
        images = np.tile(np.arange(before + 30, dtype=np.uint16)[:, None, None], (1, 4, 4))
        images[before:] -= before
        rows = np.arange(before, before + 30)
        brain = np.ones(images.shape, np.uint8)
        return SliceData(images, brain, rows, rows, Slabs.of_index(index)).content(rows)

    same = np.linspace(0, 1, 30)
    assert content(same) == content(same, before=7)
    assert content(same) != content(same**1.5)


def test_training_is_done_anew_when_the_weights_it_starts_from_change(
    tiny_run: Run, tmp_path: Path, epochs: list[int]
) -> None:
    start = shutil.copytree(tiny_run.models / "healthy", tmp_path / "start")
    config = tiny_config(
        cohort__phantom=None, cohort__manifest=tiny_run.manifest,
        training__healthy__start=start, training__healthy__epochs=1, training__mixed__epochs=1,
    )  # fmt: skip
    run = Run.create(config, tmp_path / "run")
    for stage in ("index", "prepare", "train"):
        assert run_stage(run, stage)
    assert not run_stage(run, "train")
    other = build_model(config.models.healthy, seed=77)
    save_model(other, start)
    epochs.clear()
    assert run_stage(run, "train")
    assert epochs == [0]  # of the healthy model; the mixed one is as it was
    (start / "weights.safetensors").unlink()
    with pytest.raises(DataError, match=r"weights\.safetensors: no such file"):
        run_stage(run, "train")


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "a bit": lambda content: content[:-9] + bytes([content[-9] ^ 1]) + content[-8:],
    "an end": lambda content: content[:-3],
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_bundle_is_never_used(damage: str, tiny_run: Run, tmp_path: Path) -> None:
    bundle = shutil.copytree(tiny_run.bundle, tmp_path / "bundle")
    read_bundle(bundle)
    for path in sorted(p for p in bundle.rglob("*") if p.is_file() and p.name[0] != "."):
        content = path.read_bytes()
        path.write_bytes(DAMAGE[damage](content))
        with pytest.raises(DataError, match=path.name):
            read_bundle(bundle)
        path.write_bytes(content)
    (bundle / "fitted.safetensors").unlink()
    with pytest.raises(DataError, match=r"though bundle\.json names it"):
        read_bundle(bundle)


def test_an_edited_configuration_is_said_aloud(run: Run, capfd: pytest.CaptureFixture[str]) -> None:
    Run.open(run.folder)
    assert "warning" not in "".join(capfd.readouterr())
    path = run.folder / "config.yaml"
    path.write_text(path.read_text().replace("about: ", "about: Edited. "))
    Run.open(run.folder)
    assert "is not as it was written" in "".join(capfd.readouterr())


def test_a_lost_generated_scan_is_made_again(run: Run) -> None:
    lost = next((run.folder / "cohort/healthy").glob("sub-*/anat/*.nii.gz"))
    before = checksum(lost)
    lost.unlink()
    run_stage(run, "index")
    assert checksum(lost) == before


def test_runs_of_equal_settings_have_equal_fingerprints(tiny_run: Run, tmp_path: Path) -> None:
    other = Run.create(tiny_config(), tmp_path / "other")
    assert other.fingerprint("index") == tiny_run.fingerprint("index")
