"""One tool's side of benchmarks/prepare.py: prepare scans one by one, on one core, when told to.

    python prepare_worker.py twinvae|twinvae-n4|twinvae-register|torchio|monai CORE

Reads a path a line; answers each with JSON: seconds of the core (reading included), seconds on the
clock, and the process's peak memory; with ` > FILE` after the path it also saves the pictures. It
imports only what its tool needs, so that it runs in an environment without twinvae.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS"):
    os.environ[name] = "1"

import numpy as np  # noqa: E402

# The recipe all of them follow: RAS, brain = what is not zero, percentiles 0 and 99.9 of the brain
# to 0 and 1, slices of at least 2,500 mm² of brain, 200 mm around the brain, 64×64, masks too.
HIGH, LEAST_MM2, FIELD_MM, SIZE = 99.9, 2500.0, 200, 64


def twinvae(extra: str = "") -> Callable[[Path], np.ndarray]:
    """This project, perhaps with one more step."""
    from twinvae.config import (
        BiasCorrection,
        BrainMask,
        CropResize,
        PercentileScale,
        Register,
        Reorient,
        SelectSlices,
    )
    from twinvae.imaging import ScanFiles, fit_recipe, prepare_scan
    from twinvae.parallel import keep_freed_memory

    keep_freed_memory()  # as `twinvae prepare` and its workers do
    more = {"": (), "n4": (BiasCorrection(),), "register": (Register(),)}[extra]
    recipe = fit_recipe(
        (
            Reorient(),
            BrainMask(),
            *more,
            PercentileScale(low=0, high=HIGH),
            SelectSlices(min_area_mm2=LEAST_MM2),
            CropResize(field_of_view_mm=FIELD_MM, size=SIZE),
        )
    )
    return lambda path: prepare_scan(ScanFiles(subject="s", image=path), recipe).images


def torchio() -> Callable[[Path], np.ndarray]:
    """TorchIO's transforms."""
    import torch
    import torchio as tio

    torch.set_num_threads(1)
    scale = tio.RescaleIntensity(
        (0, 1), percentiles=(0, HIGH), masking_method="mask", in_min_max=None
    )

    def prepare(path: Path) -> np.ndarray:
        image = tio.ToCanonical()(tio.ScalarImage(path))
        mask = tio.LabelMap(tensor=(image.data != 0).to(torch.uint8), affine=image.affine)
        subject = scale(tio.Subject(image=image, mask=mask))
        depth = image.shape[-1]
        subject = tio.CropOrPad((FIELD_MM, FIELD_MM, depth), mask_name="mask")(subject)
        area = subject.mask.data[0].sum((0, 1))
        x, y, z = subject.image.spacing
        finer = tio.Resample((FIELD_MM / SIZE, FIELD_MM / SIZE, z), antialias=True)(subject)
        kept = area * (x * y) >= LEAST_MM2
        pictures = (finer.image.data[0] * finer.mask.data[0])[:, :, kept]
        return quantised(pictures.numpy())

    return prepare


def monai() -> Callable[[Path], np.ndarray]:
    """MONAI's transforms."""
    import torch
    from monai import transforms as mt
    from monai.transforms.utils_pytorch_numpy_unification import percentile

    torch.set_num_threads(1)
    load = mt.Compose([mt.LoadImage(ensure_channel_first=True), mt.Orientation("RAS")])
    together = mt.Compose(
        [
            mt.CropForegroundd(("image", "mask"), source_key="mask", allow_smaller=True),
            mt.ResizeWithPadOrCropd(("image", "mask"), (FIELD_MM, FIELD_MM, -1)),
        ]
    )
    resize = mt.Resized(("image", "mask"), (SIZE, SIZE, -1), mode="area")

    def prepare(path: Path) -> np.ndarray:
        image = load(path)
        mask = image != 0
        low, high = (float(v) for v in percentile(image[mask], [0, HIGH]))
        scaled = torch.where(mask, ((image - low) / (high - low)).clamp(0, 1), 0)
        both = together({"image": scaled, "mask": mask.float()})
        spacing = float(np.prod(np.linalg.norm(image.affine.numpy()[:3, :2], axis=0)))
        kept = both["mask"][0].sum((0, 1)) * spacing >= LEAST_MM2
        small = resize(both)
        mask_small = small["mask"][0] >= 0.5
        assert mask_small.any()
        return quantised(small["image"][0][:, :, kept].numpy())

    return prepare


def quantised(volume: np.ndarray) -> np.ndarray:
    """Pictures (n, H, W) as twinvae lays them out: front on top, the person's right on the left."""
    return np.rint(volume[::-1, ::-1].transpose(2, 1, 0) * 65535).astype(np.uint16)


def peak_gib() -> float:
    """The most memory this process has held."""
    status = Path("/proc/self/status")
    if status.exists():  # unlike ru_maxrss, this begins anew with the program
        line = next(line for line in status.read_text().splitlines() if line.startswith("VmHWM"))
        return int(line.split()[1]) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def main() -> None:
    """Answer requests until there are none."""
    tool, core = sys.argv[1], int(sys.argv[2])
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {core})
    rivals: dict[str, Any] = {"torchio": torchio, "monai": monai}
    prepare = rivals[tool]() if tool in rivals else twinvae(tool.partition("-")[2])
    for line in sys.stdin:
        path, _, save = line.strip().partition(" > ")
        started, worked = time.perf_counter(), time.process_time()
        pictures = prepare(Path(path))
        answer = {
            "seconds": time.process_time() - worked,
            "wall": time.perf_counter() - started,
            "peak_gib": peak_gib(),
        }
        if save:
            np.save(save, pictures)
        print("answer " + json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
