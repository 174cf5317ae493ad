"""Results so large that they go past the caches: the bits of narrow calls, which do not."""

import functools

import numpy as np
import pytest

import ppo_fast

SHAPES = [(520, 4099), (130, 17000), (8200, 257), (4200, 1500)]


def shifted(shape, dtype, items):
    """An array whose data starts `items` items behind a cache line."""
    size = int(np.prod(shape))
    buffer = np.full(size + 64, np.nan, dtype)
    start = (-buffer.ctypes.data) % 64 // buffer.itemsize + items
    return buffer[start : start + size].reshape(shape)


def narrow(call, rewards, **columns):
    """The same result, from calls of a few columns each."""
    parts = []
    for n in range(0, rewards.shape[1], 100):
        cut = {name: array[..., n : n + 100] for name, array in columns.items()}
        parts.append(call(rewards[:, n : n + 100], **cut))
    return [np.concatenate(part, axis=1) for part in zip(*parts, strict=True)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("items", [(0, 0), (1, 1), (4, 0), (0, 7), (3, 5)])
def test_results_are_those_of_narrow_calls(shape, dtype, items):
    rng = np.random.default_rng(1)
    rewards, values = rng.standard_normal((2, *shape)).astype(dtype)
    terminated, truncated = rng.random((2, *shape)) < 0.05
    arrays = {"values": values, "terminated": terminated, "last_values": values[0] * 2}
    if items[0] == items[1]:
        arrays |= {"truncated": truncated, "final_values": values[::-1]}

    call = functools.partial(ppo_fast.gae, gamma=0.99, gae_lambda=0.95)
    out = tuple(shifted(shape, dtype, n) for n in items)
    assert [x.ctypes.data % 64 for x in out] == [n * out[0].itemsize % 64 for n in items]
    result = call(rewards, **arrays, out=out)
    expected = narrow(call, rewards, **arrays)
    assert result.advantages is out[0]
    np.testing.assert_array_equal(out[0], expected[0])
    np.testing.assert_array_equal(out[1], expected[1])


def test_strided_rows():
    """Rows of a wider array: none of them starts where the one before did."""
    rng = np.random.default_rng(2)
    rewards, values = rng.standard_normal((2, 1100, 2000)).astype(np.float32)
    wide = np.full((2, 1100, 2003), np.nan, np.float32)
    arrays = {"values": values, "terminated": rng.random(rewards.shape) < 0.05}
    arrays["last_values"] = values[0]
    call = functools.partial(ppo_fast.gae, gamma=0.9, gae_lambda=0.9)
    call(rewards, **arrays, out=tuple(wide[:, :, 1:2001]))
    expected = narrow(call, rewards, **arrays)
    np.testing.assert_array_equal(wide[:, :, 1:2001], expected)
    assert np.isnan(wide[:, :, [0, 2001, 2002]]).all()


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("shape", [(1 << 18, 1), (1 << 18,), (512, 512), (512, 512, 1)])
def test_large_results_start_on_a_cache_line(shape, order):
    rewards = np.zeros(shape, np.float32, order=order)
    result = ppo_fast.gae(
        rewards,
        rewards,
        gamma=0.9,
        gae_lambda=0.9,
        last_values=np.zeros(shape[1:], np.float32) if len(shape) > 1 else 0.0,
        terminated=rewards,
    )
    for array in result:
        assert array.ctypes.data % 64 == 0
        long = [axis for axis, size in enumerate(shape) if size > 1]
        assert [array.strides[axis] for axis in long] == [rewards.strides[axis] for axis in long]
        assert array.flags.writeable
        array[:] = 1
