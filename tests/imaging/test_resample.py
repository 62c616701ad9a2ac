"""Area averages: exact, conserving, and the same whichever way one looks."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from twinvae.imaging.resample import apply_taps, resampling_taps


def dense(n_in, start, step, n_out):
    taps = resampling_taps(n_in, start, step, n_out)
    return apply_taps(np.eye(n_in, dtype=np.float32), taps, 0).astype(float)


def by_integration(n_in, start, step, n_out, fine=2000):
    """The mean of a step function over each output cell, by brute force."""
    out = np.zeros((n_out, n_in))
    for k in range(n_out):
        x = start + step * (k + (np.arange(fine) + 0.5) / fine)
        cell = np.floor(x).astype(int)
        for i in range(n_in):
            out[k, i] = (cell == i).mean()
    return out


@pytest.mark.parametrize(
    ("n_in", "start", "step", "n_out"), [(12, 0, 3.125, 4), (9, -1.4, 1.7, 7), (8, 2.3, 1.0, 4)]
)
def test_area_weights_agree_with_integration(n_in, start, step, n_out):
    expected = by_integration(n_in, start, step, n_out)
    np.testing.assert_allclose(dense(n_in, start, step, n_out), expected, atol=1.1e-3)


@given(st.integers(2, 60), st.floats(1, 9), st.floats(-20, 20), st.integers(0, 2**32 - 1))
@settings(max_examples=100, deadline=None)
def test_shrinking_conserves_the_sum(n_in, step, start, seed):
    """Whatever the steps, a window that covers the input keeps its integral, hence its mean."""
    start = min(start, 0.0)
    n_out = int(np.ceil((n_in - start) / step))
    values = np.random.default_rng(seed).uniform(0, 1, (n_in, 3)).astype(np.float32)
    shrunk = apply_taps(values, resampling_taps(n_in, start, step, n_out), 0)
    np.testing.assert_allclose(shrunk.sum(0) * step, values.sum(0), rtol=2e-5)


@given(st.integers(2, 40), st.floats(0.2, 6), st.integers(2, 30))
@settings(max_examples=100, deadline=None)
def test_a_centred_window_has_no_left_or_right(n_in, step, n_out):
    weights = dense(n_in, (n_in - n_out * step) / 2, step, n_out)
    np.testing.assert_allclose(weights, weights[::-1, ::-1], atol=2e-6)


def test_same_grid_is_the_identity_and_linear_stays_linear():
    np.testing.assert_array_equal(dense(7, 0, 1, 7), np.eye(7))
    np.testing.assert_array_equal(dense(7, 2, 1, 4), np.eye(7)[2:6])
    ramp = np.arange(10, dtype=np.float32)
    fine = apply_taps(ramp, resampling_taps(10, 0, 0.25, 40), 0)
    centres = np.clip(0.25 * (np.arange(40) + 0.5) - 0.5, 0, 9)
    np.testing.assert_allclose(fine, centres, atol=1e-5)


def test_outside_the_input_there_is_zero():
    assert not dense(5, 20, 2, 4).any()
    assert not dense(5, 20, 0.5, 4).any()
    np.testing.assert_allclose(dense(4, -2, 2, 4).sum(1), [0, 1, 1, 0])


def test_bool_arrays_and_other_axes():
    mask = np.zeros((3, 8, 2), bool)
    mask[1, 2:5] = True
    out = apply_taps(mask, resampling_taps(8, 0, 2, 4), 1)
    assert out.dtype == np.float32
    np.testing.assert_array_equal(out[1, :, 0], [0, 1, 0.5, 0])
