"""Fused scores: one scale for contrasts, one patient's slices joined, whatever is missing."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from twinvae.decision.fusion import (
    CONTRASTS,
    FUSED,
    Evidence,
    Scale,
    fuse,
    join_scan,
    on_one_grid,
    scores_of,
)
from twinvae.errors import CalibrationError, DataError
from twinvae.scoring.table import check_scores

COLUMNS = {FUSED: {"T2w": "mine", "FLAIR": "mine", "T1w": "dark"}}
CONTRASTS_OF = {"T2w": "mine", "FLAIR": "mine", "T1w": "dark"}


def scan(subject, role, values, column="mine", *, slices=None, split=None, tumour=0.0, first=0):
    """Rows of one scan; ``values`` (n,) from the lowest slice up."""
    n = len(values)
    number = np.arange(first, first + n) if slices is None else slices
    return pd.DataFrame({
        "subject": subject, "source": "s", "role": role,
        "split": split or ("val" if role == "healthy" else "test"), "slice": number,
        "position": np.linspace(0, 1, n), "brain_px": 900.0,
        "tumour_px": np.where(np.asarray(tumour) > 0, tumour, 0.0) * np.ones(n),
        "spacing_mm": 1.0, column: values,
    })  # fmt: skip


def cohort(rng, contrast, *, noise=1.0, lift=3.0, healthy=30, mixed=12, slices=20):
    """Exponential healthy scores; the upper half of every patient's slices is a tumour's."""
    column = CONTRASTS_OF[contrast]
    tumour = np.where(np.arange(slices) < slices // 2, 0.0, 100.0)
    parts = [
        scan(f"h{i}", "healthy", noise * rng.exponential(size=slices), column)
        for i in range(healthy)
    ]
    parts += [
        scan(f"m{i}", "mixed", noise * rng.exponential(size=slices) + lift * (tumour > 0),
             column, tumour=tumour)
        for i in range(mixed)
    ]  # fmt: skip
    return pd.concat(parts, ignore_index=True)


def auroc(table, name):
    mixed = table[table["role"] == "mixed"]
    tumour, clean = (mixed.loc[mixed["tumour_px"].gt(0) == t, name].to_numpy() for t in (1, 0))
    return float((tumour[:, None] > clean).mean() + 0.5 * (tumour[:, None] == clean).mean())


def test_evidence_is_minus_log_of_the_healthy_share_and_goes_on_as_a_line():
    rng = np.random.default_rng(0)
    values = 3.0 * rng.exponential(size=40_000)
    found = Evidence.of(values, np.repeat(np.arange(400), 100))
    at = np.array([0.5, 1, 3, 6, 9, 30, 300])
    np.testing.assert_allclose(found(at), at / 3, rtol=0.06)
    shares = [(values >= v).mean() for v in (1.0, 3.0, 6.0)]
    np.testing.assert_allclose(found(np.array([1.0, 3.0, 6.0])), -np.log(shares), rtol=0.02)
    everywhere = found(np.linspace(-5, 1e4, 5000))
    assert (np.diff(everywhere) > 0).all()
    again = Evidence.from_json(found.to_json())
    np.testing.assert_array_equal(again(at), found(at))


def test_evidence_does_not_depend_on_the_unit_and_subjects_count_alike():
    rng = np.random.default_rng(1)
    values, subject = rng.normal(size=600), np.repeat(np.arange(6), 100)
    plain, scaled = Evidence.of(values, subject), Evidence.of(50 * values - 7, subject)
    at = np.linspace(-4, 12, 40)
    np.testing.assert_allclose(scaled(50 * at - 7), plain(at))
    many = np.concatenate([values, np.tile(values[subject == 5], 30)])
    whose = np.concatenate([subject, np.full(3000, 5)])
    np.testing.assert_allclose(Evidence.of(many, whose)(at), plain(at), rtol=1e-6, atol=1e-9)


def test_scores_that_do_not_vary_say_nothing_and_cannot_decide():
    flat = Evidence.of(np.ones(20), np.arange(20))
    np.testing.assert_array_equal(flat(np.array([0.0, 1.0, 50.0])), 0.0)
    tables = {"T2w": scan("a", "healthy", np.ones(9)), "FLAIR": scan("a", "healthy", np.ones(9))}
    with pytest.raises(CalibrationError, match="T2w: expected a score mine that varies"):
        fuse(tables, {FUSED: {"T2w": "mine", "FLAIR": "mine"}})


def test_fused_is_better_than_each_and_a_blind_loud_contrast_costs_little():
    rng = np.random.default_rng(2)
    tables = {c: cohort(rng, c, lift=1.0) for c in ("T2w", "FLAIR")}
    tables["T1w"] = cohort(rng, "T1w", noise=1000.0, lift=0.0)  # loud, and blind
    fused, _ = fuse(tables, COLUMNS)
    mine, singles = auroc(fused, FUSED), [auroc(fused, f"{FUSED}_{c}") for c in tables]
    assert mine > max(singles) - 0.03
    assert singles[2] < 0.6
    both, _ = fuse({c: tables[c] for c in ("T2w", "FLAIR")}, {
        FUSED: {"T2w": "mine", "FLAIR": "mine"}
    })  # fmt: skip
    assert auroc(both, FUSED) > max(singles) + 0.02
    summed = fused.assign(sum=sum(
        tables[c][CONTRASTS_OF[c]].to_numpy() for c in tables
    ))  # fmt: skip
    assert auroc(summed, "sum") < 0.6 < mine  # what adding scores as they are would give


def test_patients_with_fewer_contrasts_stand_on_the_same_scale():
    rng = np.random.default_rng(3)
    tables = {c: cohort(rng, c, healthy=200, mixed=60, lift=0.0) for c in CONTRASTS_OF}
    tables["T1w"] = tables["T1w"][~tables["T1w"]["subject"].isin([f"m{i}" for i in range(20)])]
    tables["FLAIR"] = tables["FLAIR"][
        ~tables["FLAIR"]["subject"].isin([f"m{i}" for i in range(10)])
    ]
    fused, _ = fuse(tables, COLUMNS)
    mixed = fused[fused["role"] == "mixed"]
    assert mixed[CONTRASTS].drop_duplicates().tolist() == ["T2w", "T2w+FLAIR", "T2w+FLAIR+T1w"]
    for _, rows in mixed.groupby(CONTRASTS):
        assert (rows[FUSED] > 3.0).mean() == pytest.approx(np.exp(-3), abs=0.03)
    single = mixed[mixed[CONTRASTS] == "T2w"]
    raw = tables["T2w"].set_index(["subject", "slice"]).loc[
        list(zip(single["subject"], single["slice"], strict=True)), "mine"
    ]  # fmt: skip
    np.testing.assert_array_equal(np.argsort(single[FUSED]), np.argsort(raw.to_numpy()))
    scores, lacking = scores_of(fused, fuse(tables, COLUMNS)[1])
    assert lacking == ["FLAIR", "T1w"]
    assert [c for c in scores.columns if c.startswith(FUSED)] == [FUSED, "fused_T2w"]
    check_scores(scores)


def plain(column):
    """Evidence that leaves values as they are."""
    line = Evidence(np.array([0.0, 1.0]), np.array([0.0, 1.0]), 1.0)
    return {FUSED: Scale(dict.fromkeys(column, "mine"), dict.fromkeys(column, line), {})}


def test_slices_on_one_grid_are_joined_by_number():
    whole = scan("p", "mixed", np.arange(100.0), slices=np.arange(20, 120))
    part = scan("p", "mixed", np.arange(2, 98.0), slices=np.arange(22, 118))  # two lost at each end
    joined = join_scan({"T2w": part, "FLAIR": whole}, plain(("T2w", "FLAIR")))
    assert on_one_grid(whole, part)
    np.testing.assert_array_equal(joined["slice"], whole["slice"])
    np.testing.assert_array_equal(joined["fused_FLAIR"], np.arange(100.0))
    np.testing.assert_array_equal(joined["fused_T2w"], np.clip(np.arange(100.0), 2, 97))
    assert joined[CONTRASTS].unique().tolist() == ["T2w+FLAIR"]


def test_slices_on_other_grids_are_joined_by_position():
    fine = scan("p", "mixed", np.zeros(101), slices=np.arange(101))
    coarse = scan("p", "mixed", np.arange(11.0), slices=np.arange(11))[::-1]
    joined = join_scan({"T2w": coarse, "FLAIR": fine}, plain(("T2w", "FLAIR")))
    assert not on_one_grid(fine, coarse.sort_values("slice"))
    np.testing.assert_array_equal(joined["slice"], fine["slice"])
    np.testing.assert_allclose(joined["fused_T2w"], np.linspace(0, 10, 101))
    upside_down = scan("p", "mixed", np.arange(101.0), slices=np.arange(101)[::-1])
    turned = join_scan({"T2w": upside_down, "FLAIR": fine}, plain(("T2w", "FLAIR")))
    np.testing.assert_allclose(turned["fused_T2w"], 100 * turned["position"])


def test_the_tumours_are_those_of_the_grid_that_knows_them():
    known = scan("p", "mixed", np.zeros(10), tumour=np.arange(10.0))
    unknown = known.assign(tumour_px=np.nan)
    joined = join_scan({"T2w": unknown, "FLAIR": known}, plain(("T2w", "FLAIR")))
    np.testing.assert_array_equal(joined["tumour_px"], np.arange(10.0))


def test_sessions_are_scans_of_their_own():
    rng = np.random.default_rng(4)
    tables = {c: cohort(rng, c) for c in ("T2w", "FLAIR")}
    two = {
        c: pd.concat([t.assign(session="1"), t.assign(session="2")], ignore_index=True)
        for c, t in tables.items()
    }
    two["FLAIR"] = two["FLAIR"][~((two["FLAIR"]["session"] == "2") & (
        two["FLAIR"]["subject"] == "m0"))]  # fmt: skip
    columns = {FUSED: {"T2w": "mine", "FLAIR": "mine"}}
    fused, scales = fuse(two, columns)
    mine = fused[fused["subject"] == "m0"].drop_duplicates("session")
    assert dict(zip(mine["session"], mine[CONTRASTS], strict=True)) == {
        "1": "T2w+FLAIR", "2": "T2w"
    }  # fmt: skip
    assert "session" in scores_of(fused, scales)[0].columns
    assert "session" not in scores_of(*fuse(tables, columns))[0].columns


def test_what_cannot_be_fused_is_named():
    rng = np.random.default_rng(5)
    tables = {c: cohort(rng, c) for c in ("T2w", "FLAIR")}
    columns = {FUSED: {"T2w": "mine", "FLAIR": "mine"}}
    moved = tables["FLAIR"].assign(split=tables["FLAIR"]["split"].replace("test", "val"))
    with pytest.raises(
        DataError, match=r"subject m0 in the same split .*test in T2w, val in FLAIR"
    ):
        fuse(tables | {"FLAIR": moved}, columns)
    with pytest.raises(DataError, match=r"found none .sources: T2w: s; FLAIR: other"):
        fuse(tables | {"FLAIR": tables["FLAIR"].assign(source="other")}, columns)
    patients = tables["FLAIR"][tables["FLAIR"]["role"] == "mixed"]
    with pytest.raises(CalibrationError, match="FLAIR: expected slices of role healthy"):
        fuse(tables | {"FLAIR": patients}, columns)
