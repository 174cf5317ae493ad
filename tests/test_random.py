"""The counter-based generator: Philox4x32-10 again in Python, and what is drawn from it."""

import itertools
from collections import Counter

import numpy as np
import pytest

from ppo_fast import _core

WORD = 0xFFFFFFFF
# Streams of csrc/support/counter_rng.h.
ACTIONS, PERMUTATION = 0, 1


def philox(counter, key):
    """J. Salmon et al., "Parallel Random Numbers: As Easy as 1, 2, 3" (SC 2011): ten rounds."""
    x0, x1, x2, x3 = counter
    k0, k1 = key
    for _ in range(10):
        p0, p1 = 0xD2511F53 * x0, 0xCD9E8D57 * x2
        x0, x1, x2, x3 = (p1 >> 32) ^ x1 ^ k0, p1 & WORD, (p0 >> 32) ^ x3 ^ k1, p0 & WORD
        k0, k1 = (k0 + 0x9E3779B9) & WORD, (k1 + 0xBB67AE85) & WORD
    return x0, x1, x2, x3


def counter_bits(seed, stream, env_id, step):
    """Key: the seed. Counter: the step in two words, then id and stream. Low words come first."""
    return philox((step & WORD, step >> 32, env_id, stream), (seed & WORD, seed >> 32))


def uniform(seed, stream, env_id, step):
    # The upper 53 of the 64 bits of the first two words.
    low, high, _, _ = counter_bits(seed, stream, env_id, step)
    return ((high << 32 | low) >> 11) * 2.0**-53


# Test vectors of Random123, the authors' library.
@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [
        (
            (0, 0, 0, 0),
            (0, 0),
            (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8),
        ),
        (
            (WORD, WORD, WORD, WORD),
            (WORD, WORD),
            (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD),
        ),
    ],
)
def test_philox_known_answers(counter, key, expected):
    assert philox(counter, key) == expected


def test_uniform_known_answer():
    # (0xe169c58d6627e8d5 >> 11) / 2^53, from the vector of zeros.
    assert _core.counter_uniform(0, 0, 0, 0) == (0xE169C58D6627E8D5 >> 11) / 2**53


@pytest.mark.parametrize("seed", [0, 1, 2**32 - 1, 2**32, 0x0123456789ABCDEF, 2**64 - 1])
@pytest.mark.parametrize("stream", [ACTIONS, PERMUTATION, WORD])
@pytest.mark.parametrize("env_id", [0, 77, WORD])
@pytest.mark.parametrize("step", [0, 5, 2**32, 2**64 - 1])
def test_uniform_is_philox(seed, stream, env_id, step):
    assert _core.counter_uniform(seed, stream, env_id, step) == uniform(seed, stream, env_id, step)


@pytest.mark.parametrize("axis", ["id", "step", "seed"])
def test_uniform_moments(axis):
    place = {"seed": 9, "stream": ACTIONS, "id": 0, "step": 0}
    u = np.array([_core.counter_uniform(**place | {axis: i}) for i in range(20_000)])
    assert u.min() >= 0
    assert u.max() < 1
    # Standard errors: of the mean sqrt(1/12 / 20000) = 0.0020, of the variance
    # sqrt((1/80 - 1/144) / 20000) = 0.00053, of the correlation 1 / sqrt(20000) = 0.0071.
    # Bounds are 5 of them; the numbers are fixed by the seed.
    assert abs(u.mean() - 0.5) < 0.0102
    assert abs(u.var() - 1 / 12) < 0.0027
    assert abs(np.corrcoef(u[:-1], u[1:])[0, 1]) < 0.036


def test_places_differ():
    places = itertools.product((0, 1, 2**32), (ACTIONS, PERMUTATION), (0, 1), (0, 1, 2**32))
    numbers = [_core.counter_uniform(*place) for place in places]
    assert len(set(numbers)) == len(numbers) == 36


def permutation(seed, epoch, size):
    (order,) = _core.permutations(seed, epoch, 1, size)
    return order


@pytest.mark.parametrize("size", [0, 1, 2, 7, 1000])
def test_permutation_is_one(size):
    for seed, epoch in [(0, 0), (1, 2), (2**64 - 1, 2**64 - 1)]:
        order = permutation(seed, epoch, size)
        assert order.dtype == np.int64
        assert order.shape == (size,)
        assert sorted(order.tolist()) == list(range(size))


def test_permutation_depends_on_seed_and_epoch():
    orders = [
        tuple(permutation(seed, epoch, 1000).tolist())
        for seed in (0, 1, 2**32)
        for epoch in (0, 1, 2**32)
    ]
    assert len(set(orders)) == 9
    assert tuple(permutation(1, 1, 1000).tolist()) == orders[4]


def test_permutation_does_not_stay_near_its_start():
    # The correlation with 0, 1, 2, ... has a standard deviation of 1 / sqrt(1000) = 0.032.
    order = permutation(3, 4, 1000)
    assert abs(np.corrcoef(order, np.arange(1000))[0, 1]) < 0.16


def test_permutation_is_fisher_yates_over_philox():
    # For i = size - 1 .. 1: exchange i with floor(word (i + 1) / 2^32), the word of (epoch, i).
    # A product whose low word is below 2^32 mod (i + 1) is drawn again, from the next word.
    for seed, epoch, size in [(0, 0, 10), (5, 2**33 + 1, 100), (2**40, 7, 1000)]:
        order = list(range(size))
        for i in range(size - 1, 0, -1):
            for word in counter_bits(seed, PERMUTATION, i, epoch):
                product = word * (i + 1)
                if product & WORD >= 2**32 % (i + 1):
                    break
            j = product >> 32
            order[i], order[j] = order[j], order[i]
        assert permutation(seed, epoch, size).tolist() == order


@pytest.mark.parametrize("axis", ["epoch", "seed"])
def test_permutation_is_uniform(axis):
    # Six orders of three, 2000 times each on average. Chi-square with 5 degrees of freedom exceeds
    # 35.9 once in a million.
    place = {"seed": 11, "epoch": 0, "size": 3}
    counts = Counter(tuple(permutation(**place | {axis: i}).tolist()) for i in range(12_000))
    assert len(counts) == 6
    assert sum((count - 2000) ** 2 / 2000 for count in counts.values()) < 35.9


def test_permutations_are_those_of_the_epochs_from_the_first_on():
    orders = _core.permutations(4, 2**40, 3, 50)
    assert orders.shape == (3, 50)
    for k, order in enumerate(orders):
        np.testing.assert_array_equal(order, permutation(4, 2**40 + k, 50))
    assert _core.permutations(4, 0, 0, 50).shape == (0, 50)


@pytest.mark.parametrize(("count", "size", "name"), [(-1, 3, "count"), (1, -1, "size")])
def test_permutations_refuse_what_is_negative(count, size, name):
    with pytest.raises(ValueError, match=f"^permutations: {name} must .*, got -1"):
        _core.permutations(0, 0, count, size)
