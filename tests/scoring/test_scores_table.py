"""The scores table: what is written reads back, and what is wrong is named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from twinvae.errors import DataError
from twinvae.scoring.table import (
    KEY_COLUMNS,
    SPLITS,
    check_scores,
    is_trivial,
    read_scores,
    score_columns,
    write_scores,
)


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "subject": ["001", "001", "002", "003"],
            "source": ["a", "a", "b", "b"],
            "role": ["healthy", "healthy", "mixed", "mixed"],
            "split": ["val", "val", "test", "train"],
            "slice": [10, 11, 7, 8],
            "position": [0.1, 1 / 3, 0.5, 0.7],
            "brain_px": [100, 200, 300, 400],
            "tumour_px": [0, 0, 12, np.nan],
            "latent_l2": [0.1, 1e-17, np.pi, 4.0],
            "trivial_position": [1.0, 2.0, 3.0, 4.0],
        }
    )


def test_round_trip_is_exact_and_keeps_text_as_text(tmp_path: Path) -> None:
    path = tmp_path / "scores.tsv"
    write_scores(path, table())
    again = read_scores(path)
    assert tuple(again.columns[:8]) == KEY_COLUMNS
    assert again["subject"].tolist() == ["001", "001", "002", "003"]
    assert again["latent_l2"].tolist() == [0.1, 1e-17, np.pi, 4.0]
    assert again["slice"].dtype == np.int64
    assert np.isnan(again["tumour_px"].iloc[3])
    assert again["tumour_px"].iloc[2] == 12
    assert path.read_text().splitlines()[4].startswith("003\tb\tmixed\ttrain\t8\t0.7\t400\t\t4.0")


def test_a_table_longer_than_what_is_held_as_text_reads_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "scores.tsv"
    rng = np.random.default_rng(0)
    many = pd.concat([table()] * 25, ignore_index=True)
    write_scores(path, many.assign(slice=np.arange(100), mine=rng.normal(size=100)))
    whole = read_scores(path)
    monkeypatch.setattr("twinvae.scoring.table._LINES", 7)
    pd.testing.assert_frame_equal(read_scores(path), whole, check_exact=True)
    lines = path.read_text().splitlines()
    for cell, said in (("0.5x", "a number, found '0.5x'"), ("inf", "a finite number, found 'inf'")):
        lines[53] = "\t".join([*lines[53].split("\t")[:-1], cell])
        path.write_text("\n".join(lines) + "\n")
        with pytest.raises(DataError, match=f"line 54, column mine: expected {said}"):
            read_scores(path)


def test_a_table_of_no_rows_has_its_columns(tmp_path: Path) -> None:
    path = tmp_path / "scores.tsv"
    path.write_text("\t".join([*KEY_COLUMNS, "mine"]) + "\n")
    assert read_scores(path).columns.tolist() == [*KEY_COLUMNS, "mine"]


def test_rewriting_gives_the_same_bytes(tmp_path: Path) -> None:
    write_scores(tmp_path / "a.tsv", table())
    write_scores(tmp_path / "b.tsv", read_scores(tmp_path / "a.tsv"))
    assert (tmp_path / "a.tsv").read_bytes() == (tmp_path / "b.tsv").read_bytes()


def test_score_columns_leave_out_keys_and_session() -> None:
    with_session = table().assign(session="ses-1")
    assert score_columns(with_session) == ("latent_l2", "trivial_position")
    assert is_trivial("trivial_position")
    assert not is_trivial("latent_l2")
    assert check_scores(with_session)["session"].tolist() == ["ses-1"] * 4


def test_healthy_without_count_has_no_tumour() -> None:
    assert check_scores(table().assign(tumour_px=np.nan))["tumour_px"].tolist()[:2] == [0.0, 0.0]


@pytest.mark.parametrize(
    ("column", "row", "value", "said"),
    [
        ("latent_l2", 2, "abc", "line 4, column latent_l2: expected a number, found 'abc'"),
        ("latent_l2", 1, "", "line 3, column latent_l2: expected a number, found nothing"),
        ("latent_l2", 0, "nan", "line 2, column latent_l2: expected a finite number, found 'nan'"),
        ("trivial_position", 3, "inf", "line 5, column trivial_position: expected a finite"),
        ("role", 1, "sick", "line 3, column role: expected one of healthy, mixed, found 'sick'"),
        ("split", 0, "dev", "line 2, column split: expected one of train, val, test, found 'dev'"),
        ("slice", 0, "1.5", "line 2, column slice: expected a whole number"),
        ("brain_px", 3, "-1", "line 5, column brain_px: expected a number that is not negative"),
        ("subject", 2, "", "line 4, column subject: expected a name, found nothing"),
        ("tumour_px", 0, "3", "line 2, column tumour_px: expected 0 in a healthy scan, found '3'"),
    ],
)
def test_bad_cells_are_named(tmp_path: Path, column: str, row: int, value: str, said: str) -> None:
    bad = table().astype(object)
    bad.loc[row, column] = value
    path = tmp_path / "scores.tsv"
    bad.to_csv(path, sep="\t", index=False)
    with pytest.raises(DataError) as error:
        read_scores(path)
    assert str(error.value).startswith(f"{path}: ")
    assert said in str(error.value)


def test_missing_columns_scores_and_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="missing column brain_px, tumour_px"):
        check_scores(table().drop(columns=["brain_px", "tumour_px"]))
    with pytest.raises(DataError, match="at least one score column"):
        check_scores(table()[list(KEY_COLUMNS)])
    with pytest.raises(DataError, match=r"nothing\.tsv: no such file"):
        read_scores(tmp_path / "nothing.tsv")
    with pytest.raises(DataError, match="found a folder"):
        read_scores(tmp_path)
    (tmp_path / "empty.tsv").write_text("")
    with pytest.raises(DataError, match="expected a tab-separated table"):
        read_scores(tmp_path / "empty.tsv")


def test_subject_in_two_splits_is_refused() -> None:
    bad = table()
    bad.loc[1, "split"] = "test"
    with pytest.raises(DataError, match="subject 001 of source a in one split, found val, test"):
        check_scores(bad)


def test_nothing_is_written_when_the_table_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(DataError):
        write_scores(tmp_path / "scores.tsv", table().assign(latent_l2=np.nan))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("column", "wrong", "said"),
    [
        ("spacing_mm", {1: "0", 3: "-1"}, "line 3, expected a number above 0, found '0'"),
        ("spacing_mm", {2: "-1e-9"}, "line 4, expected a number above 0, found '-1e-9'"),
        ("slice", {1: "10.5", 2: "7.25"}, "line 3, expected a whole number, found '10.5'"),
        ("tumour_px", {1: "1", 0: "0.5"}, "line 2, expected 0 in a healthy scan, found '0.5'"),
        ("tumour_px", {2: "-1"}, "line 4, expected a number that is not negative, found '-1'"),
        ("brain_px", {2: "-0.5"}, "line 4, expected a number that is not negative, found '-0.5'"),
    ],
)
def test_the_first_number_out_of_range_is_named(
    column: str, wrong: dict[int, str], said: str
) -> None:
    bad = table().assign(spacing_mm=1e-3).astype({column: object})
    for row, value in wrong.items():
        bad.loc[row, column] = value
    with pytest.raises(DataError) as error:
        check_scores(bad, "t")
    line, what = said.split(", ", 1)
    assert str(error.value) == f"t: {line}, column {column}: {what}"


def test_numbers_at_their_limits_are_allowed() -> None:
    given = table().assign(spacing_mm=[1e-9, 0.5, 1.0, 7.0], brain_px=0, slice=[-1, 0, 1, 2])
    found = check_scores(given)
    for column in ("spacing_mm", "brain_px", "slice"):
        assert found[column].tolist() == given[column].tolist()
    assert found["tumour_px"].tolist()[:3] == [0.0, 0.0, 12.0]


def test_names_split_and_first_line_of_the_subject_that_is_in_two_splits() -> None:
    bad = table()
    bad.loc[3, ["subject", "split"]] = ["002", "val"]
    with pytest.raises(DataError) as error:
        check_scores(bad, "t")
    assert str(error.value) == (
        "t: line 5, column split: expected subject 002 of source b in one split, found test, val"
    )
    bad.loc[3, "source"] = "c"  # another source's subject of that name is somebody else
    assert len(check_scores(bad)) == 4


def test_the_first_of_three_splits_and_no_other_subject_is_named() -> None:
    bad = table().assign(
        subject=["002", "001", "001", "001"], source="a", role="mixed", split=["val", *SPLITS]
    )
    with pytest.raises(DataError) as error:
        check_scores(bad, "t")
    assert str(error.value) == (
        "t: line 4, column split: expected subject 001 of source a in one split, "
        "found train, val, test"
    )


def test_unknown_counts_between_known_ones_stay_unknown() -> None:
    given = table().assign(role="mixed", tumour_px=["", "3", np.nan, "9"])
    np.testing.assert_array_equal(check_scores(given)["tumour_px"], [np.nan, 3.0, np.nan, 9.0])


def test_an_empty_line_is_no_row_to_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "scores.tsv"
    write_scores(path, table())
    lines = path.read_text().splitlines()
    path.write_text("\n".join([*lines[:2], "", *lines[2:]]) + "\n")
    with pytest.raises(DataError, match="line 3, column subject: expected a name, found nothing"):
        read_scores(path)
