"""How well the brain mask of method `template` agrees with other masks (docs/recipe.md).

    python benchmarks/brain_mask.py scans IMAGES _T1.nii.gz MASKS _brainmask.nii.gz --seen 20
    python benchmarks/brain_mask.py painted LABELS t2 --slice-mm 5 --seen 4

`scans`: whole heads and their masks, by the ends of their names. `painted`: label maps of whole
heads as SynthSeg's (1 to 499 is brain and fluid, above lies the rest of the head), painted as T1w,
T2w or FLAIR with shading and noise, so that the truth is known; slices averaged to `--slice-mm`.
The order is drawn by seed 0; the first `--seen` are those that were looked at while tuning.
`--tumours _seg.nii.gz` also says how much of the tumour lies outside the mask found, of what lies
in the mask given. `--pictures DIR` draws the outlines: given yellow, found blue.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
from matplotlib.figure import Figure
from scipy import ndimage

from twinvae.errors import DataError
from twinvae.imaging.steps.template_mask import check_mask, find_brain

WHITE = {2, 7, 16, 28, 41, 46, 60, 85}
FLUID = {4, 5, 14, 15, 24, 30, 43, 44, 62, 72}
CEREBELLUM = (7, 8, 46, 47)
# Outside the brain: eyes, fat and muscle, fluid of the spine, skin, bone, its marrow, the rest.
AROUND = {506: "eye", 507: "fat", 509: "fluid", 511: "skin", 515: "bone", 516: "marrow"}
PAINT = {
    "t1": {"white": 110, "grey": 80, "fluid": 25, "fat": 150, "bone": 12, "marrow": 90,
           "skin": 110, "eye": 30, "rest": 60},
    "t2": {"white": 55, "grey": 80, "fluid": 160, "fat": 110, "bone": 10, "marrow": 70,
           "skin": 70, "eye": 160, "rest": 50},
    "flair": {"white": 70, "grey": 90, "fluid": 20, "fat": 170, "bone": 8, "marrow": 80,
              "skin": 90, "eye": 25, "rest": 60},
}  # fmt: skip
# Name, image, voxel size in mm, brain mask, tumour mask (empty where unknown).
Head = tuple[str, np.ndarray, tuple[float, float, float], np.ndarray, np.ndarray]


def read(path: Path) -> tuple[np.ndarray, tuple[float, float, float]]:
    image = nib.as_closest_canonical(nib.load(path))
    x, y, z = (float(side) for side in image.header.get_zooms()[:3])
    return np.asarray(image.dataobj, np.float32).squeeze(), (x, y, z)


def shuffled(paths: list[Path]) -> list[Path]:
    return [paths[i] for i in np.random.default_rng(0).permutation(len(paths))]


def scans(
    images: Path, image_end: str, masks: Path, mask_end: str, tumour_end: str | None
) -> Iterator[Head]:
    for path in shuffled(sorted(images.rglob(f"*{image_end}"))):
        mask = masks / path.name.replace(image_end, mask_end)
        if mask.is_file():
            image, spacing = read(path)
            brain, tumour = read(mask)[0] > 0, np.zeros(image.shape, bool)
            if tumour_end:
                tumour = read(path.with_name(path.name.replace(image_end, tumour_end)))[0] > 0
            yield path.name.removesuffix(image_end), image, spacing, brain, tumour & brain


def painted(labels: Path, contrast: str, slice_mm: int) -> Iterator[Head]:
    for number, path in enumerate(shuffled(sorted(labels.glob("*.nii.gz")))):
        rng = np.random.default_rng(number)
        seg = read(path)[0].astype(int)
        brain = (seg > 0) & (seg < 500)
        brain[:, :, : np.argwhere(np.isin(seg, CEREBELLUM))[:, 2].min()] = False  # no spine
        image = brightness(contrast, rng)[seg]
        shading = ndimage.zoom(rng.normal(0, 0.15, (4, 4, 4)), np.array(seg.shape) / 4, order=1)
        image = ndimage.gaussian_filter(image * np.exp(shading), 0.6)
        image, brain = thick(image, slice_mm), thick(brain, slice_mm) >= 0.5
        real, imaginary = rng.normal(0, 3, (2, *image.shape))
        noisy = np.hypot(image + real, imaginary).astype(np.float32)
        yield path.name, noisy, (1.0, 1.0, float(slice_mm)), brain, np.zeros_like(brain)


def brightness(contrast: str, rng: np.random.Generator) -> np.ndarray:
    paint, table = PAINT[contrast], np.zeros(1024, np.float32)
    for label in range(1, 500):
        table[label] = paint["white" if label in WHITE else "fluid" if label in FLUID else "grey"]
    for label in range(500, 531):
        table[label] = paint[AROUND.get(label, "rest")] * rng.uniform(0.8, 1.2)
    return table


def thick(array: np.ndarray, count: int) -> np.ndarray:
    whole = array.shape[2] // count * count
    return array[:, :, :whole].reshape(*array.shape[:2], -1, count).mean(3, dtype=np.float32)


def draw(path: Path, title: str, image: np.ndarray, sides: tuple[float, ...], masks: list) -> None:
    box = np.argwhere(masks[0])
    low, high = box.min(0), box.max(0)
    cuts = [(0, (low[0] + high[0]) // 2 + 4), (1, (low[1] + high[1]) // 2)]
    cuts += [(2, int(low[2] + share * (high[2] - low[2]))) for share in (0.15, 0.35, 0.6, 0.85)]
    figure = Figure(figsize=(18, 3.5), layout="constrained")
    for axes, (axis, at) in zip(figure.subplots(1, len(cuts)), cuts, strict=True):
        across, up = (side for other, side in enumerate(sides) if other != axis)
        top = np.percentile(image[masks[0]], 99.5) * 1.1
        axes.imshow(image.take(at, axis).T, "gray", origin="lower", vmax=top, aspect=up / across)
        for mask, colour in zip(masks, ("#F0E442", "#56B4E9"), strict=True):
            axes.contour(mask.take(at, axis).T.astype(float), [0.5], colors=colour, linewidths=1)
        axes.axis("off")
    figure.suptitle(title)
    figure.savefig(path / f"{title.partition(' ')[0]}.png", dpi=60)


def judge(heads: Iterator[Head], seen: int, pictures: Path | None) -> None:
    rows = []
    for name, image, spacing, given, tumour in heads:
        start = time.process_time()
        try:
            found = find_brain(image, spacing)
        except DataError as error:
            print(f"{name}\trefused: {error}", flush=True)
            rows.append((0.0, 0.0, 0.0, 0.0, 0.0, 1.0))
            continue
        seconds = time.process_time() - start
        refused = ""
        try:
            check_mask(found, spacing)
        except DataError as error:
            refused = f"refused: {error}"
        both = np.count_nonzero(found.brain & given)
        sizes = np.count_nonzero(found.brain), np.count_nonzero(given)
        dice, ratio, missed = 2 * both / sum(sizes), sizes[0] / sizes[1], 1 - both / sizes[1]
        lost = np.count_nonzero(tumour & ~found.brain) / max(np.count_nonzero(tumour), 1)
        rows.append((dice, ratio, missed, lost, seconds, float(bool(refused))))
        print(
            f"{name}\tDice {dice:.3f}\tvolume ratio {ratio:.3f}\tmissed {missed:.3f}\tof the "
            f"tumour {lost:.3f}\tsimilarity {found.similarity:.3f}\tedge {found.edge:.3f}\t"
            f"{seconds:.1f} s\t{refused}",
            flush=True,
        )
        if pictures is not None:
            pictures.mkdir(parents=True, exist_ok=True)
            draw(pictures, f"{name} {dice:.3f} {refused}", image, spacing, [given, found.brain])
    for what, part in (("looked at", rows[:seen]), ("unseen", rows[seen:])):
        table = np.array(part).reshape(-1, 6)
        kept = table[table[:, 5] == 0]
        print(f"{what}: {len(table)} heads, {len(table) - len(kept)} refused; of the others")
        for column, word in enumerate(
            ("Dice", "volume ratio", "missed", "of the tumour", "seconds")
        ):
            if len(kept):
                at = np.percentile(kept[:, column], [0, 50, 100])
                print(
                    f"  {word}: mean {kept[:, column].mean():.3f}, least/median/most", at.round(3)
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    kinds = parser.add_subparsers(dest="kind", required=True)
    given = kinds.add_parser("scans")
    for name, kind in (("images", Path), ("image_end", str), ("masks", Path), ("mask_end", str)):
        given.add_argument(name, type=kind)
    given.add_argument("--tumours", metavar="END")
    made = kinds.add_parser("painted")
    made.add_argument("labels", type=Path)
    made.add_argument("contrast", choices=sorted(PAINT))
    made.add_argument("--slice-mm", type=int, default=1)
    for one in (given, made):
        one.add_argument("--seen", type=int, default=0)
        one.add_argument("--pictures", type=Path)
    options = parser.parse_args()
    if options.kind == "scans":
        folders = (options.images, options.image_end, options.masks, options.mask_end)
        heads = scans(*folders, options.tumours)
    else:
        heads = painted(options.labels, options.contrast, options.slice_mm)
    judge(heads, options.seen, options.pictures)


if __name__ == "__main__":
    main()
