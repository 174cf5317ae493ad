"""Draws of every family, with NumPy alone: moments, places, outputs, errors."""

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest
from noise_cases import NOISE_ERRORS, noise_of

import ppo_fast
from ppo_fast import _core
from ppo_fast.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    StateDependentNoise,
)

NVEC = (3, 2, 4)
# What the Kolmogorov-Smirnov statistic times sqrt(n) exceeds once in a million.
KS_BOUND = 2.7
DTYPES = [np.float32, np.float64]


def dists(rows, dtype=np.float32, seed=0):
    """One distribution of each class with parameters that differ from row to row."""
    rng = np.random.default_rng(seed)

    def normal(*shape):
        return rng.normal(size=shape).astype(dtype)

    mask = np.ones((rows, sum(NVEC)), bool)
    mask[::2, 1] = mask[1::2, 4] = False
    return {
        "categorical": Categorical(2 * normal(rows, 5)),
        "masked": Categorical(2 * normal(rows, sum(NVEC)), mask),
        "multi": MultiCategorical(2 * normal(rows, sum(NVEC)), NVEC),
        "masked-multi": MultiCategorical(2 * normal(rows, sum(NVEC)), NVEC, mask),
        "bernoulli": Bernoulli(2 * normal(rows, 3)),
        "gaussian": Gaussian(normal(rows, 3), normal(3)),
        "gaussian-per-sample": Gaussian(normal(rows, 3), normal(rows, 3)),
        "squashed": SquashedGaussian(normal(rows, 3), normal(3)),
        "state-dependent": StateDependentNoise(
            normal(rows, 3), normal(rows, 4), 0.2 * normal(4, 3)
        ),
    }


FAMILIES = list(dists(1))


def assert_normal(z):
    """Kolmogorov-Smirnov, and the first four moments within 5 standard errors."""
    z = np.sort(np.asarray(z, np.float64).ravel())
    n = len(z)
    cdf = np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in z])
    steps = np.arange(n + 1) / n
    assert max((steps[1:] - cdf).max(), (cdf - steps[:-1]).max()) * math.sqrt(n) < KS_BOUND
    for power, moment, variance in [(1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96)]:
        assert abs((z**power).mean() - moment) < 5 * math.sqrt(variance / n)


@pytest.mark.parametrize("dist_class", [Gaussian, SquashedGaussian])
@pytest.mark.parametrize("dtype", DTYPES)
def test_gaussian_draws_are_normal(dtype, dist_class):
    mean = np.tile(np.array([1, -2], dtype), (20_000, 1))
    log_std = np.log(np.array([0.5, 3], dtype))
    actions, _, _ = dist_class(mean, log_std).sample(seed=1, step=2)
    assert actions.dtype == dtype
    z = (actions - mean) / np.exp(log_std)
    for column in z.T:
        assert_normal(column)
    # Dimensions, environments and steps are independent.
    later, _, _ = dist_class(mean, log_std).sample(seed=1, step=3)
    for a, b in [(z[:, 0], z[:, 1]), (z[1:, 0], z[:-1, 0]), (z[:, 0], ((later - mean) / 3)[:, 1])]:
        assert abs(np.corrcoef(a, b)[0, 1]) < 5 / math.sqrt(20_000)


def test_bernoulli_frequencies():
    p = np.array([0.5, 0.01, 0.9])
    logits = np.tile(np.log(p / (1 - p)), (20_000, 1))
    actions, logp, entropy = Bernoulli(logits).sample(seed=3, step=4)
    assert set(np.unique(actions)) == {0, 1}
    assert (abs(actions.mean(axis=0) - p) < 5 * np.sqrt(p * (1 - p) / 20_000)).all()
    np.testing.assert_allclose(
        logp, (actions * np.log(p) + (1 - actions) * np.log(1 - p)).sum(1), rtol=1e-12
    )
    np.testing.assert_allclose(
        entropy, -(p * np.log(p) + (1 - p) * np.log(1 - p)).sum(), rtol=1e-12
    )


def test_components_are_independent_and_follow_their_logits():
    probabilities = [np.array(p) for p in ([0.2, 0.3, 0.5], [0.9, 0.1], [0.25] * 4)]
    logits = np.tile(np.log(np.concatenate(probabilities)), (20_000, 1))
    actions, _, _ = MultiCategorical(logits, NVEC).sample(seed=5, step=6)
    for column, p in zip(actions.T, probabilities, strict=True):
        frequencies = np.bincount(column, minlength=len(p)) / 20_000
        assert (abs(frequencies - p) < 5 * np.sqrt(p * (1 - p) / 20_000)).all()
    assert np.abs(np.corrcoef(actions.T) - np.eye(3)).max() < 5 / math.sqrt(20_000)


