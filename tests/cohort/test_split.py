"""Splits by subject: the paper's numbers, fairness, and independence from everything else."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinvae.cohort import assign_splits, empty_splits
from twinvae.cohort.manifest import manifest_table
from twinvae.cohort.split import split_sizes
from twinvae.config import SplitConfig
from twinvae.vocabulary import SPLITS


def cohort(n, source="s", role="mixed", scans=1, split=""):
    return manifest_table(
        {
            "subject": f"{i:04d}",
            "session": str(k),
            "source": source,
            "role": role,
            "image": f"/{source}/{i}/{k}.nii.gz",
            "split": split,
        }
        for i in range(n)
        for k in range(scans)
    )


def counts(table):
    subjects = table.drop_duplicates(["source", "subject"])
    return [int((subjects["split"] == name).sum()) for name in ("train", "val", "test")]


@pytest.mark.parametrize(
    ("subjects", "expected"), [(100, [70, 15, 15]), (274, [192, 41, 41]), (3, [1, 1, 1])]
)
def test_the_papers_numbers(subjects, expected):
    table = assign_splits(cohort(subjects, scans=2), SplitConfig())
    assert counts(table) == expected
    assert (table.groupby("subject")["split"].nunique() == 1).all()


@given(
    st.integers(3, 400),
    st.integers(1, 97),
    st.integers(0, 100),
    st.integers(0, 9),
)
@settings(max_examples=200, deadline=None)
def test_sizes_add_up_and_stay_within_one_of_their_share(subjects, train, cut, seed):
    val = round((100 - train) * cut / 100)
    shares = {"train": train / 100, "val": val / 100, "test": (100 - train - val) / 100}
    sizes = split_sizes(subjects, SplitConfig(**shares, seed=seed))
    assert sum(sizes.values()) == subjects
    for name, share in shares.items():
        assert (sizes[name] > 0) == (share > 0) or share * subjects < 1
        if share > 0:
            assert sizes[name] >= 1
    lifted = [n for n, share in shares.items() if 0 < share * subjects < 1]
    if not lifted:
        assert all(abs(sizes[n] - share * subjects) <= 1 for n, share in shares.items())


def test_the_draw_depends_on_seed_and_names_only():
    table = cohort(40)
    first = assign_splits(table, SplitConfig(seed=1))
    shuffled = assign_splits(table.sample(frac=1, random_state=3), SplitConfig(seed=1))
    pooled = assign_splits(
        manifest_table(
            [*cohort(9, "other", "healthy").to_dict("records"), *table.to_dict("records")]
        ),
        SplitConfig(seed=1),
    )
    by_subject = first.set_index("subject")["split"]
    assert shuffled.set_index("subject")["split"].reindex(by_subject.index).equals(by_subject)
    assert pooled[pooled["source"] == "s"].set_index("subject")["split"].equals(by_subject)
    other = assign_splits(table, SplitConfig(seed=2))
    assert not other["split"].equals(first["split"])
    assert table["split"].eq("").all()  # the input is untouched


def test_each_source_and_role_is_split_by_itself():
    rows = [
        r
        for t in (cohort(20, "a"), cohort(20, "b"), cohort(20, "c", "healthy"))
        for r in t.to_dict("records")
    ]
    table = assign_splits(manifest_table(rows), SplitConfig())
    for source in "abc":
        assert counts(table[table["source"] == source]) == [14, 3, 3]
    drawn = [tuple(table.loc[table["source"] == s, "split"]) for s in "abc"]
    assert len(set(drawn)) == 3


def test_given_splits_are_kept_and_count_towards_the_shares():
    table = cohort(100)
    table.loc[:9, "split"] = "test"
    done = assign_splits(table, SplitConfig())
    assert (done["split"][:10] == "test").all()
    assert counts(done) == [70, 15, 15]
    table["split"] = "test"
    assert counts(assign_splits(table, SplitConfig())) == [0, 0, 100]


def test_more_given_than_their_share_leaves_the_rest_in_proportion():
    table = cohort(10)
    table.loc[:4, "split"] = "test"
    sizes = counts(assign_splits(table, SplitConfig()))
    assert sizes[2] == 5
    assert sizes[0] >= sizes[1] >= 1


def test_a_second_scan_follows_its_subject():
    table = cohort(12, scans=2)
    table.loc[table.index % 2 == 0, "split"] = np.array(["train", "val", "test"] * 4)
    done = assign_splits(table, SplitConfig())
    assert (done.groupby("subject")["split"].nunique() == 1).all()
    assert done.loc[1, "split"] == "train"


def test_a_subject_of_both_roles_stays_in_one_split():
    rows = cohort(30, role="healthy").to_dict("records")
    rows += [{**r, "role": "mixed", "image": r["image"] + "2"} for r in rows[:15]]
    done = assign_splits(manifest_table(rows), SplitConfig())
    assert (done.groupby("subject")["split"].nunique() == 1).all()


def test_too_few_subjects_fill_the_splits_as_far_as_they_go():
    for count, filled in ((1, [1, 0, 0]), (2, [1, 1, 0]), (3, [1, 1, 1])):
        table = assign_splits(cohort(count), SplitConfig())
        assert counts(table) == filled
        said = empty_splits(table, SplitConfig())
        assert [sentence.split(" is in ")[1] for sentence in said] == (
            [" or ".join(n for n, size in zip(SPLITS, filled, strict=True) if not size)]
            if 0 in filled
            else []
        )
    two = SplitConfig(train=0.5, val=0.0, test=0.5)
    assert counts(assign_splits(cohort(2), two)) == [1, 0, 1]
