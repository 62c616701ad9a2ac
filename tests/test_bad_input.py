# ruff: noqa: E501 (one line a case)
"""What a user can hand in and should not: each with its message, its exit code, and no half result.

One line a case: what is wrong, which error (and so which exit code), what the message says.
"""

from __future__ import annotations

import gzip
import json
import shutil
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK as sitk
import yaml

from dicom_files import classic, enhanced, header
from twinvae.cohort import read_manifest
from twinvae.cohort.layouts import index_layout
from twinvae.config import DecisionConfig, load_config
from twinvae.decision import calibrate
from twinvae.detection.bundle import read_bundle
from twinvae.detection.detect import detect_scans
from twinvae.errors import CalibrationError, ConfigError, DataError, StageError, TwinvaeError
from twinvae.imaging import read_brain_mask, read_tumour_mask, read_volume
from twinvae.runs.folder import Run
from twinvae.runs.stages import run_stage
from twinvae.scoring import read_scores

CODES = {ConfigError: 2, DataError: 3, StageError: 4, CalibrationError: 5}
DATA = np.random.default_rng(0).integers(1, 900, (6, 7, 8)).astype(np.int16)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
MANIFEST = "subject\tsession\tsource\trole\timage\tbrain_mask\ttumour_mask\tsplit\n"


