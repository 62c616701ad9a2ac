"""A scan looked at: prepared, scored, judged, and what stands out in it. Nothing is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from twinvae.cohort.told_contrast import other_contrast
from twinvae.detection.bundle import Bundle
from twinvae.detection.lesions import Places, places_of
from twinvae.detection.privacy import called
from twinvae.detection.verdict import Judgement, judge_scan, warnings
from twinvae.errors import DataError
from twinvae.imaging import PreparedScan, ScanFiles, Stripping, prepare_scan
from twinvae.parallel import Device
from twinvae.scoring import (
    AbnormalityMap,
    moved,
    require_fitted,
    score_batches,
    score_table,
    select_maps,
    select_scores,
)
from twinvae.scoring.deciding import deciding_map
from twinvae.training import Compute

Pictures = NDArray[np.float32]


@dataclass(frozen=True)
class Reader:
    """What looks at scans: a bundle, where it computes, and the maps that are asked for."""

    bundle: Bundle
    compute: Compute
    maps: Sequence[AbnormalityMap]

    @classmethod
    def of(
        cls,
        bundle: Bundle,
        *,
        maps: Sequence[str] = (),
        device: Device | None = None,
        threads: int | None = None,
        skull_strip: bool | Stripping = False,
    ) -> Reader:
        """With the bundle's models on the device; ``maps`` are names or patterns."""
        if skull_strip:
            how = None if skull_strip is True else skull_strip
            bundle = replace(bundle, recipe=bundle.recipe.stripping(how))
        own = {"device": device or "auto", "threads": threads}
        compute = Compute.resolve(bundle.config.compute.model_copy(update=own))
        bundle.models.to(compute.device)
        return cls(bundle, compute, select_maps(maps, bundle.models))


@dataclass(frozen=True)
class Looked:
    """A scan that was looked at, before anything of it is written."""

    name: str
    """What the reader knows it as."""
    bundle: Bundle
    prepared: PreparedScan
    judgement: Judgement
    healthy: Pictures
    """(n, H, W): the healthy reconstruction, in (0, 1)."""
    maps: dict[str, Pictures]
    """The maps that were asked for by name, (n, H, W)."""
    places: Places
    """What stands out."""

    @property
    def called(self) -> str:
        """The scan's path, without what names a patient."""
        return called(self.prepared.files.image)

    @property
    def warnings(self) -> list[str]:
        """Sentences that must stand beside the verdict."""
        return warnings(self.judgement, self.bundle)


def look(reader: Reader, scan: ScanFiles, *, name: str = "", force: bool = False) -> Looked:
    """Prepare, score and judge one scan, called ``name`` (its subject unless given).

    Raises ``DataError`` when its name or headers say another contrast than the bundle's, unless
    ``force``, and when it cannot be read or prepared.
    """
    bundle = reader.bundle
    contrast = other_contrast(scan.image, scan.contrast, bundle.config.contrast)
    if contrast and not force:
        raise DataError(
            f"{scan.image}: {contrast}; take a bundle of that contrast, or give --force if it is "
            f"of contrast {bundle.config.contrast} all the same"
        )
    prepared = prepare_scan(scan, bundle.recipe)
    deciding = deciding_map(bundle.config.decision.score, bundle.models)
    wanted = {entry.name: entry for entry in (*reader.maps, deciding.map)}
    scores, healthy, found = _score(reader, prepared, list(wanted.values()))
    judgement = replace(judge_scan(bundle, prepared, scores, force=force), contrast=contrast)
    places = places_of(
        deciding, found[deciding.map.name], prepared, judgement.slices, bundle.calibration
    )
    asked = {entry.name: found[entry.name] for entry in reader.maps}
    return Looked(name or scan.subject, bundle, prepared, judgement, healthy, asked, places)


def _score(
    reader: Reader, prepared: PreparedScan, maps: Sequence[AbnormalityMap]
) -> tuple[pd.DataFrame, Pictures, dict[str, Pictures]]:
    """Every slice's scores, its healthy reconstruction in (0, 1), and its maps by name."""
    bundle, compute = reader.bundle, reader.compute
    options, rows = bundle.config.scoring, np.arange(len(prepared.index))
    calibrated = bundle.calibration["scores"]
    scores = [s for s in select_scores(options.scores, bundle.models) if s.name in calibrated]
    require_fitted(scores, bundle.fitted, "bundle")
    done = list(
        score_batches(
            prepared, rows, bundle.models, options, compute,
            scores=scores, maps=maps, x_h=True, fitted=moved(bundle.fitted, compute.device),
        )
    )  # fmt: skip
    table = score_table(prepared, rows, [batch.scores for batch in done], scores, options)
    healthy = np.concatenate([batch.x_h for batch in done])
    return table, healthy, {m.name: np.concatenate([b.maps[m.name] for b in done]) for m in maps}
