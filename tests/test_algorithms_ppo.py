"""PpoClip and PpoUnclipped: what they ask of a learner in each update, and what they report."""

import math
from types import SimpleNamespace

import algorithm_cases
import numpy as np
import pytest
from algorithm_cases import at, discrete, obs_rows

from ppo_fast import _core
from ppo_fast.algorithms import Schedule, make_algorithm
from ppo_fast.algorithms.epochs import explained_variance, summarize
from ppo_fast.algorithms.ppo import PpoClip, PpoUnclipped
from ppo_fast.learners import EpochResult, PolicyChange, make_learner
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS

NUM_STEPS = 5
NUM_ENVS = 6
SAMPLES = NUM_STEPS * NUM_ENVS


def make_config(**changes):
    # 30 samples in minibatches of 8: the last one has 6. Ten updates.
    config = algorithm_cases.make_config(**({"num_epochs": 3} | changes))
    assert (config.batch_size, config.rounded_steps) == (SAMPLES, 10 * SAMPLES)
    return config


def random_rollout():
    rng = np.random.default_rng(0)
    rollout = Rollout(NUM_STEPS, NUM_ENVS, (2,), discrete())
    rollout.obs[:] = rng.normal(size=rollout.obs.shape)
    rollout.rewards[:] = rng.normal(size=rollout.rewards.shape)
    rollout.terminated[:] = rng.random(rollout.terminated.shape) < 0.1
    return rollout


def played(config):
    """A torch learner, and a rollout with its actions."""
    learner = make_learner(config, obs_rows(2), discrete())
    rollout = random_rollout()
    for t in range(NUM_STEPS):
        learner.act(rollout.obs[t], rollout.actions[t], rollout.logp[t], step=t)
    learner.keep_old_policy(rollout)
    return learner, rollout


def recorder(stop_at=None):
    """A learner that notes what it is asked, and stops epoch `stop_at` after its first row."""
    calls = []

    def epoch(rollout, orders, loss, step):
        results = []
        for order in np.atleast_2d(orders):
            calls.append(SimpleNamespace(rollout=rollout, order=order.copy(), loss=loss, step=step))
            stopped = len(calls) - 1 == stop_at
            rows = 1 if stopped else math.ceil(len(order) / step.minibatch_size)
            results.append(np.full((rows, len(STATS)), float(len(calls))))
            if stopped:
                break
        return EpochResult(np.concatenate(results), stopped)

    return SimpleNamespace(
        epoch=epoch,
        values=lambda obs: obs.sum(axis=-1),
        policy_change=lambda rollout: PolicyChange(0.25, 0.5, 0.75),
        read=lambda numbers: {name: float(x) for name, x in numbers.items()},
        calls=calls,
    )


def update(config, learner, rollout, number=0):
    return make_algorithm(config).update(learner, rollout, at(config, number))


def test_make_algorithm():
    assert type(make_algorithm(make_config())) is PpoClip
    assert type(make_algorithm(make_config(algorithm="ppo-unclipped"))) is PpoUnclipped


def test_every_epoch_covers_every_sample_once():
    learner = recorder()
    update(make_config(), learner, random_rollout())
    assert len(learner.calls) == 3
    for call in learner.calls:
        assert call.order.dtype == np.int64
        assert sorted(call.order.tolist()) == list(range(SAMPLES))
        assert call.step.minibatch_size == 8


def test_minibatches_of_the_torch_learner_cover_every_sample_once():
    pytest.importorskip("torch")
    # Row statistics of each minibatch tell its samples: entropy and KL are means over them, so
    # means weighted by the sizes 8, 8, 8, 6 are the mean over all, if the policy stays as it is.
    config = make_config(num_epochs=1, learning_rate=1e-30, normalize_advantages="none")
    learner, rollout = played(config)
    rollout.logp += np.random.default_rng(1).normal(size=rollout.logp.shape).astype(np.float32)
    rows = []

    def epoch(*arguments):
        rows.append(learner.epoch(*arguments).stats)
        return EpochResult(rows[-1], stopped=False)

    spy = SimpleNamespace(
        epoch=epoch,
        values=learner.values,
        policy_change=learner.policy_change,
        read=learner.read,
    )
    update(config, spy, rollout)
    whole = make_config(num_epochs=1, learning_rate=1e-30, minibatch_size=SAMPLES)
    update(whole, spy, rollout)
    split, joined = rows
    assert split.shape == (4, len(STATS))
    assert joined.shape == (1, len(STATS))
    for name in ("value_loss", "approx_kl", "ratio_mean"):
        column = STATS.index(name)
        mean = np.average(split[:, column], weights=[8, 8, 8, 6])
        assert mean == pytest.approx(joined[0, column], rel=1e-5)
    assert split[:, STATS.index("ratio_max")].max() == joined[0, STATS.index("ratio_max")]


