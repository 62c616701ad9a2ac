"""Shares of a cohort: whatever order and machine they run on, merging gives the same bytes."""

import threading

import pytest
from cohort_of_six import break_scan, digests, write_six
from small_brain import STEPS

from twinvae.config import HistogramMatch, PercentileScale
from twinvae.errors import ConfigError, DataError, StageError
from twinvae.imaging import Shard, merge_shards, parts, prepare, prepare_cohort, prepare_shard

FITTED = [HistogramMatch() if isinstance(s, PercentileScale) else s for s in STEPS]


@pytest.fixture
def cohort(tmp_path):
    return write_six(tmp_path)


@pytest.mark.parametrize("steps", [STEPS, FITTED], ids=["nothing-fitted", "fitted"])
def test_merged_shards_are_the_bytes_of_an_unsharded_run(cohort, tmp_path, steps):
    prepare_cohort(cohort, steps, tmp_path / "whole", jobs=1)
    for number in (3, 1, 4, 2):
        assert prepare_shard(cohort, steps, tmp_path / "out", Shard(number, 4), jobs=1) == []
    merge_shards(cohort, steps, tmp_path / "out")
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_plain_prepare_takes_what_shards_have_done(cohort, tmp_path, monkeypatch):
    prepare_cohort(cohort, STEPS, tmp_path / "whole", jobs=1)
    prepare_shard(cohort, STEPS, tmp_path / "out", Shard(1, 2), jobs=1)
    calls, original = [], prepare.prepare_scan
    monkeypatch.setattr(
        prepare,
        "prepare_scan",
        lambda scan, recipe: (calls.append(scan), original(scan, recipe))[1],
    )
    prepare_cohort(cohort, STEPS, tmp_path / "out", jobs=1)
    assert [scan.subject for scan in calls] == ["001", "003", "005"]
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_broken_scans_of_shards_are_listed_by_the_merge(cohort, tmp_path):
    break_scan(tmp_path, 1)
    prepare_cohort(cohort, STEPS, tmp_path / "whole", jobs=1)
    assert prepare_shard(cohort, STEPS, tmp_path / "out", Shard(1, 2), jobs=1) == []
    (reason,) = prepare_shard(cohort, STEPS, tmp_path / "out", Shard(2, 2), jobs=1)
    assert "damage" in reason
    with pytest.raises(DataError, match="damage"):
        merge_shards(cohort, STEPS, tmp_path / "out", strict=True)
    store = merge_shards(cohort, STEPS, tmp_path / "out")
    assert store.skipped["subject"].tolist() == ["001"]
    assert digests(tmp_path / "out") == digests(tmp_path / "whole")


def test_a_merge_before_all_shards_are_done_says_so(cohort, tmp_path):
    prepare_shard(cohort, STEPS, tmp_path / "out", Shard(1, 3), jobs=1)
    with pytest.raises(StageError, match="found 4 of 6 that are not, first subject 001"):
        merge_shards(cohort, STEPS, tmp_path / "out")
    assert len(list((tmp_path / "out/parts").glob("*.npz"))) == 2


def test_what_was_fitted_is_fitted_once_and_shared(cohort, tmp_path, monkeypatch):
    fits, original = [], prepare.fit_recipe
    monkeypatch.setattr(
        prepare, "fit_recipe", lambda steps, scans: (fits.append(1), original(steps, scans))[1]
    )
    for number in (1, 2, 3):
        prepare_shard(cohort, FITTED, tmp_path / "out", Shard(number, 3), jobs=1)
    merge_shards(cohort, FITTED, tmp_path / "out")
    assert len(fits) == 1


def test_of_shards_that_fit_at_the_same_time_all_use_the_first_to_finish(tmp_path):
    recipe = prepare.fit_recipe(STEPS)
    both, found = threading.Barrier(2), []

    def fit(value):
        def slow():
            both.wait(10)  # both have begun before either is done
            fitted = ({"value": value}, *recipe.fitted[1:])
            return type(recipe)(recipe.steps, fitted)

        found.append(parts.fitted_once(tmp_path, STEPS, [], slow).fitted[0]["value"])

    threads = [threading.Thread(target=fit, args=(value,)) for value in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(found) == 2
    assert found[0] == found[1]
    assert [p.suffix for p in tmp_path.iterdir()] == [".json"]


@pytest.mark.parametrize("text", ["0/4", "5/4", "1", "a/b", "1/0", "-1/2", ""])
def test_impossible_shards_are_refused(text):
    with pytest.raises(ConfigError, match="--shard: expected i/n"):
        Shard.parse(text)


def test_shards_share_everything_once():
    items = list(range(11))
    shares = [Shard.parse(f"{i}/4").of(items) for i in (1, 2, 3, 4)]
    assert sorted(item for share in shares for item in share) == items
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
