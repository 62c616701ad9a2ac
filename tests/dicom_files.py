"""DICOM series written from an array and its affine, classic and enhanced, in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRLittleEndian, generate_uid
from pydicom.valuerep import format_number_as_ds

MR = "1.2.840.10008.5.1.4.1.1.4"
ENHANCED_MR = "1.2.840.10008.5.1.4.1.1.4.1"
T2 = {"SeriesDescription": "t2_tse_tra", "ScanningSequence": "SE", "EchoTime": "100"}


def uid(*words) -> str:
    """The same identifier for the same words."""
    return generate_uid(entropy_srcs=[str(word) for word in words])


def geometry(affine, shape):
    """Row and column directions, spacings, and the place of each slice, in DICOM's LPS."""
    lps = np.diag([-1.0, -1.0, 1.0, 1.0]) @ affine
    sides = np.linalg.norm(lps[:3, :3], axis=0)
    cosines = lps[:3, :3] / sides
    places = [lps[:3, 3] + k * lps[:3, 2] for k in range(shape[2])]
    return cosines, sides, places


def _ds(value) -> str:
    """A decimal string of at most 16 characters, as the standard has it."""
    return format_number_as_ds(float(value))


def header(series="1", syntax=ExplicitVRLittleEndian, kind=MR, **more) -> Dataset:
    """What every file of a series says."""
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = syntax
    ds.file_meta.MediaStorageSOPClassUID = ds.SOPClassUID = kind
    values = {
        "PatientID": "P1",
        "StudyInstanceUID": uid("study"),
        "StudyDate": "20240131",
        "StudyTime": "101500",
        "SeriesInstanceUID": uid("series", series),
        "SeriesNumber": series,
        "Modality": "MR",
        "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND"],
        "RepetitionTime": "4000",
        **T2,
        **more,
    }
    for name, value in values.items():
        if value is not None:
            setattr(ds, name, value)
    return ds


def pixels(ds: Dataset, frames: np.ndarray) -> None:
    """Put (…, rows, columns) whole numbers into a dataset."""
    ds.Rows, ds.Columns = frames.shape[-2:]
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
    ds.BitsAllocated = ds.BitsStored = 8 * frames.dtype.itemsize
    ds.HighBit = ds.BitsStored - 1
    ds.PixelRepresentation = int(frames.dtype.kind == "i")
    ds.PixelData = frames.tobytes()
    ds["PixelData"].VR = "OW" if frames.dtype.itemsize > 1 else "OB"


def classic(folder: Path, data, affine, *, seed=0, slopes=None, compress=None, edit=None, **more):
    """One file a slice, its names and numbers in disorder; returns the folder.

    ``data``: stored whole numbers (X, Y, Z), signed or not. ``slopes``: (slope, intercept) of each
    slice. ``edit(number, dataset)`` may change a slice, or return False to leave it out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    cosines, sides, places = geometry(affine, data.shape)
    order = np.random.default_rng(seed).permutation(data.shape[2])
    for number, name in enumerate(order):
        ds = header(**more)
        ds.SOPInstanceUID = uid(ds.SeriesInstanceUID, number)
        ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
        ds.InstanceNumber = str(name + 1)
        ds.ImagePositionPatient = [_ds(v) for v in places[number]]
        ds.ImageOrientationPatient = [_ds(v) for v in cosines[:, :2].T.ravel()]
        ds.PixelSpacing = [_ds(sides[1]), _ds(sides[0])]
        ds.SliceThickness = _ds(sides[2])
        if slopes is not None:
            ds.RescaleSlope, ds.RescaleIntercept = (_ds(v) for v in slopes[number])
        pixels(ds, np.ascontiguousarray(data[:, :, number].T))
        if edit is not None and edit(number, ds) is False:
            continue
        if compress is not None:
            ds.compress(compress, generate_instance_uid=False)
        ds.save_as(folder / f"IM{name:05d}", enforce_file_format=True)
    return folder


def enhanced(file: Path, data, affine, *, seed=0, slopes=None, compress=None, edit=None, **more):
    """All slices in one file, in disorder; returns the file."""
    file.parent.mkdir(parents=True, exist_ok=True)
    cosines, sides, places = geometry(affine, data.shape)
    order = np.random.default_rng(seed).permutation(data.shape[2])
    ds = header(**({"kind": ENHANCED_MR} | more))
    ds.SOPInstanceUID = uid(ds.SeriesInstanceUID, "all")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    shared, measures, plane = Dataset(), Dataset(), Dataset()
    measures.PixelSpacing = [_ds(sides[1]), _ds(sides[0])]
    plane.ImageOrientationPatient = [_ds(v) for v in cosines[:, :2].T.ravel()]
    shared.PixelMeasuresSequence = Sequence([measures])
    shared.PlaneOrientationSequence = Sequence([plane])
    ds.SharedFunctionalGroupsSequence = Sequence([shared])
    groups = []
    for number in order:
        place, scale, group = Dataset(), Dataset(), Dataset()
        place.ImagePositionPatient = [_ds(v) for v in places[number]]
        group.PlanePositionSequence = Sequence([place])
        if slopes is not None:
            scale.RescaleSlope, scale.RescaleIntercept = (_ds(v) for v in slopes[number])
            scale.RescaleType = "US"
            group.PixelValueTransformationSequence = Sequence([scale])
        groups.append(group)
    ds.PerFrameFunctionalGroupsSequence = Sequence(groups)
    ds.NumberOfFrames = str(len(order))
    pixels(ds, np.ascontiguousarray(data.transpose(2, 1, 0)[order]))
    if edit is not None:
        edit(ds)
    if compress is not None:
        ds.compress(compress, generate_instance_uid=False)
    ds.save_as(file, enforce_file_format=True)
    return file


def read(file: Path) -> Dataset:
    """A file as pydicom sees it."""
    return pydicom.dcmread(file)
