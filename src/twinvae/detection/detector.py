"""Detection from Python: a bundle in memory, and scans from wherever they are.

Nothing is written, but by ``Result.write``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, overload

from nibabel.spatialimages import SpatialImage
from numpy.typing import ArrayLike

from twinvae.detection.bundle import Bundle, read_bundle
from twinvae.detection.composite import Composite, read_composite
from twinvae.detection.detect_patients import judge_patient, look_at
from twinvae.detection.look import Reader, look
from twinvae.detection.options import check_compute
from twinvae.detection.privacy import Cover, called, names_of, raise_told
from twinvae.detection.result import PatientResult, Result
from twinvae.detection.results import RESERVED
from twinvae.detection.shipped import bundle_path, is_composite
from twinvae.errors import ConfigError
from twinvae.imaging import ScanFiles, Stripping, Volume, is_image, volume_in_memory
from twinvae.parallel import Device

if TYPE_CHECKING:  # half a second, for nothing but a name
    import SimpleITK

Scan: TypeAlias = "str | os.PathLike[str] | SpatialImage | SimpleITK.Image | ArrayLike"
"""A path (NIfTI, .mha, .nrrd, a DICOM folder), an image of nibabel's or SimpleITK's, or an array
(X, Y, Z), whose affine is given beside it."""


@dataclass(frozen=True)
class Detector:
    """A bundle, or a composite one, ready to judge scans. Not for clinical use."""

    name: str
    """What the bundle is called."""
    bundles: Mapping[str, Bundle]
    """By contrast; one, under its own contrast, unless the bundle is a composite one."""
    composite: Composite | None = None
    device: Device | None = None
    threads: int | None = None

    @classmethod
    def load(
        cls, bundle: str | Path, *, device: Device | None = None, threads: int | None = None
    ) -> Detector:
        """Read a bundle from its folder, or by the name of one that comes with the package.

        ``device``: cpu, cuda or auto, the default; ``threads``: of the processor, default all.
        Raises ``DataError`` when there is no such bundle, or not as it was packed, and
        ``ConfigError`` for a device or a number of threads that there cannot be.
        """
        check_compute(device, threads)
        folder = bundle_path(bundle)
        if is_composite(folder):
            composite = read_composite(folder)
            members = composite.members(composite.contrasts)
            return cls(composite.name, members, composite, device, threads)
        one = read_bundle(folder)
        return cls(one.config.name, {one.config.contrast: one}, None, device, threads)

    @overload
    def predict(
        self, scan: Mapping[str, Scan], *, brain_mask: Scan | Mapping[str, Scan] | None = ...,
        affine: ArrayLike | None = ..., skull_strip: bool | Stripping = ...,
        maps: Sequence[str] = ..., force: bool = ..., name: str | None = ...,
    ) -> PatientResult: ...  # fmt: skip

    @overload
    def predict(
        self, scan: Scan, *, brain_mask: Scan | Mapping[str, Scan] | None = ...,
        affine: ArrayLike | None = ..., skull_strip: bool | Stripping = ...,
        maps: Sequence[str] = ..., force: bool = ..., name: str | None = ...,
    ) -> Result: ...  # fmt: skip

    def predict(
        self,
        scan: Scan | Mapping[str, Scan],
        *,
        brain_mask: Scan | Mapping[str, Scan] | None = None,
        affine: ArrayLike | None = None,
        skull_strip: bool | Stripping = False,
        maps: Sequence[str] = (),
        force: bool = False,
        name: str | None = None,
    ) -> Result | PatientResult:
        """Judge one scan or, with a composite bundle, a patient's scans by contrast.

        ``affine``: 4×4, of arrays, from voxels to mm (RAS). ``brain_mask``: as a scan, on its grid;
        an array needs no affine of its own; of a patient for every scan, or by contrast. ``maps``,
        ``skull_strip``, ``force``: as for ``detect_scans``. ``name``: what results call it.

        Raises ``DataError`` for a scan or mask that cannot be used, ``ConfigError`` for arguments
        that do not fit together.
        """
        if skull_strip and brain_mask is not None:
            raise ConfigError("skull_strip: expected no brain mask beside it, found one")
        given = self._by_contrast(scan)
        masks = brain_mask if isinstance(brain_mask, Mapping) else dict.fromkeys(given, brain_mask)
        if set(masks) - set(given):
            raise ConfigError(
                f"brain_mask: expected masks of {', '.join(given)}, found {', '.join(masks)}"
            )
        reader_of = partial(
            Reader.of, maps=maps, device=self.device, threads=self.threads, skull_strip=skull_strip
        )
        there = [contrast for contrast in self.bundles if contrast in given]
        readers = {contrast: reader_of(self.bundles[contrast]) for contrast in there}
        of = {
            contrast: _files(
                given[contrast],
                masks.get(contrast),
                affine,
                name or (None if self.composite is None else "patient"),
                "" if self.composite is None else contrast,
            )
            for contrast in there
        }
        if self.composite is not None:
            return self._patient(self.composite, readers, of, force=force)
        (reader,), (files,) = readers.values(), of.values()
        try:
            return Result.of(look(reader, files, force=force))
        except Exception as error:
            raise_told(error, files.image)

    def _by_contrast(self, scan: Scan | Mapping[str, Scan]) -> Mapping[str, Scan]:
        """What is given, by contrast; ``ConfigError`` unless there is a bundle for it."""
        there = ", ".join(self.bundles)
        if self.composite is None:
            if isinstance(scan, Mapping):
                raise ConfigError(f"bundle {self.name}: expected one scan, found a mapping")
            return dict.fromkeys(self.bundles, scan)
        if not isinstance(scan, Mapping):
            raise ConfigError(
                f"bundle {self.name}: expected scans by contrast ({there}), as "
                f'{{"{next(iter(self.bundles))}": scan}}, found one without its contrast'
            )
        if not scan or set(scan) - set(self.bundles):
            found = ", ".join(map(str, scan)) or "none"
            raise ConfigError(
                f"bundle {self.name}: expected contrasts among {there}, found {found}"
            )
        return scan

    def _patient(
        self,
        composite: Composite,
        readers: Mapping[str, Reader],
        of: Mapping[str, ScanFiles],
        *,
        force: bool,
    ) -> PatientResult:
        looked = look_at(readers, of, {}, strict=True, force=force)
        name = next(iter(of.values())).subject
        one, thresholds = judge_patient(composite, of, looked, {}, name, Path(name), force=force)
        scans = {contrast: Result.of(each) for contrast, each in looked.items()}
        facts = (one.name, one.judgement, one.warnings, scans, one)
        return PatientResult(*facts, composite, thresholds)


def _files(
    scan: Scan, mask: Scan | None, affine: ArrayLike | None, name: str | None, contrast: str = ""
) -> ScanFiles:
    """The scan and its mask, in memory unless they are paths."""
    if isinstance(scan, str | os.PathLike):
        if affine is not None:
            raise ConfigError(f"{scan}: expected no affine beside a file, which has its own")
        image, voxels = Path(scan), None
        subject = name or names_of([image], [Cover.of(image)], RESERVED)[0]
    else:
        subject = name or "scan"
        # No file is called so: what asks the disk about a scan must find none of another's.
        image = Path(" ".join(filter(None, (subject, contrast, "(in memory)"))))
        voxels = volume_in_memory(scan, affine, str(image))
    files = ScanFiles(subject, image, voxels=voxels)
    if mask is None:
        return files
    if isinstance(mask, str | os.PathLike):
        return replace(files, brain_mask=Path(mask))
    return replace(files, brain_voxels=_mask(mask, files))


def _mask(mask: Scan, files: ScanFiles) -> Volume:
    where = f"brain mask of {called(files.image)}"
    if is_image(mask):
        return volume_in_memory(mask, None, where)
    try:
        own = files.read().affine
    except Exception as error:
        raise_told(error, files.image)
    return volume_in_memory(mask, own, where)