def test_state_dependent_noise():
    rng = np.random.default_rng(0)
    latent = np.tile(rng.normal(size=(1, 4)), (20_000, 1))
    log_std = 0.3 * rng.normal(size=(4, 2))
    dist = StateDependentNoise(np.ones((20_000, 2)), latent, log_std)
    actions, logp, _ = dist.sample(seed=7, step=8)
    std = np.exp(dist.gaussian().log_std)
    for column in ((actions - 1) / std).T:
        assert_normal(column)
    np.testing.assert_array_equal(logp, dist.gaussian().evaluate(actions)[0])
    # Within an environment the noise is a linear function of the state: noise = latent @ E.
    eye = StateDependentNoise(np.zeros((4, 2)), np.eye(4), log_std)
    matrices = [
        np.concatenate(
            [
                StateDependentNoise(np.zeros((1, 2)), row[None], log_std).sample(
                    seed=7, step=8, first_id=i
                )[0]
                for row in np.eye(4)
            ]
        )
        for i in range(5)
    ]
    np.testing.assert_allclose(
        actions[:5] - 1, [latent[0] @ matrix for matrix in matrices], rtol=1e-12
    )
    # Each environment has an own matrix.
    assert (eye.sample(seed=7, step=8)[0][1] != matrices[0][1]).all()


