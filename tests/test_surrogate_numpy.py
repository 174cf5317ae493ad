"""ppo_loss of NumPy arrays against numbers worked by hand, the reference and its differences."""

import math
import subprocess
import sys

import numpy as np
import pytest

import ppo_fast
from ppo_fast import _core, reference
from ppo_fast.distributions import Categorical
from ppo_fast.surrogate import LOSS_ARRAYS, LOSS_SETTINGS, STATS, loss_settings

COLUMNS = ["actions", "old_logp", "advantages", "values", "returns"]
COEFS = {"clip_range": 0.2, "entropy_coef": 0.01, "value_coef": 0.5}


def random_batch(seed, size, num_actions, dtype=np.float64):
    """Logits and columns; about half of the ratios are outside 1 -+ 0.2."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(size, num_actions))
    actions = rng.integers(0, num_actions, size)
    logp = reference.log_softmax(logits)[np.arange(size), actions]
    return {
        "logits": logits.astype(dtype),
        "actions": actions,
        "old_logp": (logp + 0.3 * rng.normal(size=size)).astype(dtype),
        "advantages": rng.normal(size=size).astype(dtype),
        "values": rng.normal(size=size).astype(dtype),
        "returns": (1 + rng.normal(size=size)).astype(dtype),
    }


def loss_of(batch, **coefs):
    batch = dict(batch)
    return ppo_fast.ppo_loss(Categorical(batch.pop("logits")), **batch, **COEFS | coefs)


def gradients_of(batch, *, normalize_advantages=False, **coefs):
    """d loss / d logits and d loss / d values."""
    settings = COEFS | coefs
    arrays = dict.fromkeys(LOSS_ARRAYS) | {name: batch[name] for name in COLUMNS}
    arrays["{0}"] = batch["logits"]
    _, _, logits_gradient, values_gradient = _core.loss(
        "ppo_loss",
        (0, None, None),
        tuple(arrays.values()),
        (
            *("clipped", settings["clip_range"], None, None, None, 0.0, 0.0, 0.0),
            *(settings["entropy_coef"], settings["value_coef"], normalize_advantages),
        ),
    )
    return logits_gradient, values_gradient


def assert_equal_stats(ours, expected):
    """Equal, NaN being equal to NaN."""
    assert list(ours) == list(expected)
    np.testing.assert_array_equal(list(ours.values()), list(expected.values()))


def reference_of(batch, **coefs):
    batch = dict(batch)
    logp, entropy = reference.categorical_terms(batch.pop("logits"), batch.pop("actions"))
    loss, stats = reference.fused_loss(logp, entropy, objective="clipped", **batch, **COEFS | coefs)
    del stats["kl"]  # it needs an old_dist
    return loss, stats


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_worked_by_hand(dtype):
    # Logits of 0 and two actions: log p = -log 2, entropy = log 2.
    # Sample 0: old_logp = -log 4, ratio 2,   A = 1: min(2, 1.2) = 1.2, clipped.
    # Sample 1: old_logp = 0,      ratio 1/2, A = 2: min(1, 1.6) = 1,   not clipped.
    # policy_loss = -(1.2 + 1) / 2 = -1.1
    # value_loss  = ((1 - 2)^2 + (3 - 1)^2) / 2 = 2.5
    # k3          = (2 - 1 - log 2 + 1/2 - 1 + log 2) / 2 = 0.25,  k1 = -(log 2 - log 2) / 2 = 0
    # effective sample size = (2 + 1/2)^2 / (2 (4 + 1/4)) = 6.25 / 8.5
    # explained variance    = 1 - Var(1, -2) / Var(2, 1) = 1 - 2.25 / 0.25 = -8
    batch = {
        "logits": np.zeros((2, 2), dtype),
        "actions": np.array([0, 1]),
        "old_logp": np.array([-math.log(4), 0], dtype),
        "advantages": np.array([1, 2], dtype),
        "values": np.array([1, 3], dtype),
        "returns": np.array([2, 1], dtype),
    }
    expected = {
        "policy_loss": -1.1,
        "value_loss": 2.5,
        "entropy": math.log(2),
        "approx_kl": 0.25,
        "approx_kl_k1": 0.0,
        "clip_fraction": 1.0,
        "ratio_mean": 1.25,
        "ratio_max": 2.0,
        "effective_sample_size": 6.25 / 8.5,
        "limited_fraction": 0.0,
        "explained_variance": -8.0,
    }
    loss, stats = loss_of(batch)
    assert stats == pytest.approx(expected, rel=1e-6, abs=1e-7)
    assert loss == pytest.approx(-1.1 + 0.5 * 2.5 - 0.01 * math.log(2), rel=1e-6)
    # The entropy is at its maximum and the clipped sample has no gradient. For sample 1,
    # d loss / d log p = -(1/2) r A = -1/2, times ([k = a] - 1/2) = (-1/2, 1/2).
    # d loss / d V = value_coef * 2 (V - R) / 2 = (V - R) / 2.
    logits_gradient, values_gradient = gradients_of(batch)
    np.testing.assert_allclose(logits_gradient, [[0, 0], [0.25, -0.25]], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(values_gradient, [-0.5, 1], rtol=1e-6)


@pytest.mark.parametrize("normalize_advantages", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
@pytest.mark.parametrize("num_actions", [1, 2, 3, 18])
@pytest.mark.parametrize("size", [1, 2, 15, 16, 17, 100, 256])
def test_equals_reference(size, num_actions, dtype, tolerance, normalize_advantages):
    batch = random_batch(size, size, num_actions, dtype)
    loss, stats = loss_of(batch, normalize_advantages=normalize_advantages)
    expected, expected_stats = reference_of(batch, normalize_advantages=normalize_advantages)
    # Terms of both signs may add up to nearly 0: `abs` allows for terms of about 1.
    close = {"rel": tolerance, "abs": tolerance / 100, "nan_ok": True}
    assert loss == pytest.approx(expected, **close)
    assert list(stats) == list(STATS[:-1])  # all but kl, which needs an old_dist
    assert stats == pytest.approx(expected_stats, **close)


@pytest.mark.parametrize("normalize_advantages", [False, True])
@pytest.mark.parametrize("num_actions", [1, 2, 5])
def test_gradients_equal_differences_of_the_reference(num_actions, normalize_advantages):
    batch = random_batch(20, 17, num_actions)
    coefs = {"entropy_coef": 0.1, "normalize_advantages": normalize_advantages}
    for name, gradient in zip(("logits", "values"), gradients_of(batch, **coefs), strict=True):
        differences = np.empty_like(gradient)
        for index in np.ndindex(gradient.shape):
            losses = []
            for step in (1e-5, -1e-5):
                moved = batch[name].copy()
                moved[index] += step
                losses.append(reference_of(batch | {name: moved}, **coefs)[0])
            differences[index] = (losses[0] - losses[1]) / 2e-5
        np.testing.assert_allclose(gradient, differences, rtol=0, atol=1e-9)


def at_bound(side, outside, dtype):
    """A sample whose ratio is 1 -+ 0.2 as formed in double, or the next number beyond."""
    target = dtype(1.0 + side * COEFS["clip_range"])
    if outside:
        target = np.nextafter(target, dtype(side * np.inf))
    sample = {
        "logits": np.zeros((1, 2), dtype),
        "actions": np.array([0]),
        "advantages": np.ones(1, dtype),
        "values": np.zeros(1, dtype),
        "returns": np.zeros(1, dtype),
    }
    # Rounding in log p, its difference and exp: one of the neighbours gives the ratio exactly.
    guess = dtype(-math.log(2) - math.log(target))
    for offset in range(-40, 41):
        batch = sample | {"old_logp": np.array([guess + offset * np.spacing(guess)], dtype)}
        if loss_of(batch)[1]["ratio_mean"] == target:
            return batch
    raise AssertionError(f"no ratio of {target}")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("advantage", [-1, 1])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("outside", [0, 1])
def test_bounds_are_inclusive(side, outside, advantage, dtype):
    batch = at_bound(side, outside, dtype) | {"advantages": np.array([advantage], dtype)}
    # The clip takes hold where it makes the objective smaller: beyond the bound, on the side that
    # the advantage pulls to. There the gradient is 0; elsewhere it is -r A ([k = a] - 1/2).
    clipped = outside and side == advantage
    _, stats = loss_of(batch)
    ratio = stats["ratio_mean"]
    assert stats["clip_fraction"] == outside
    logits_gradient, _ = gradients_of(batch, entropy_coef=0.0)
    expected = 0.0 if clipped else ratio * advantage / 2
    np.testing.assert_allclose(logits_gradient, [[-expected, expected]], rtol=1e-6)


def test_zero_advantages():
    batch = random_batch(21, 40, 3) | {"advantages": np.zeros(40)}
    for normalize_advantages in (False, True):
        coefs = {"entropy_coef": 0.0, "normalize_advantages": normalize_advantages}
        loss, stats = loss_of(batch, **coefs)
        assert stats["policy_loss"] == 0.0
        assert loss == 0.5 * stats["value_loss"]
        assert not gradients_of(batch, **coefs)[0].any()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equal_advantages_normalize_to_zero(dtype):
    # The spread is 0: (A - mean) / (0 + 1e-8) must not blow rounding up.
    batch = random_batch(22, 100, 3, dtype) | {"advantages": np.full(100, 0.1, dtype)}
    loss, stats = loss_of(batch, normalize_advantages=True)
    assert math.isfinite(loss)
    assert abs(stats["policy_loss"]) < 1e-7


def test_single_sample_is_not_normalized():
    batch = random_batch(23, 1, 3)
    plain, normalized = (loss_of(batch, normalize_advantages=x)[0] for x in (False, True))
    assert math.isfinite(plain)
    assert plain == normalized
    for a, b in zip(
        gradients_of(batch), gradients_of(batch, normalize_advantages=True), strict=True
    ):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_impossible_actions_change_nothing(dtype):
    # Columns of -infinity, before, between and behind: the loss is that without them.
    batch = random_batch(24, 40, 3, dtype)
    wide = np.full((40, 6), -np.inf, dtype)
    wide[:, [1, 2, 4]] = batch["logits"]
    masked = batch | {"logits": wide, "actions": np.array([1, 2, 4])[batch["actions"]]}
    loss, stats = loss_of(masked)
    assert loss == loss_of(batch)[0]
    assert_equal_stats(stats, loss_of(batch)[1])
    gradient, values_gradient = gradients_of(masked)
    expected, expected_values = gradients_of(batch)
    assert (gradient[:, [0, 3, 5]] == 0).all()
    assert gradient[:, [1, 2, 4]].tobytes() == expected.tobytes()
    assert values_gradient.tobytes() == expected_values.tobytes()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("advantage", [-1, 1])
@pytest.mark.parametrize("old_logp", [-np.inf, -1.0])
def test_impossible_action_taken(old_logp, advantage, dtype):
    # (-inf) - (-inf) has no value: such a ratio counts as 1, as limited, and has no gradient.
    batch = random_batch(25, 20, 3, dtype)
    batch["logits"][4] = [0.5, -np.inf, 0]
    batch["actions"][4] = 1
    batch["old_logp"][4] = old_logp
    batch["advantages"][4] = advantage
    loss, stats = loss_of(batch)
    assert math.isfinite(loss)
    assert all(math.isfinite(value) for value in stats.values())
    assert stats["limited_fraction"] == pytest.approx(1 / 20)
    gradient, values_gradient = gradients_of(batch)
    assert np.isfinite(gradient).all()
    assert np.isfinite(values_gradient).all()
    assert gradient[4, 1] == 0
    # What is left in that row is the entropy's gradient alone.
    assert (gradients_of(batch, entropy_coef=0.0)[0][4] == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("advantage", [-1, 1])
@pytest.mark.parametrize(
    ("shift", "limited"), [(59.0, 0), (61.0, 1), (1e4, 1), (-59.0, 0), (-61.0, 1), (-1e4, 1)]
)
def test_huge_log_ratios(shift, limited, advantage, dtype):
    batch = random_batch(26, 5, 3, dtype)
    logp = reference.log_softmax(batch["logits"])[np.arange(5), batch["actions"]]
    batch["old_logp"] = logp.copy()
    batch["old_logp"][2] -= shift
    batch["advantages"][2] = advantage
    loss, stats = loss_of(batch)
    assert math.isfinite(loss)
    assert all(math.isfinite(value) for value in stats.values())
    assert stats["limited_fraction"] == pytest.approx(limited / 5)
    assert loss == pytest.approx(reference_of(batch)[0], rel=1e-4)
    gradient, _ = gradients_of(batch, entropy_coef=0.0)
    assert np.isfinite(gradient).all()
    if limited:
        assert (gradient[2] == 0).all()


@pytest.mark.parametrize("name", ["old_logp", "advantages", "values", "returns"])
def test_nan_is_not_hidden(name):
    batch = random_batch(27, 20, 3)
    batch[name][4] = np.nan
    assert math.isnan(loss_of(batch)[0])


@pytest.mark.parametrize("row", [[np.nan, 0, 0], [0, np.nan, 0], [-np.inf] * 3, [np.inf, 0, 0]])
def test_logits_that_are_no_distribution_are_refused(row):
    batch = random_batch(27, 20, 3)
    batch["logits"][[4, 9]] = row
    with pytest.raises(ValueError, match=r"^ppo_loss: logits row 4 is no distribution \(a NaN"):
        loss_of(batch)


def test_explained_variance_of_equal_returns_is_undefined():
    batch = random_batch(28, 100, 3) | {"returns": np.full(100, 0.1)}
    assert math.isnan(loss_of(batch)[1]["explained_variance"])


@pytest.mark.parametrize("mean", [1e4, 1e7])
def test_explained_variance_far_from_zero(mean):
    batch = random_batch(29, 256, 3)
    batch["returns"] = batch["returns"] + mean
    batch["values"] = batch["returns"] + 0.3 * batch["values"]
    expected = reference_of(batch)[1]["explained_variance"]
    assert loss_of(batch)[1]["explained_variance"] == pytest.approx(expected, rel=1e-8)


def test_coefficients():
    batch = random_batch(30, 40, 3)
    _, stats = loss_of(batch)
    for value_coef, entropy_coef in [(0.0, 0.0), (1.0, 0.0), (0.0, 1.0), (0.7, -0.3)]:
        loss, again = loss_of(batch, value_coef=value_coef, entropy_coef=entropy_coef)
        expected = stats["policy_loss"] + value_coef * stats["value_loss"]
        assert loss == pytest.approx(expected - entropy_coef * stats["entropy"], rel=1e-14)
        assert_equal_stats(again, stats)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_strides_change_no_bit(dtype):
    batch = random_batch(31, 33, 5, dtype)
    loss, stats = loss_of(batch)
    gradients = gradients_of(batch)
    wide = np.full((66, 10), np.nan, dtype)
    wide[::2, ::-2] = batch["logits"]
    others = [
        {"logits": np.asfortranarray(batch["logits"])},
        {"logits": wide[::2, ::-2]},
        {name: np.repeat(batch[name], 3)[::3] for name in COLUMNS},
        {name: batch[name][::-1].copy()[::-1] for name in batch},
    ]
    for other in others:
        again, again_stats = loss_of(batch | other)
        assert again == loss
        assert_equal_stats(again_stats, stats)
        for a, b in zip(gradients_of(batch | other), gradients, strict=True):
            assert a.tobytes() == b.tobytes()


def test_inputs_are_not_written():
    batch = random_batch(32, 33, 5)
    before = {name: array.tobytes() for name, array in batch.items()}
    for array in batch.values():
        array.flags.writeable = False
    loss_of(batch, normalize_advantages=True)
    assert {name: array.tobytes() for name, array in batch.items()} == before


def test_without_torch():
    script = """