@dataclass
class Bench:
    """A folder to make bad files in, and a finished run."""

    folder: Path
    run: Run

    def nifti(self, name="scan.nii", data=DATA, affine=AFFINE, edit=None) -> Path:
        path = self.folder / name
        nib.save(nib.Nifti1Image(data, affine), path)
        if edit is not None:
            raw = bytearray(path.read_bytes())
            edit(raw)
            path.write_bytes(bytes(raw))
        return path

    def mha(self, old="", new="", name="scan.mha") -> Path:
        path = self.folder / name
        sitk.WriteImage(sitk.GetImageFromArray(DATA.T), str(path))
        path.write_bytes(path.read_bytes().replace(old.encode(), new.encode(), 1))
        return path

    def text(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def manifest(self, *rows: str) -> Path:
        (self.folder / "a.nii").touch()
        return self.text("manifest.tsv", MANIFEST + "".join(f"{row}\n" for row in rows))

    def like(self):
        return read_volume(self.nifti("like.nii"))

    def dicom(self, edit=None, **more) -> Path:
        return classic(self.folder / "series", DATA.astype(np.uint16), AFFINE, edit=edit, **more)

    def bundle(self, name: str, text: str | None) -> Path:
        bundle = shutil.copytree(self.run.bundle, self.folder / "bundle")
        (bundle / name).unlink() if text is None else (bundle / name).write_text(text)
        return bundle

    def scores(self, change: Callable[[str], str]) -> Path:
        return self.text("scores.tsv", change(self.run.scores.read_text()))


def pack(kind: str, place: int, *values: float):
    return lambda raw: struct.pack_into(f"<{len(values)}{kind}", raw, place, *values)


def _gzip_cut(b: Bench) -> None:
    packed = gzip.compress(b.nifti().read_bytes())
    (b.folder / "cut.nii.gz").write_bytes(packed[: len(packed) // 2])
    read_volume(b.folder / "cut.nii.gz")


def _nan(b: Bench) -> None:
    data = DATA.astype(np.float32)
    data[1, 2, 3] = np.nan
    read_volume(b.nifti(data=data))


def _rgb(b: Bench) -> None:
    data = np.zeros((3, 3, 3), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    read_volume(b.nifti(data=data))


def _index(b: Bench, name: str, layout: str = "auto", contrast: str = "T2w", **more) -> None:
    index_layout(b.folder / name, layout, "mixed", "s", contrast, **more)


def _bids(b: Bench) -> None:
    b.text("ds/sub-01/anat/sub-01_T1w.nii.gz", "")
    _index(b, "ds")


def _two_layouts(b: Bench) -> None:
    b.text("both/BraTS2021_00000_t2.nii.gz", "")
    b.text("both/IXI002-Guys-0828-T2.nii.gz", "")
    _index(b, "both")


def _report_only(b: Bench) -> None:
    ds = header(kind="1.2.840.10008.5.1.4.1.1.88.11")
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    (b.folder / "reports").mkdir()
    ds.save_as(b.folder / "reports/1", enforce_file_format=True)
    read_volume(b.folder / "reports")


def _enhanced_without_places(b: Bench) -> None:
    def edit(ds):
        del ds.PerFrameFunctionalGroupsSequence

    read_volume(enhanced(b.folder / "e.dcm", DATA.astype(np.uint16), AFFINE, edit=edit))


def _detect(b: Bench, scan: Path, **more) -> None:
    detect_scans(b.run.bundle, [scan], b.folder / "out", threads=1, **more)


def _config(b: Bench, text: str) -> None:
    load_config(b.text("c.yaml", text))


def _stage(b: Bench, stage: str) -> None:
    folder = b.folder / "run"
    run_stage(Run.create(b.run.config, folder), stage)


def _few_for_percentile(b: Bench) -> None:
    scores = read_scores(b.run.scores)
    calibrate(scores, DecisionConfig(score="latent_l2", percentiles=(99.999,)))


Case = tuple[type[TwinvaeError], str, Callable[[Bench], object]]
CASES: dict[str, Case] = {
    # scans: NIfTI
    "no such scan": (DataError, r"gone\.nii: no such file", lambda b: read_volume(b.folder / "gone.nii")),
    "unknown type": (DataError, r"expected one of \.nii .*found \.png", lambda b: read_volume(b.text("p.png", "x"))),
    "empty file": (DataError, "NIfTI header, found 0 bytes", lambda b: read_volume(b.text("e.nii", ""))),
    "text as NIfTI": (DataError, "expected a NIfTI file, found something", lambda b: read_volume(b.text("t.nii", "x" * 400))),
    "gzip cut off": (DataError, r"cut\.nii\.gz: .*damage|truncated", _gzip_cut),
    "shape of gigabytes": (DataError, r"for shape \(30000, 30000, 9\), found", lambda b: read_volume(b.nifti(edit=pack("h", 42, 30000, 30000, 9)))),
    "negative shape": (DataError, r"shape \(-6, 7, 8\)", lambda b: read_volume(b.nifti(edit=pack("h", 42, -6)))),
    "two dimensions": (DataError, "expected a 3-D volume, found 2-D", lambda b: read_volume(b.nifti(data=DATA[0]))),
    "four dimensions": (DataError, "expected a 3-D volume, found 4-D.*say which volume", lambda b: read_volume(b.nifti(data=np.stack([DATA, DATA], -1)))),
    "volume that is not there": (DataError, "expected a volume of #0 to #1, found #5", lambda b: read_volume(Path(f"{b.nifti(data=np.stack([DATA, DATA], -1))}#5"))),
    "colour": (DataError, "expected one real number a voxel", _rgb),
    "NaN": (DataError, "expected finite voxels, found 1 NaN", _nan),
    "black": (DataError, "expected an image, found 0 in every voxel", lambda b: read_volume(b.nifti(data=DATA * 0))),
    "flat affine": (DataError, "expected an affine that can be inverted", lambda b: read_volume(b.nifti(edit=pack("f", 280, *[0.0] * 12)))),
    "affine of NaN": (DataError, "affine", lambda b: read_volume(b.nifti(edit=pack("f", 280, float("nan"))))),
    "voxels inside the header": (DataError, "expected vox_offset after the header, found 8", lambda b: read_volume(b.nifti(edit=pack("f", 108, 8.0)))),
    "metres": (DataError, "expected a header in mm, found metres", lambda b: read_volume(b.nifti(edit=pack("B", 123, 1)))),
    "header of a pair": (DataError, "expected a NIfTI file that holds its voxels", lambda b: read_volume(b.nifti(edit=pack("B", 345, ord("i"))))),
    # scans: MetaImage
    "mha cut off": (DataError, r"scan\.mha: expected 6,?72 bytes", lambda b: read_volume(_cut(b.mha(), 100))),
    "mha without DimSize": (DataError, "expected 3 whole numbers in DimSize, found none", lambda b: read_volume(b.mha("DimSize", "DimSise"))),
    "mha without spacing": (DataError, "expected ElementSpacing in the header, found none", lambda b: read_volume(b.mha("ElementSpacing", "ElementSpacimg"))),
    "mha with a word for a number": (DataError, "expected 3 numbers in ElementSpacing, found 1 x 1", lambda b: read_volume(b.mha("ElementSpacing = 1 1", "ElementSpacing = 1 x"))),
    "mha of odd voxels": (DataError, "expected ElementType one of MET_CHAR", lambda b: read_volume(b.mha("MET_SHORT", "MET_SHIRT"))),
    "mha with bent axes": (DataError, "perpendicular unit vectors in TransformMatrix", lambda b: read_volume(b.mha("Matrix = 1 0 0", "Matrix = 9 0 0"))),
    "mha of many files": (DataError, "expected one file of voxels, found ElementDataFile LIST", lambda b: read_volume(b.mha("LOCAL", "LIST"))),
    # scans: DICOM
    "folder without DICOM": (DataError, "expected a DICOM series, found no DICOM image", lambda b: read_volume(b.folder)),
    "reports only": (DataError, "found no DICOM image", _report_only),
    "slice missing": (DataError, "expected slices every 2 mm, found 4 mm .*missing slice", lambda b: read_volume(b.dicom(lambda n, ds: n != 3))),
    "one slice": (DataError, "expected a stack of slices, found 1", lambda b: read_volume(b.dicom(lambda n, ds: n == 3))),
    "slices of two sizes": (DataError, "expected slices of one size", lambda b: read_volume(b.dicom(_set(2, Rows=3, PixelData=bytes(36))))),
    "no position": (DataError, "expected ImagePositionPatient, found none", lambda b: read_volume(b.dicom(_set(2, ImagePositionPatient=None)))),
    "pixels missing": (DataError, "expected PixelData, found none", lambda b: read_volume(b.dicom(_without("PixelData")))),
    "no place for frames": (DataError, "expected a place for each of its 8 frames", _enhanced_without_places),
    "series that is not there": (DataError, r"expected series 1\.2\.3, found", lambda b: read_volume(Path(f"{b.dicom()}#1.2.3"))),
    "pattern that fits none": (DataError, r"matches '\*ciss\*', found 't2_tse_tra'", lambda b: (b.dicom(), _index(b, "series", series="*ciss*"))),
    # masks
    "empty brain mask": (DataError, r"m\.nii: expected a brain mask, found no voxel", lambda b: read_brain_mask(b.nifti("m.nii", DATA * 0), b.like())),
    "image as brain mask": (DataError, "expected a mask of zeros and one other value", lambda b: read_brain_mask(b.nifti("m.nii"), b.like())),
    "mask of another shape": (DataError, r"expected the scan's shape \(6, 7, 8\)", lambda b: read_tumour_mask(b.nifti("m.nii", DATA[1:] * 0), b.like())),
    "mask elsewhere": (DataError, "expected the scan's affine", lambda b: read_tumour_mask(b.nifti("m.nii", DATA * 0, np.eye(4)), b.like())),
    "image as tumour mask": (DataError, "expected a mask of at most 16 whole labels", lambda b: read_tumour_mask(b.nifti("m.nii"), b.like())),
    "two masks for one scan": (ConfigError, "brain-mask: expected one for each of the 1", lambda b: _detect(b, b.nifti(), brain_masks=[b.nifti("m.nii"), b.nifti("n.nii")])),
    # manifests, tables, folders
    "no manifest": (DataError, r"gone\.tsv: no such file", lambda b: read_manifest(b.folder / "gone.tsv")),
    "manifest without columns": (DataError, "missing session source", lambda b: read_manifest(b.text("m.tsv", "subject\timage\n"))),
    "manifest without rows": (DataError, "expected at least one scan", lambda b: read_manifest(b.manifest())),
    "unknown role": (DataError, "expected role one of healthy, mixed, found 'sick'", lambda b: read_manifest(b.manifest("1\t\ts\tsick\ta.nii\t\t\t"))),
    "unknown split": (DataError, "expected split one of train, val, test", lambda b: read_manifest(b.manifest("1\t\ts\tmixed\ta.nii\t\t\tx"))),
    "scan twice": (DataError, "expected each scan once", lambda b: read_manifest(b.manifest(*["1\t\ts\tmixed\ta.nii\t\t\t"] * 2))),
    "mask not there": (DataError, r"tumour_mask .*t\.nii: no such file", lambda b: read_manifest(b.manifest("1\t\ts\tmixed\ta.nii\t\tt.nii\t"))),
    "table without images": (DataError, "expected the columns subject and image, missing image", lambda b: (b.text("t.csv", "subject\n1\n"), _index(b, "t.csv"))),
    "misspelt column": (DataError, "did you mean 'tumour_mask'", lambda b: (b.text("t.csv", "subject,image,tumor_mask\n1,a,b\n"), _index(b, "t.csv"))),
    "column twice": (DataError, "expected each column once", lambda b: (b.text("t.csv", "subject,image,image\n1,a,b\n"), _index(b, "t.csv"))),
    "folder that is no data set": (DataError, "layout not recognised; expected one of", lambda b: (b.nifti(), _index(b, "."))),
    "no such folder": (DataError, "gone: no such file or folder", lambda b: _index(b, "gone")),
    "two data sets in one folder": (DataError, "expected one layout, found what looks like", _two_layouts),
    "BIDS without the contrast": (DataError, "expected scans of contrast T2w, found T1w", _bids),
    "unknown layout": (ConfigError, "layout: expected auto or one of", lambda b: _index(b, ".", "nonsense")),
    # configurations
    "unknown preset": (ConfigError, "expected a YAML file or one of the presets", lambda b: load_config("nonsense")),
    "broken YAML": (ConfigError, r"c\.yaml: expected YAML", lambda b: _config(b, "a: [1,")),
    "list as configuration": (ConfigError, "expected a mapping of settings", lambda b: _config(b, "- a")),
    "unknown setting": (ConfigError, "colour", lambda b: _config(b, "preset: demo\ncolour: red")),
    "setting out of range": (ConfigError, "seed: .*greater than or equal to 0, found -1", lambda b: _config(b, "preset: demo\nseed: -1")),
    "shares that do not add up": (ConfigError, "must be 1, found 1.3", lambda b: load_config("demo", {"cohort.split.train": 0.9})),
    "two places for scans": (ConfigError, "exactly one of phantom, sources, manifest", lambda b: _config(b, yaml.safe_dump({"preset": "demo", "cohort": {"manifest": "m", "phantom": {}}}))),
    "environment variable not set": (ConfigError, "environment variable", lambda b: _config(b, "preset: demo\ncohort: {manifest: $TWINVAE_NOT_SET/m.tsv}")),
    # bundles
    "folder as bundle": (DataError, "expected a bundle", lambda b: read_bundle(b.folder)),
    "bundle of the future": (DataError, "expected format 2, found 99", lambda b: read_bundle(b.bundle("bundle.json", '{"format": 99}'))),
    "bundle with broken JSON": (DataError, r"bundle\.json: expected JSON", lambda b: read_bundle(b.bundle("bundle.json", "{"))),
    "bundle with an edited recipe": (DataError, r"recipe\.json: expected the file as it was packed", lambda b: read_bundle(b.bundle("recipe.json", "{}"))),
    "bundle without weights": (DataError, r"weights\.safetensors", lambda b: read_bundle(b.bundle("models/mixed/weights.safetensors", None))),
    "bundle with broken weights": (DataError, r"weights\.safetensors", lambda b: read_bundle(b.bundle("models/mixed/weights.safetensors", "x"))),
    "detect on a folder of text": (DataError, "expected scans of contrast T2w, found no scan", lambda b: _detect(b, b.text("f/readme.txt", "x").parent)),
    # score tables
    "no scores": (DataError, r"gone\.tsv: no such file", lambda b: read_scores(b.folder / "gone.tsv")),
    "scores without a column": (DataError, "missing column position", lambda b: read_scores(b.scores(lambda t: t.replace("position", "place", 1)))),
    "score that is no number": (DataError, "expected a (finite )?number", lambda b: read_scores(b.scores(_last_cell("high")))),
    "infinite score": (DataError, "expected a finite number", lambda b: read_scores(b.scores(_last_cell("inf")))),
    "too few for the percentile": (CalibrationError, "healthy validation slices", _few_for_percentile),
    # stages out of order
    "folder that is no run": (StageError, "expected a run's folder", lambda b: Run.open(b.folder)),
    "prepare before index": (StageError, "stage prepare reads what index writes", lambda b: _stage(b, "prepare")),
    "score before train": (StageError, "stage score reads what train writes", lambda b: _stage(b, "score")),
    "report before evaluate": (StageError, "stage report reads what evaluate writes", lambda b: _stage(b, "report")),
}  # fmt: skip


def _cut(path: Path, less: int) -> Path:
    path.write_bytes(path.read_bytes()[:-less])
    return path


def _set(which: int, **values):
    def edit(number, ds):
        if number == which:
            for name, value in values.items():
                setattr(ds, name, value)

    return edit


def _without(name: str):
    def edit(number, ds):
        if number == 2:
            delattr(ds, name)

    return edit


def _last_cell(value: str) -> Callable[[str], str]:
    def change(text: str) -> str:
        lines = text.splitlines()
        lines[3] = lines[3].rpartition("\t")[0] + f"\t{value}"
        return "\n".join(lines) + "\n"

    return change


def test_there_are_at_least_fifty() -> None:
    assert len(CASES) >= 50


@pytest.mark.parametrize("name", CASES)
def test_bad_input_is_explained(name: str, tmp_path: Path, tiny_run: Run) -> None:
    kind, says, hand_in = CASES[name]
    with pytest.raises(kind, match=says) as caught:
        hand_in(Bench(tmp_path, tiny_run))
    assert caught.value.exit_code == CODES[kind]
    assert not list(tmp_path.rglob("out")), "a result was begun"
    assert not [p for p in tmp_path.rglob(".*") if p.is_dir()], "a half-written folder was left"
    json.dumps(str(caught.value))  # plain text