def test_noise_stays_for_sample_freq_steps():
    dist = dists(20)["state-dependent"]
    actions = [dist.sample(seed=1, step=step, sample_freq=4).actions for step in range(12)]
    for step in range(12):
        assert (actions[step] == actions[4 * (step // 4)]).all()
    assert (actions[0] != actions[4]).all()
    assert (actions[0] == dist.sample(seed=1, step=0).actions).all()
    into = np.empty((20, 3), np.float32)
    dist.sample_into(into, np.empty(20, np.float32), seed=1, step=7, sample_freq=4)
    assert (into == actions[7]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_a_draw_is_a_pure_function_of_its_place(name, dtype):
    whole = dists(70, dtype)[name].sample(seed=2**63, step=2**40, first_id=1000)
    again = dists(70, dtype)[name].sample(seed=2**63, step=2**40, first_id=1000)
    for a, b in zip(whole, again, strict=True):
        assert a.tobytes() == b.tobytes()
    for i in (0, 1, 31, 32, 69):
        row = rows_of(dists(70, dtype)[name], slice(i, i + 1))
        one = row.sample(seed=2**63, step=2**40, first_id=1000 + i)
        assert one.actions.tobytes() == whole.actions[i : i + 1].tobytes()
        if name != "state-dependent":  # a matrix product of one row may round otherwise
            assert one.logp[0] == whole.logp[i]
            assert one.entropy[0] == whole.entropy[i]
    for change in ({"seed": 1}, {"step": 5}, {"first_id": 0}):
        place = {"seed": 2**63, "step": 2**40, "first_id": 1000} | change
        assert (dists(70, dtype)[name].sample(**place).actions != whole.actions).any()


def rows_of(dist, rows):
    values = []
    for field in dataclasses.fields(dist):
        value = getattr(dist, field.name)
        keeps = value is None or isinstance(value, tuple) or len(value) != 70
        values.append(value if keeps else value[rows])
    return type(dist)(*values)


def test_rows_may_be_split():
    dist = dists(70)["gaussian-per-sample"]
    whole = dist.sample(seed=1, step=2).actions
    second = rows_of(dist, slice(33, 70)).sample(seed=1, step=2, first_id=33).actions
    assert whole[33:].tobytes() == second.tobytes()


@pytest.mark.parametrize("name", ["masked", "masked-multi"])
def test_masked_choices_are_never_drawn(name):
    dist = dists(500)[name]
    actions = dist.sample(seed=0, step=0).actions.reshape(500, -1)
    starts = np.concatenate([[0], np.cumsum(NVEC)])[:-1] if name == "masked-multi" else [0]
    for c, start in enumerate(starts):
        assert dist.mask[np.arange(500), start + actions[:, c]].all()


def test_modes():
    assert Bernoulli(np.array([[0.1, -0.1, 0.0]])).sample(
        seed=0, step=0, deterministic=True
    ).actions.tolist() == [[1, 0, 0]]
    logits = np.array([[0, 2, 2, 1, 0, 3, 9, 9, 9.0]])
    assert MultiCategorical(logits, NVEC).sample(
        seed=0, step=0, deterministic=True
    ).actions.tolist() == [[1, 0, 1]]
    for name in ("gaussian", "squashed", "state-dependent"):
        dist = dists(40)[name]
        actions, logp, _ = dist.sample(seed=0, step=0, deterministic=True)
        assert (actions == dist.mean).all()
        assert (logp == dist.evaluate(actions)[0]).all()


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", FAMILIES)
def test_ratio_of_a_fresh_policy_is_exactly_one(name, dtype):
    dist = dists(70, dtype)[name]
    actions, logp, entropy = dist.sample(seed=0, step=0)
    column = np.ones(70, dtype)
    _, stats = ppo_fast.ppo_loss(
        dist, actions, logp, column, column, column,
        clip_range=0.2, entropy_coef=0.0, value_coef=0.5,
    )  # fmt: skip
    assert stats["ratio_mean"] == stats["ratio_max"] == 1.0
    assert stats["approx_kl"] == stats["approx_kl_k1"] == stats["clip_fraction"] == 0.0
    assert stats["entropy"] == pytest.approx(entropy.mean(dtype=np.float64), rel=1e-12)
    # A part of the samples, in another order.
    order = np.random.default_rng(0).permutation(70)[:41]
    part = rows_of(dist, order)
    again, _ = part.evaluate(actions[order])
    if name != "state-dependent":
        assert again.tobytes() == logp[order].tobytes()


@pytest.mark.parametrize("name", FAMILIES)
def test_sample_into_any_strides(name):
    dist = dists(33)[name]
    expected = dist.sample(seed=1, step=2)
    shape = expected.actions.shape
    wide = np.full((2 * shape[0], *shape[1:], 2), -7, expected.actions.dtype)
    outputs = np.full((33, 3), np.nan, np.float32)
    actions = wide[::-2, ..., 1]
    dist.sample_into(actions, outputs[:, 0], entropy=outputs[::-1, 2][::-1], seed=1, step=2)
    assert (actions == expected.actions).all()
    assert (outputs[:, 0] == expected.logp).all()
    assert (outputs[:, 2] == expected.entropy).all()
    assert np.isnan(outputs[:, 1]).all()
    assert (wide[..., 0] == -7).all()
    assert (wide[::2] == -7).all()


@pytest.mark.parametrize("name", FAMILIES)
def test_no_rows(name):
    actions, logp, entropy = rows_of(dists(70)[name], slice(0, 0)).sample(seed=0, step=0)
    assert len(actions) == len(logp) == len(entropy) == 0


def test_first_index_is_the_plain_draw_and_others_differ():
    plain = _core.counter_uniform(1, 0, 2, 3)
    assert _core.counter_uniform(1, 0, 2, 3, 0) == plain
    draws = [_core.counter_uniform(1, 0, 2, 3, index) for index in range(1000)]
    assert len(set(draws)) == 1000
    others = [_core.counter_uniform(1, stream, 2, 3) for stream in (1, 2)]
    assert not set(others) & set(draws)
    assert abs(np.mean(draws) - 0.5) < 5 / math.sqrt(12 * 1000)


def test_float32_terms_are_exact_to_a_few_units():
    # logp and entropy of a Bernoulli are softplus and log1p: against float64.
    logits = np.linspace(-30, 30, 6001, dtype=np.float32)[:, None]
    for action in (0, 1):
        actions = np.full((6001, 1), action)
        logp, _ = Bernoulli(logits).evaluate(actions)
        x = logits[:, 0].astype(np.float64) * (1 if action else -1)
        exact = -np.where(x < 0, -x, 0) - np.log1p(np.exp(-np.abs(x)))
        assert (np.abs(logp - exact) <= 2.5 * np.spacing(np.abs(exact).astype(np.float32))).all()


def test_sampling_without_torch():
    script = """
import sys
sys.modules["torch"] = None
import numpy as np
from ppo_fast import Bernoulli, Categorical, Gaussian, MultiCategorical, SquashedGaussian
from ppo_fast import StateDependentNoise
x = np.zeros((4, 2))
for dist in (Bernoulli(x), Categorical(x), Gaussian(x, x), SquashedGaussian(x, x[0]),
             MultiCategorical(x, (1, 1)), StateDependentNoise(x, x + 1, np.zeros((2, 2)))):
    actions, logp, entropy = dist.sample(seed=0, step=0)
    assert (dist.evaluate(actions)[0] == logp).all()
    assert (dist.kl(dist) == 0).all()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


F32 = np.float32


@pytest.mark.parametrize(
    ("dist", "message"),
    [
        (
            Gaussian(np.zeros((4, 2)), np.array([0, np.nan])),
            "mean row 0 or its log_std holds a NaN",
        ),
        (
            Gaussian(np.zeros((4, 2)), np.array([np.inf, 0])),
            "mean row 0 or its log_std holds a NaN",
        ),
        (Gaussian(np.diag([0.0, 0, np.nan]), np.zeros(3)), "mean row 2 or its log_std holds a NaN"),
        (SquashedGaussian(np.zeros((4, 2)), np.full((4, 2), -np.inf)), "mean row 0 or its log_std"),
        (Bernoulli(np.diag([0.0, np.nan])), "logits row 1 holds a NaN"),
        (
            Categorical(np.zeros((4, 2)), np.arange(8).reshape(4, 2) < 4),
            "dist.mask row 2 allows no action$",
        ),
        (
            MultiCategorical(np.zeros((2, 4)), (2, 2), np.array([[1, 1, 1, 0], [1, 0, 0, 0]]) > 0),
            "dist.mask row 1 allows no action in component 1",
        ),
        (MultiCategorical(np.zeros((2, 4)), (2, 3)), r"logits must have shape \(B, 5\), a column"),
        (Gaussian(np.zeros((4, 2)), np.zeros(3)), r"log_std must have shape \(2,\) or one row"),
        (Gaussian(np.zeros(4), np.zeros(4)), r"mean must have shape \(B, D\), got \(4,\)"),
        (
            StateDependentNoise(np.zeros((4, 2)), np.zeros((4, 3)), np.full((3, 2), np.nan)),
            "mean row 0 or its log_std holds a NaN",
        ),
    ],
)
@pytest.mark.parametrize("deterministic", [False, True])
def test_what_is_no_distribution(dist, message, deterministic):
    with pytest.raises(ValueError, match=f"^sample: {message}"):
        dist.sample(seed=0, step=0, deterministic=deterministic)


@pytest.mark.parametrize(("change", "error", "message"), NOISE_ERRORS)
def test_errors_of_state_dependent_noise(change, error, message):
    dist = noise_of(change, np.zeros)
    calls = (
        dist.gaussian,
        lambda: dist.evaluate(np.zeros((4, 2), F32)),
        lambda: dist.sample(seed=0, step=0),
    )
    for call in calls:
        with pytest.raises(error, match=f"^StateDependentNoise: {message}"):
            call()


@pytest.mark.parametrize("nvec", [5, None, "32", iter([3, 2])])
def test_nvec_is_a_sequence(nvec):
    with pytest.raises(
        TypeError, match=r"^MultiCategorical: nvec must be a tuple of integers, one per .*, got "
    ):
        MultiCategorical(np.zeros((4, 5)), nvec)
    with pytest.raises(TypeError, match=r"got 5$"):
        MultiCategorical(np.zeros((4, 5)), nvec=5)


@pytest.mark.parametrize("nvec", [(3, 2), [3, 2], np.array([3, 2])])
def test_nvec_may_be_any_sequence(nvec):
    assert MultiCategorical(np.zeros((4, 5)), nvec).sample(seed=0, step=0).actions.shape == (4, 2)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ({"seed": -1}, r"seed must be an integer in \[0, 2\*\*64\), got -1"),
        ({"step": 2**64}, r"step must be an integer in \[0, 2\*\*64\), got 1844"),
        ({"step": 0.5}, r"step must be an integer in \[0, 2\*\*64\), got 0.5"),
        ({"first_id": 2**32}, r"first_id must be an integer in \[0, 2\*\*32\), got 4294967296"),
        ({"sample_freq": 0}, r"sample_freq must be an integer in \[1, 2\*\*32\), got 0"),
    ],
)
def test_errors_of_places(place, message):
    with pytest.raises(ValueError, match=f"^sample: {message}"):
        dists(4)["state-dependent"].sample(**{"seed": 0, "step": 0} | place)


@pytest.mark.parametrize(
    ("outputs", "error", "message"),
    [
        (
            {"actions": np.zeros((4, 3))},
            TypeError,
            "actions must be float32 like mean, got float64",
        ),
        ({"actions": np.zeros(4, F32)}, ValueError, r"actions must have shape \(4, 3\) \(one row"),
        ({"entropy": np.zeros(4)}, TypeError, "entropy must be float32 like mean, got float64"),
        (
            {"entropy": np.zeros(5, F32)},
            ValueError,
            r"entropy must have shape \(4,\) .*, got \(5,\)",
        ),
        ({"logp": np.broadcast_to(F32(0), 4)}, ValueError, "logp must be writable"),
    ],
)
def test_errors_of_outputs(outputs, error, message):
    given = {"actions": np.zeros((4, 3), F32), "logp": np.zeros(4, F32)} | outputs
    with pytest.raises(error, match=f"^sample: {message}"):
        dists(4)["gaussian"].sample_into(**given, seed=0, step=0)