import sys
sys.modules["torch"] = None
import numpy as np
import ppo_fast
from ppo_fast.distributions import Categorical
column = np.zeros(4)
loss, stats = ppo_fast.ppo_loss(
    Categorical(np.zeros((4, 2))), np.zeros(4, np.int64), column, column, column, column + 1,
    clip_range=0.2, entropy_coef=0.0, value_coef=1.0,
)
assert loss == stats["value_loss"] == 1.0, stats
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logits", np.zeros((4, 3), np.float16), "must be float32 or float64, got float16"),
        ("logits", np.zeros((4, 3), int), "must be float32 or float64, got int64"),
        ("actions", [0, 1, 2, 0], "must be a NumPy array, got list"),
        ("actions", np.zeros(4, np.int32), r"must be int64, got int32; cast with actions\.astype"),
        ("actions", np.zeros(4), "must be int64, got float64"),
        ("old_logp", [0.0] * 4, "must be a NumPy array, got list"),
        ("old_logp", np.zeros(4, np.float32), "must be float64 like logits, got float32"),
        ("advantages", np.zeros(4, int), "must be float64 like logits, got int64"),
        ("values", np.zeros(4, np.float32), r"must be float64 .*; cast with values\.astype"),
        ("advantages", None, "is missing, got None"),
        ("old_logp", None, "is missing, got None"),
    ],
)
def test_type_errors(name, value, message):
    with pytest.raises(TypeError, match=f"^ppo_loss: {name} {message}"):
        loss_of(random_batch(33, 4, 3) | {name: value})


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("logits", np.zeros(4), r"must have shape \(B, actions\), got \(4,\)"),
        ("logits", np.zeros((0, 3)), r"must have at least one sample, got \(0, 3\)"),
        ("logits", np.zeros((4, 0)), r"must have shape \(B, actions\), got \(4, 0\)"),
        ("actions", np.zeros((4, 1), int), r"must have shape \(4,\) .*, got \(4, 1\)"),
        ("actions", np.array([0, 1, 3, 0]), r"must be in \[0, 3\), got 3 for sample 2"),
        ("actions", np.array([0, -1, 1, 0]), r"must be in \[0, 3\), got -1 for sample 1"),
        ("old_logp", np.zeros(3), r"must have shape \(4,\) \(one per sample\), got \(3,\)"),
        ("advantages", np.zeros((4, 1)), r"must have shape \(4,\) .*, got \(4, 1\)"),
        ("values", np.zeros((4, 1)), r"must have shape \(4,\) .*, got \(4, 1\)"),
        ("returns", np.zeros(5), r"must have shape \(4,\) .*, got \(5,\)"),
        ("values", None, "is missing; the value loss needs values and returns"),
        ("returns", None, "is missing; the value loss needs values and returns"),
    ],
)
def test_value_errors(name, value, message):
    with pytest.raises(ValueError, match=f"^ppo_loss: {name} {message}"):
        loss_of(random_batch(34, 4, 3) | {name: value})


def test_settings_stand_in_the_order_of_their_names():
    assert loss_settings(**{name: name for name in reversed(LOSS_SETTINGS)}) == LOSS_SETTINGS


@pytest.mark.parametrize("clip_range", [0.0, -0.2, math.nan])
def test_clip_range_must_be_positive(clip_range):
    with pytest.raises(ValueError, match=r"^ppo_loss: clip_range must be positive, got "):
        loss_of(random_batch(35, 4, 3), clip_range=clip_range)


def test_dist_must_be_one_of_ours():
    batch = random_batch(36, 4, 3)
    logits = batch.pop("logits")
    with pytest.raises(TypeError, match=r"^ppo_loss: dist must be one of .*, got ndarray"):
        ppo_fast.ppo_loss(logits, **batch, **COEFS)


def test_logits_must_be_an_array():
    with pytest.raises(
        TypeError, match=r"^ppo_loss: each parameter of dist must be a NumPy array or .*, got list"
    ):
        loss_of(random_batch(37, 2, 2) | {"logits": [[0.0, 1.0]] * 2})
