"""Scores in context: against SciPy, and in the table of a run."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from scipy.ndimage import gaussian_filter1d
from test_fitted import CPU, Slices
from test_scores import MODELS

from twinvae.config import ScoringConfig
from twinvae.errors import ConfigError
from twinvae.scoring import SCORES, score_and_fit, select_scores
from twinvae.scoring.loop import in_context
from twinvae.scoring.registry import score
from twinvae.scoring.table import is_trivial


def index(n: int, subject: str = "a", **columns: object) -> pd.DataFrame:
    own = {"source": "s", "subject": subject, "session": "", "role": "mixed"}
    return pd.DataFrame({**own, "position": np.linspace(0, 1, n)} | columns, index=range(n))


def test_evenly_spaced_slices_are_smoothed_as_scipy_does() -> None:
    values = np.random.default_rng(0).normal(size=(101, 2))
    sigma = 0.08 / (2 * np.sqrt(2 * np.log(2))) * 100

    def smooth(of: np.ndarray) -> np.ndarray:
        return gaussian_filter1d(of, sigma, axis=0, mode="constant", truncate=12)

    expected = smooth(values) / smooth(np.ones_like(values))
    np.testing.assert_allclose(in_context(values, index(101), 0.08), expected, rtol=1e-9)


def test_scans_keep_to_themselves_and_order_does_not_matter() -> None:
    both = pd.concat([index(9), index(5, "b"), index(4, role="healthy")], ignore_index=True)
    values = np.random.default_rng(1).normal(size=(18, 1))
    whole = in_context(values, both, 0.2)
    for rows in (slice(0, 9), slice(9, 14), slice(14, 18)):
        np.testing.assert_allclose(whole[rows], in_context(values[rows], both[rows], 0.2))
    mixed = np.random.default_rng(2).permutation(18)
    shuffled = in_context(values[mixed], both.iloc[mixed].reset_index(drop=True), 0.2)
    np.testing.assert_allclose(shuffled, whole[mixed])


@pytest.mark.parametrize("session", ["", "1", np.nan])
def test_a_slice_alone_keeps_its_score(session: object) -> None:
    values = np.array([[3.0]])
    assert in_context(values, index(1, session=session), 0.08) == pytest.approx(values)


def test_a_share_of_the_scans_lower_quartile_is_taken_off() -> None:
    both = pd.concat([index(9), index(6, "b")], ignore_index=True)
    values = np.random.default_rng(3).normal(size=(15, 2))
    smooth = in_context(values, both, 0.2)
    level = pd.DataFrame(smooth).groupby(both["subject"]).transform(lambda s: s.quantile(0.25))
    expected = smooth - 0.5 * level.to_numpy()
    np.testing.assert_allclose(in_context(values, both, 0.2, 0.5), expected)
    # A scan that is a little more abnormal everywhere is not more abnormal.
    shifted = values + (both["subject"] == "b").to_numpy()[:, None]
    np.testing.assert_allclose(in_context(shifted, both, 0.2, 1), in_context(values, both, 0.2, 1))


def test_rivals_stand_in_context_too_when_a_score_does() -> None:
    plain = [s.name for s in select_scores(["image_l2"])]
    names = [s.name for s in select_scores(["image_l2", "latent_l[12]_context"])]
    assert names[:3] == ["image_l2", "latent_l2_context", "latent_l1_context"]
    trivial = [name for name in plain if is_trivial(name)]
    assert names[3:] == [*trivial, *(f"{name}_context" for name in trivial)]
    for wrong in ("nosuch_context", "context", "_context"):
        with pytest.raises(ConfigError, match="expected names among"):
            select_scores([wrong])
    with pytest.raises(ValueError, match="not part of one"):
        score("mine_context", "a name of its own", "nobody")(lambda batch: batch.position)


def test_a_run_scores_slices_in_the_context_of_their_scan() -> None:
    slices = Slices()
    slices.index["session"] = ""
    slices.index["position"] = np.linspace(0, 1, 20)
    options = ScoringConfig(batch_size=7, context=0.3, baseline=0.4)
    plain = [SCORES[name] for name in ("latent_l2", "latent_mahalanobis", "trivial_mean_intensity")]
    chosen = plain + [entry.in_context() for entry in plain]
    table, _ = score_and_fit(slices, np.arange(20), MODELS, chosen, options, CPU)
    for name in (entry.name for entry in plain):
        own = table[[name]].to_numpy()
        expected = in_context(own, slices.index, 0.3, 0.4)
        np.testing.assert_allclose(table[[f"{name}_context"]].to_numpy(), expected, rtol=1e-6)
        assert not np.allclose(own, expected, rtol=1e-3)
