"""Sampling from Categorical, with NumPy alone."""

import numpy as np
import pytest

import ppo_fast
from ppo_fast import reference
from ppo_fast.distributions import Categorical

# Chi-square quantiles that a true hypothesis exceeds once in a million, by degrees of freedom. The
# draws are fixed by their seeds, so a test that passes once passes always.
CHI_SQUARE_BOUNDS = {1: 23.9, 2: 27.6, 3: 30.7, 4: 33.4, 5: 35.9, 17: 60.2}


def random_logits(seed, rows, num_actions, scale=2.0):
    rng = np.random.default_rng(seed)
    return (scale * rng.normal(size=(rows, num_actions))).astype(np.float32)


def log_softmax(logits):
    return reference.log_softmax(logits.astype(np.float64))


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("scale", [0.0, 0.1, 2.0, 30.0])
@pytest.mark.parametrize("num_actions", [1, 2, 3, 18])
@pytest.mark.parametrize("rows", [1, 7, 300])
def test_logp_is_log_softmax(rows, num_actions, scale, deterministic):
    logits = random_logits(1, rows, num_actions, scale)
    actions, logp, _ = Categorical(logits).sample(seed=3, step=4, deterministic=deterministic)
    assert actions.dtype == np.int64
    assert logp.dtype == np.float32
    assert actions.shape == logp.shape == (rows,)
    assert ((actions >= 0) & (actions < num_actions)).all()
    expected = log_softmax(logits)[np.arange(rows), actions]
    np.testing.assert_allclose(logp, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("offset", [-1e4, 1e4])
def test_logp_does_not_depend_on_the_height_of_logits(offset):
    # Multiples of 1/64 stay exact when ten thousand is added.
    logits = np.round(64 * random_logits(2, 50, 4)) / 64
    plain = Categorical(logits).sample(seed=0, step=0)
    moved = Categorical(logits + np.float32(offset)).sample(seed=0, step=0)
    for a, b in zip(plain, moved, strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("probabilities", [[0.5, 0.5], [0.7, 0.2, 0.1], [0.01, 0.9, 0.04, 0.05]])
def test_frequencies(probabilities):
    assert_frequencies(np.log(probabilities), np.array(probabilities))


def test_frequencies_of_many_actions():
    logits = random_logits(3, 1, 18, 1.0)[0]
    assert_frequencies(logits, np.exp(log_softmax(logits[None])[0]))


def assert_frequencies(logits, probabilities):
    rows = 20_000
    logits = np.tile(logits.astype(np.float32), (rows, 1))
    # Drawn over environments of one step, and over steps of one environment.
    actions, _, _ = Categorical(logits).sample(seed=5, step=6)
    one = Categorical(logits[:1])
    by_step = np.array([one.sample(seed=5, step=step)[0][0] for step in range(rows)])
    for drawn in (actions, by_step):
        counts = np.bincount(drawn, minlength=len(probabilities))
        expected = rows * probabilities
        chi_square = ((counts - expected) ** 2 / expected).sum()
        assert chi_square < CHI_SQUARE_BOUNDS[len(probabilities) - 1]


def test_neighbouring_draws_are_independent():
    # Pairs of (environment i, environment i + 1) and of (step, step + 1): four equal counts.
    logits = np.zeros((20_001, 2), np.float32)
    first, _, _ = Categorical(logits).sample(seed=1, step=0)
    second, _, _ = Categorical(logits).sample(seed=1, step=1)
    for pairs in (2 * first[:-1] + first[1:], 2 * first[:-1] + second[:-1]):
        chi_square = ((np.bincount(pairs, minlength=4) - 5000) ** 2 / 5000).sum()
        assert chi_square < CHI_SQUARE_BOUNDS[3]


def test_same_place_same_draws():
    dist = Categorical(random_logits(4, 100, 5))
    first, first_logp, _ = dist.sample(seed=1, step=2, first_id=3)
    again, again_logp, _ = dist.sample(seed=1, step=2, first_id=3)
    assert first.tobytes() == again.tobytes()
    assert first_logp.tobytes() == again_logp.tobytes()


@pytest.mark.parametrize(
    "other", [{"seed": 2}, {"seed": 1 + 2**32}, {"step": 3}, {"step": 2 + 2**32}, {"first_id": 100}]
)
def test_other_place_other_draws(other):
    dist = Categorical(np.zeros((100, 2), np.float32))
    place = {"seed": 1, "step": 2, "first_id": 0}
    first, _, _ = dist.sample(**place)
    second, _, _ = dist.sample(**place | other)
    # About half of 100 fair coins differ: 20 to 80 is 6 standard deviations.
    assert 20 < (first != second).sum() < 80


@pytest.mark.parametrize("seed", [0, 2**63, 2**64 - 1])
@pytest.mark.parametrize("step", [0, 2**40])
def test_rows_belong_to_environments(seed, step):
    logits = random_logits(5, 40, 4)
    actions, logp, _ = Categorical(logits).sample(seed=seed, step=step, first_id=1000)
    for i in range(40):
        action, row_logp, _ = Categorical(logits[i : i + 1]).sample(
            seed=seed, step=step, first_id=1000 + i
        )
        assert action[0] == actions[i]
        assert row_logp[0] == logp[i]


def test_deterministic_takes_the_first_most_probable_action():
    logits = np.array([[0, 3, 3], [1, 0, -1], [-np.inf, -5, -4], [2, 2, 2]], np.float32)
    actions, _, _ = Categorical(logits).sample(seed=0, step=0, deterministic=True)
    assert actions.tolist() == [1, 0, 2, 0]
    again, _, _ = Categorical(logits).sample(seed=8, step=9, deterministic=True)
    assert again.tolist() == actions.tolist()


def test_impossible_actions_are_never_drawn():
    # Before, between and behind the possible ones; then exp(-200), which is 0 in float32.
    for lowest in (-np.inf, -200.0):
        row = np.array([lowest, 0, lowest, 1, lowest], np.float32)
        actions, logp, _ = Categorical(np.tile(row, (20_000, 1))).sample(seed=2, step=0)
        assert set(actions.tolist()) == {1, 3}
        assert np.isfinite(logp).all()


def test_only_possible_action():
    logits = np.full((500, 3), -np.inf, np.float32)
    logits[:, 1] = -1e30
    actions, logp, _ = Categorical(logits).sample(seed=0, step=0)
    assert (actions == 1).all()
    assert (logp == 0).all()


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(
    "row",
    [
        [np.nan, 0, 1],
        [0, np.nan, 1],
        [0, 1, np.nan],
        [np.nan] * 3,
        [-np.inf] * 3,
        [np.inf, 0, 1],
        [0, np.inf, np.inf],
        [np.inf, -np.inf, 0],
    ],
)
def test_rows_that_are_no_distribution(row, deterministic):
    logits = random_logits(6, 20, 3)
    logits[13] = row
    logits[17] = row
    with pytest.raises(ValueError, match=r"^sample: logits row 13 is no distribution"):
        Categorical(logits).sample(seed=0, step=0, deterministic=deterministic)


def test_no_rows():
    actions, logp, _ = Categorical(np.zeros((0, 3), np.float32)).sample(seed=0, step=0)
    assert actions.shape == logp.shape == (0,)


def test_sample_into():
    dist = Categorical(random_logits(7, 30, 4))
    expected, expected_logp, _ = dist.sample(seed=1, step=2)
    # Columns of a rollout: every element is written, nothing between them is.
    actions = np.full((30, 3), -1)
    logp = np.full((30, 3), np.nan, np.float32)
    dist.sample_into(actions[:, 1], logp[::-1, 1][::-1], seed=1, step=2)
    assert (actions[:, 1] == expected).all()
    assert (logp[:, 1] == expected_logp).all()
    assert (actions[:, [0, 2]] == -1).all()
    assert np.isnan(logp[:, [0, 2]]).all()


def test_sample_into_nothing():
    dist = Categorical(random_logits(7, 3, 4))
    with pytest.raises(TypeError, match="sample: actions is missing, got None"):
        dist.sample_into(None, np.zeros(3, np.float32), seed=1, step=2)
    with pytest.raises(TypeError, match="sample: logp is missing, got None"):
        dist.sample_into(np.zeros(3, int), None, seed=1, step=2)


def test_strides_change_no_draw():
    logits = random_logits(8, 30, 4)
    wide = np.full((60, 8), np.nan, np.float32)
    wide[::-2, 1::2] = logits
    logits.flags.writeable = False
    expected = Categorical(logits).sample(seed=1, step=2)
    for same in (np.asfortranarray(logits), wide[::-2, 1::2]):
        for a, b in zip(Categorical(same).sample(seed=1, step=2), expected, strict=True):
            assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("num_actions", [1, 2, 3, 18])
@pytest.mark.parametrize("rows", [1, 16, 33, 500])
def test_ratio_of_a_fresh_policy_is_exactly_one(rows, num_actions):
    logits = random_logits(9, rows, num_actions)
    actions, logp, _ = Categorical(logits).sample(seed=0, step=0)
    column = np.ones(rows, np.float32)
    _, stats = ppo_fast.ppo_loss(
        Categorical(logits),
        actions,
        logp,
        column,
        column,
        column,
        clip_range=0.2,
        entropy_coef=0.0,
        value_coef=0.5,
    )
    assert stats["ratio_mean"] == stats["ratio_max"] == 1.0
    assert stats["approx_kl"] == stats["approx_kl_k1"] == 0.0
    assert stats["clip_fraction"] == stats["limited_fraction"] == 0.0


@pytest.mark.parametrize(
    ("logits", "error", "message"),
    [
        (np.zeros((4, 3), int), TypeError, "must be float32 or float64, got int64; cast with"),
        (np.zeros((4, 3), np.float16), TypeError, "must be float32 or float64, got float16"),
        ([[0.0, 1.0]] * 4, TypeError, "must be .*, got list"),
        (np.zeros(3, np.float32), ValueError, r"must have shape \(B, actions\), got \(3,\)"),
        (np.zeros((1, 2, 3), np.float32), ValueError, r"must have shape \(B, .*, got \(1, 2, 3\)"),
        (np.zeros((4, 0), np.float32), ValueError, r"must have shape \(B, .*, got \(4, 0\)"),
    ],
)
def test_errors_of_logits(logits, error, message):
    with pytest.raises(error, match=f"^sample: logits {message}"):
        Categorical(logits).sample(seed=0, step=0)


READ_ONLY = np.zeros(4, np.float32)
READ_ONLY.flags.writeable = False


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("actions", [0] * 4, TypeError, "must be a NumPy array, got list"),
        ("actions", np.zeros(4, np.int32), TypeError, "must be int64 .*, got int32"),
        ("actions", np.zeros(4), TypeError, "must be int64 .*, got float64"),
        ("actions", np.zeros(5, int), ValueError, r"must have shape \(4,\) .*, got \(5,\)"),
        ("actions", np.zeros((4, 1), int), ValueError, r"must have shape \(4,\) .*, got \(4, 1\)"),
        ("logp", [0.0] * 4, TypeError, "must be a NumPy array, got list"),
        ("logp", np.zeros(4), TypeError, "must be float32 like logits, got float64"),
        ("logp", np.zeros(3, np.float32), ValueError, r"must have shape \(4,\) .*, got \(3,\)"),
        ("logp", READ_ONLY, ValueError, "must be writable, got a read-only array"),
    ],
)
def test_errors_of_outputs(name, value, error, message):
    outputs = {"actions": np.zeros(4, int), "logp": np.zeros(4, np.float32)} | {name: value}
    with pytest.raises(error, match=f"^sample: {name} {message}"):
        Categorical(random_logits(10, 4, 3)).sample_into(**outputs, seed=0, step=0)