def test_orders_come_from_the_counter_based_generator():
    config = make_config(seed=4)
    orders = []
    for number in range(3):
        learner = recorder()
        update(config, learner, random_rollout(), number)
        orders += [call.order for call in learner.calls]
    expected = _core.permutations(4, 0, len(orders), SAMPLES)
    np.testing.assert_array_equal(orders, expected)
    assert len({order.tobytes() for order in orders}) == 9
    # An update depends on its number alone: a resumed run goes on with the same orders.
    learner = recorder()
    update(config, learner, random_rollout(), 2)
    np.testing.assert_array_equal(learner.calls[0].order, orders[6])


@pytest.mark.parametrize(("number", "remaining"), [(0, 1.0), (1, 0.9), (5, 0.5), (9, 0.1)])
@pytest.mark.parametrize("anneal_lr", [True, False])
@pytest.mark.parametrize("anneal_clip_range", [True, False])
def test_annealing(number, remaining, anneal_lr, anneal_clip_range):
    # 10 updates; update k of 0 .. 9 has 1 - k / 10 of the run before it.
    config = make_config(
        learning_rate=4e-3,
        clip_range=0.2,
        anneal_lr=anneal_lr,
        anneal_clip_range=anneal_clip_range,
    )
    learner = recorder()
    metrics = update(config, learner, random_rollout(), number)
    learning_rate = 4e-3 * remaining if anneal_lr else 4e-3
    clip_range = 0.2 * remaining if anneal_clip_range else 0.2
    assert metrics["learning_rate"] == pytest.approx(learning_rate, rel=1e-12)
    assert metrics["clip_range"] == pytest.approx(clip_range, rel=1e-12)
    for call in learner.calls:
        assert call.step.learning_rate == metrics["learning_rate"]
        assert call.loss.clip_range == metrics["clip_range"]


def test_settings_reach_the_learner():
    config = make_config(
        entropy_coef=0.03,
        value_coef=0.7,
        max_grad_norm=None,
        normalize_advantages="none",
        target_kl=0.02,
    )
    learner = recorder()
    update(config, learner, random_rollout())
    call = learner.calls[0]
    assert (call.loss.entropy_coef, call.loss.value_coef) == (0.03, 0.7)
    assert call.loss.normalize_advantages is False
    assert call.step.max_grad_norm is None
    assert call.step.stop_kl == pytest.approx(0.03)
    update(make_config(), learner, random_rollout())
    assert learner.calls[-1].step.stop_kl is None
    assert learner.calls[-1].step.max_grad_norm == 0.5


def test_advantages_are_estimated_once_before_the_epochs():
    config = make_config(gamma=0.9, gae_lambda=0.8)
    learner = recorder()
    rollout = random_rollout()
    expected = random_rollout()
    expected.estimate_advantages(learner, gamma=0.9, gae_lambda=0.8)
    asked = []
    values = learner.values
    learner.values = lambda obs: asked.append(len(obs)) or values(obs)
    update(config, learner, rollout)
    assert len(asked) == 1
    assert learner.calls[0].rollout is rollout
    np.testing.assert_array_equal(rollout.advantages, expected.advantages)
    np.testing.assert_array_equal(rollout.returns, expected.returns)


def test_a_stopped_epoch_is_the_last():
    # Epochs have 4 minibatches; the recorder's rows of epoch k are full of k.
    learner = recorder(stop_at=1)
    metrics = update(make_config(num_epochs=5), learner, random_rollout())
    assert len(learner.calls) == 2
    assert metrics["epochs"] == 2
    assert metrics["policy_loss"] == (4 * 1 + 1 * 2) / 5


def test_target_kl_stops_the_epochs_of_a_real_learner():
    pytest.importorskip("torch")
    epochs = {}
    for target_kl in (None, 1e-4):
        config = make_config(num_epochs=20, learning_rate=1e-2, target_kl=target_kl)
        learner, rollout = played(config)
        metrics = update(config, learner, rollout)
        epochs[target_kl] = metrics["epochs"]
    assert epochs[None] == 20
    assert 1 <= epochs[1e-4] < 20


def test_metrics_of_an_update():
    clip = update(make_config(), recorder(), random_rollout())
    unclipped = update(make_config(algorithm="ppo-unclipped"), recorder(), random_rollout())
    assert set(clip) == {*STATS, "kl", "learning_rate", "epochs", "clip_range"}
    assert set(clip) - set(unclipped) == {"clip_range"}
    for metrics in (clip, unclipped):
        assert all(type(value) is float for value in metrics.values())
        # What an update is measured by once it is made, not the mean of its minibatches.
        measured = [metrics[name] for name in ("kl", "entropy", "effective_sample_size")]
        assert measured == [0.25, 0.5, 0.75]


def test_unclipped_has_no_bounds():
    learner = recorder()
    config = make_config(algorithm="ppo-unclipped")
    update(config, learner, random_rollout())
    loss = learner.calls[0].loss
    assert loss.objective == "importance"
    assert (loss.clip_range, loss.clip_range_high, loss.dual_clip) == (None, None, None)


