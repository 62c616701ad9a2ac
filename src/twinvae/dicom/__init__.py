"""DICOM: which series a folder holds, and one series as voxels with their place in the world."""

from twinvae.dicom.headers import Series, is_dicom, list_series
from twinvae.dicom.stack import Frame, read_series, series_frames

__all__ = ["Frame", "Series", "is_dicom", "list_series", "read_series", "series_frames"]
