"""PpoClip: what it asks of a learner in each update, and what it reports."""

import math
from types import SimpleNamespace

import numpy as np
import pytest

from ppo_fast import TrainConfig, _core
from ppo_fast.algorithms import make_algorithm
from ppo_fast.algorithms.ppo import PpoClip, explained_variance, summarize
from ppo_fast.learners import EpochResult
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS

NUM_STEPS = 5
NUM_ENVS = 6
SAMPLES = NUM_STEPS * NUM_ENVS


def make_config(**changes):
    # 30 samples in minibatches of 8: the last one has 6. Ten updates.
    settings = {
        "num_steps": NUM_STEPS,
        "num_envs": NUM_ENVS,
        "minibatch_size": 8,
        "total_steps": 10 * SAMPLES,
        "num_epochs": 3,
    }
    return TrainConfig("Any-v0", **(settings | changes))


def random_rollout():
    rng = np.random.default_rng(0)
    rollout = Rollout(NUM_STEPS, NUM_ENVS, (2,))
    rollout.obs[:] = rng.normal(size=rollout.obs.shape)
    rollout.rewards[:] = rng.normal(size=rollout.rewards.shape)
    rollout.terminated[:] = rng.random(rollout.terminated.shape) < 0.1
    return rollout


def recorder(stop_at=None):
    """A learner that notes what it is asked, and stops epoch `stop_at` after its first row."""
    calls = []

    def epoch(rollout, order, loss, step):
        calls.append(SimpleNamespace(rollout=rollout, order=order.copy(), loss=loss, step=step))
        stopped = len(calls) - 1 == stop_at
        rows = 1 if stopped else math.ceil(len(order) / step.minibatch_size)
        return EpochResult(np.full((rows, len(STATS)), float(len(calls))), stopped)

    return SimpleNamespace(
        epoch=epoch,
        values=lambda obs: obs.sum(axis=-1),
        act=None,
        state=None,
        load_state=None,
        calls=calls,
    )


def test_make_algorithm():
    assert isinstance(make_algorithm(make_config()), PpoClip)


def test_every_epoch_covers_every_sample_once():
    learner = recorder()
    PpoClip(make_config()).update(learner, random_rollout(), number=0)
    assert len(learner.calls) == 3
    for call in learner.calls:
        assert call.order.dtype == np.int64
        assert sorted(call.order.tolist()) == list(range(SAMPLES))
        assert call.step.minibatch_size == 8


def test_minibatches_of_the_torch_learner_cover_every_sample_once():
    pytest.importorskip("torch")
    from ppo_fast.learners import make_learner

    # Row statistics of each minibatch tell its samples: entropy and KL are means over them, so
    # means weighted by the sizes 8, 8, 8, 6 are the mean over all, if the policy stays as it is.
    config = make_config(num_epochs=1, learning_rate=1e-30, normalize_advantages=False)
    learner = make_learner(config, 2, 2)
    rollout = random_rollout()
    for t in range(NUM_STEPS):
        learner.act(rollout.obs[t], rollout.actions[t], rollout.logp[t], step=t)
    rollout.logp += np.random.default_rng(1).normal(size=rollout.logp.shape).astype(np.float32)
    rows = []

    def epoch(*arguments):
        rows.append(learner.epoch(*arguments).stats)
        return EpochResult(rows[-1], stopped=False)

    spy = SimpleNamespace(epoch=epoch, values=learner.values)
    PpoClip(config).update(spy, rollout, number=0)
    whole = make_config(num_epochs=1, learning_rate=1e-30, minibatch_size=SAMPLES)
    PpoClip(whole).update(spy, rollout, number=0)
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
        PpoClip(config).update(learner, random_rollout(), number=number)
        orders += [call.order for call in learner.calls]
    for k, order in enumerate(orders):
        np.testing.assert_array_equal(order, _core.permutation(4, k, SAMPLES))
    assert len({order.tobytes() for order in orders}) == 9
    # An update depends on its number alone: a resumed run goes on with the same orders.
    learner = recorder()
    PpoClip(config).update(learner, random_rollout(), number=2)
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
    metrics = PpoClip(config).update(learner, random_rollout(), number=number)
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
        normalize_advantages=False,
        target_kl=0.02,
    )
    learner = recorder()
    PpoClip(config).update(learner, random_rollout(), number=0)
    call = learner.calls[0]
    assert (call.loss.entropy_coef, call.loss.value_coef) == (0.03, 0.7)
    assert call.loss.normalize_advantages is False
    assert call.step.max_grad_norm is None
    assert call.step.stop_kl == pytest.approx(0.03)
    PpoClip(make_config()).update(learner, random_rollout(), number=0)
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
    PpoClip(config).update(learner, rollout, number=0)
    assert len(asked) == 1
    assert learner.calls[0].rollout is rollout
    np.testing.assert_array_equal(rollout.advantages, expected.advantages)
    np.testing.assert_array_equal(rollout.returns, expected.returns)


def test_a_stopped_epoch_is_the_last():
    # Epochs have 4 minibatches; the recorder's rows of epoch k are full of k.
    learner = recorder(stop_at=1)
    metrics = PpoClip(make_config(num_epochs=5)).update(learner, random_rollout(), number=0)
    assert len(learner.calls) == 2
    assert metrics["epochs"] == 2
    assert metrics["policy_loss"] == (4 * 1 + 1 * 2) / 5


def test_target_kl_stops_the_epochs_of_a_real_learner():
    pytest.importorskip("torch")
    from ppo_fast.learners import make_learner

    epochs = {}
    for target_kl in (None, 1e-4):
        config = make_config(num_epochs=20, learning_rate=1e-2, target_kl=target_kl)
        learner = make_learner(config, 2, 2)
        rollout = random_rollout()
        for t in range(NUM_STEPS):
            learner.act(rollout.obs[t], rollout.actions[t], rollout.logp[t], step=t)
        metrics = PpoClip(config).update(learner, rollout, number=0)
        epochs[target_kl] = metrics["epochs"]
    assert epochs[None] == 20
    assert 1 <= epochs[1e-4] < 20


def test_metrics_of_an_update():
    metrics = PpoClip(make_config()).update(recorder(), random_rollout(), number=0)
    assert list(metrics) == [*STATS, "epochs", "learning_rate", "clip_range"]
    assert all(type(value) is float for value in metrics.values())


def test_summarize_takes_means_and_the_largest_ratio():
    rows = np.zeros((3, len(STATS)))
    rows[:, STATS.index("entropy")] = [1, 2, 6]
    rows[:, STATS.index("ratio_max")] = [1.5, 4.0, 2.0]
    summary = summarize(rows)
    assert tuple(summary) == STATS
    assert summary["entropy"] == 3
    assert summary["ratio_max"] == 4
    assert summary["policy_loss"] == 0


def test_explained_variance():
    returns = np.array([[1, 2], [3, 6]], np.float32)  # variance 3.5
    assert explained_variance(returns, returns) == 1
    assert explained_variance(returns + 5, returns) == 1  # a constant offset is no variance
    assert explained_variance(np.full_like(returns, 3), returns) == 0
    # R - V = 1, 0, 0, 1: variance 1/4, so 1 - (1/4) / (7/2) = 13/14.
    values = np.array([[0, 2], [3, 5]], np.float32)
    assert explained_variance(values, returns) == pytest.approx(13 / 14, rel=1e-12)
    assert explained_variance(-returns, returns) == -3  # R - V = 2 R
    assert math.isnan(explained_variance(returns, np.full_like(returns, 2)))