def test_clip_settings_reach_the_learner():
    learner = recorder()
    config = make_config(
        clip_range=0.1,
        clip_range_high=0.4,
        dual_clip=3.0,
        clip_range_values=0.5,
        anneal_clip_range=True,
    )
    update(config, learner, random_rollout(), 5)
    loss = learner.calls[0].loss
    assert loss.objective == "clipped"
    # Both bounds are halved half-way; the others stay.
    assert (loss.clip_range, loss.clip_range_high) == (0.05, 0.2)
    assert (loss.dual_clip, loss.clip_range_values) == (3.0, 0.5)
    update(make_config(), learner, random_rollout())
    loss = learner.calls[-1].loss
    assert (loss.clip_range_high, loss.dual_clip, loss.clip_range_values) == (None, None, None)


@pytest.mark.parametrize("remaining", [1.0, 0.75, 0.1])
@pytest.mark.parametrize("anneals", [True, False])
def test_annealing_of_the_entropy_bonus(remaining, anneals):
    config = make_config(entropy_coef=0.04, anneal_entropy_coef=anneals)
    learner = recorder()
    make_algorithm(config).update(learner, random_rollout(), Schedule(config, 0, remaining))
    expected = 0.04 * remaining if anneals else 0.04
    assert learner.calls[0].loss.entropy_coef == pytest.approx(expected, rel=1e-12)


def test_advantages_may_be_estimated_before_every_epoch():
    config = make_config(recompute_advantages=True, gamma=0.9, gae_lambda=0.8)
    learner = recorder()
    rollout = random_rollout()
    # A critic that changes from epoch to epoch: k obs at the k-th call.
    asked = []

    def values(obs):
        asked.append(len(obs))
        return np.float32(len(asked)) * obs.sum(axis=-1)

    seen = []
    epoch = learner.epoch
    learner.values = values
    learner.epoch = lambda rollout, *rest: (
        seen.append((rollout.advantages.copy(), rollout.returns.copy())) or epoch(rollout, *rest)
    )
    update(config, learner, rollout)
    assert len(asked) == 3
    for k, (advantages, returns) in enumerate(seen, 1):
        expected = random_rollout()
        critic = SimpleNamespace(values=lambda obs, k=k: np.float32(k) * obs.sum(axis=-1))
        expected.estimate_advantages(critic, gamma=0.9, gae_lambda=0.8)
        np.testing.assert_array_equal(advantages, expected.advantages)
        np.testing.assert_array_equal(returns, expected.returns)


@pytest.mark.parametrize(
    ("where", "in_the_loss"), [("minibatch", True), ("batch", False), ("none", False)]
)
def test_normalisation_of_advantages(where, in_the_loss):
    config = make_config(normalize_advantages=where)
    learner = recorder()
    rollout = random_rollout()
    update(config, learner, rollout)
    assert {call.loss.normalize_advantages for call in learner.calls} == {in_the_loss}
    plain = random_rollout()
    plain.estimate_advantages(learner, gamma=config.gamma, gae_lambda=config.gae_lambda)
    expected = plain.advantages.astype(np.float64)
    if where == "batch":
        expected = (expected - expected.mean()) / (expected.std(ddof=1) + 1e-8)
    np.testing.assert_allclose(rollout.advantages, expected, rtol=1e-5, atol=1e-6)
    # Returns are what the critic learns: they stay as they are.
    np.testing.assert_array_equal(rollout.returns, plain.returns)


def test_summarize_takes_means_and_the_largest_ratio():
    rows = np.zeros((3, len(STATS)))
    rows[:, STATS.index("entropy")] = [1, 2, 6]
    rows[:, STATS.index("ratio_max")] = [1.5, 4.0, 2.0]
    summary = summarize(rows)
    assert tuple(summary) == STATS
    assert summary["entropy"] == 3
    assert summary["ratio_max"] == 4
    assert summary["policy_loss"] == 0


def explained(values, returns, valid=None):
    return explained_variance(SimpleNamespace(old_values=values, returns=returns, valid=valid))


def test_explained_variance():
    returns = np.array([[1, 2], [3, 6]], np.float32)  # variance 3.5
    assert explained(returns, returns) == 1
    assert explained(returns + 5, returns) == 1  # a constant offset is no variance
    assert explained(np.full_like(returns, 3), returns) == 0
    # R - V = 1, 0, 0, 1: variance 1/4, so 1 - (1/4) / (7/2) = 13/14.
    values = np.array([[0, 2], [3, 5]], np.float32)
    assert explained(values, returns) == pytest.approx(13 / 14, rel=1e-12)
    assert explained(-returns, returns) == -3  # R - V = 2 R
    assert math.isnan(explained(returns, np.full_like(returns, 2)))


def test_explained_variance_of_what_counts():
    # R = 1, 3 (variance 1) and V = 1, 2: R - V = 0, 1, variance 1/4. The others do not count.
    returns = np.array([[1, 99], [3, np.nan]], np.float32)
    values = np.array([[1, np.nan], [2, 7]], np.float32)
    valid = np.array([[1, 0], [1, 0]], bool)
    assert explained(values, returns, valid) == 0.75
