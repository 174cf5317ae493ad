"""Running statistics: equal to NumPy's over all data, frozen while a rollout lasts, and saved."""

import copy
import json

import gymnasium
import numpy as np
import pytest
from algorithm_cases import OBS_SIZE, at, box, discrete, make_config, make_rollout, obs_rows, play
from hypothesis import given, settings
from hypothesis import strategies as st

from ppo_fast.algorithms import make_algorithm
from ppo_fast.learners import make_learner
from ppo_fast.normalizers import ObsNormalizer, RewardScaler, RunningMoments

# Moments


def test_moments_by_hand():
    moments = RunningMoments()
    assert (moments.count, float(moments.mean), float(moments.variance)) == (0, 0, 1)
    moments.update(np.array([1.0, 3.0]))  # mean 2, variance 1
    assert (moments.count, float(moments.mean), float(moments.variance)) == (2, 2, 1)
    # With 5 and 7: mean 4; squares 2 + 2, and between the halves 4^2 * 2 * 2 / 4: (4 + 16) / 4.
    moments.update(np.array([5.0, 7.0]))
    assert (moments.count, float(moments.mean), float(moments.variance)) == (4, 4, 5)


@given(sizes=st.lists(st.integers(0, 40), min_size=1, max_size=8), seed=st.integers(0, 999))
@settings(max_examples=50, deadline=None)
def test_moments_are_those_of_all_data(sizes, seed):
    rng = np.random.default_rng(seed)
    batches = [rng.normal(rng.normal() * 10, rng.random() * 5, (size, 3)) for size in sizes]
    moments = RunningMoments((3,))
    for batch in batches:
        moments.update(batch)
    data = np.concatenate(batches)
    assert moments.count == len(data)
    if len(data):
        np.testing.assert_allclose(moments.mean, data.mean(axis=0), rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(moments.variance, data.var(axis=0), rtol=1e-9, atol=1e-10)
    else:
        np.testing.assert_array_equal(moments.mean, 0)
        np.testing.assert_array_equal(moments.variance, 1)


def test_moments_of_float32_are_float64():
    # 1e4 + noise of 1e-2: float32 sums would lose the variance altogether.
    rng = np.random.default_rng(0)
    data = (1e4 + 1e-2 * rng.normal(size=(50, 1000, 2))).astype(np.float32)
    moments = RunningMoments((2,))
    for batch in data:
        moments.update(batch)
    assert moments.mean.dtype == moments.variance.dtype == np.float64
    whole = data.reshape(-1, 2).astype(np.float64)
    np.testing.assert_allclose(moments.mean, whole.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(moments.variance, whole.var(axis=0), rtol=1e-7)


def test_counts_are_integers_of_any_size():
    moments = RunningMoments()
    moments.load_state({"count": 2**53, "mean": 0.0, "variance": 1.0})
    moments.update(np.ones(1))  # a float64 count would stay where it is
    assert type(moments.count) is int
    assert moments.count == 2**53 + 1


def test_state_goes_there_and_back():
    moments = RunningMoments((3,))
    rng = np.random.default_rng(0)
    moments.update(rng.normal(size=(17, 3)))
    state = json.loads(json.dumps(moments.state()))
    other = RunningMoments((3,))
    other.load_state(state)
    batch = rng.normal(size=(5, 3))
    for each in (moments, other):
        each.update(batch)
    assert other.count == moments.count == 22
    assert other.mean.tobytes() == moments.mean.tobytes()
    assert other.variance.tobytes() == moments.variance.tobytes()


@pytest.mark.parametrize("shape", [(), (2,), (3, 1)])
def test_state_of_another_shape(shape):
    with pytest.raises(ValueError, match="moments of shape"):
        RunningMoments((3,)).load_state(RunningMoments(shape).state())


# Observations


def test_observations_by_hand():
    normalizer = ObsNormalizer((2,))
    obs = np.array([[1, 100], [3, -100]], np.float32)
    # Before anything is known they stay as they are, but for the limits.
    np.testing.assert_allclose(normalizer(obs), [[1, 10], [3, -10]])
    normalizer.update(obs)  # means 2 and 0, deviations 1 and 100
    result = normalizer(np.array([[1, 50], [2, 0], [30, -1e9]], np.float32))
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, [[-1, 0.5], [0, 0], [10, -10]], rtol=1e-6)


def test_a_constant_observation_stays_finite():
    normalizer = ObsNormalizer((1,))
    normalizer.update(np.full((100, 1), 7, np.float32))
    np.testing.assert_array_equal(normalizer(np.full((3, 1), 7, np.float32)), 0)
    assert np.isfinite(normalizer(np.full((3, 1), 8, np.float32))).all()


# Rewards


def plain_scaling(rewards, done, gamma):
    """Discounted sums forward in time, one step of one environment after the other."""
    sums = []
    for i in range(rewards.shape[1]):
        running = 0.0
        for reward, ended in zip(rewards[:, i].tolist(), done[:, i].tolist(), strict=True):
            running = gamma * running + reward
            sums.append(running)
            running = 0.0 if ended else running
    return np.var(sums)


def random_rewards(steps, seed=0):
    rng = np.random.default_rng(seed)
    rewards = rng.normal(1, 3, (steps, 5)).astype(np.float32)
    return rewards, rng.random((steps, 5)) < 0.1


def test_rewards_are_divided_by_the_deviation_of_the_return():
    rewards, done = random_rewards(400)
    scaler = RewardScaler(5, 0.9)
    for first in range(0, 400, 100):
        part = slice(first, first + 100)
        scaled = rewards[part].copy()
        scaler.scale(scaled, done[part], None)
        # Counted up to the end of this rollout, open episodes of the one before included.
        variance = plain_scaling(rewards[: first + 100], done[: first + 100], 0.9)
        assert scaled.dtype == np.float32
        np.testing.assert_allclose(scaled, rewards[part] / np.sqrt(variance + 1e-8), rtol=1e-5)
    assert scaler.moments.count == 2000


def test_the_statistics_are_those_of_gymnasium():
    # Its wrapper does the same step by step; what it knows at the end is what we know. (Within an
    # episode: where one ends, it drops the sum one step early and goes on from the last reward.)
    class Paid(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (1,))
        action_space = gymnasium.spaces.Discrete(2)

        def __init__(self, rewards):
            self._rest = rewards

        def reset(self, *, seed=None, options=None):
            return np.zeros(1, np.float32), {}

        def step(self, action):
            return np.zeros(1, np.float32), self._rest.pop(0), False, False, {}

    rewards, _ = random_rewards(1000)
    env = gymnasium.wrappers.NormalizeReward(Paid(rewards[:, 0].tolist()), gamma=0.95)
    env.reset()
    for _ in range(1000):
        env.step(0)
    scaler = RewardScaler(1, 0.95)
    scaler.scale(rewards[:, :1].copy(), np.zeros((1000, 1), bool), None)
    # Theirs begins with a variance of 1 that counts as 1e-4 of a value.
    assert float(scaler.moments.variance) == pytest.approx(env.return_rms.var, rel=1e-4)
    assert float(scaler.moments.mean) == pytest.approx(env.return_rms.mean, rel=1e-4, abs=1e-4)


def test_rewards_are_limited_and_keep_their_sign():
    scaler = RewardScaler(1, 0.0)
    rewards = np.array([[0.1]] * 999 + [[-1000.0]], np.float32)
    scaler.scale(rewards, np.zeros((1000, 1), bool), None)
    assert rewards[-1] == -10
    assert (rewards[:-1] > 0).all()


def test_rewards_that_do_not_count():
    rewards, done = random_rewards(50)
    valid = np.arange(50)[:, None] < [50, 40, 30, 20, 10]
    scaler = RewardScaler(5, 0.9)
    other = rewards.copy()
    other[~valid] = 1e9
    scaler.scale(other, done, valid)
    columns = [rewards[: valid[:, i].sum(), i : i + 1] for i in range(5)]
    sums = []
    for i, column in enumerate(columns):
        running = 0.0
        for t, reward in enumerate(column[:, 0].tolist()):
            running = 0.9 * running + reward
            sums.append(running)
            running = 0.0 if done[t, i] else running
    assert scaler.moments.count == len(sums) == 150
    assert float(scaler.moments.variance) == pytest.approx(np.var(sums), rel=1e-9)


def test_restart_forgets_the_open_episodes():
    rewards, done = random_rewards(20)
    scaler, fresh = RewardScaler(5, 0.9), RewardScaler(5, 0.9)
    scaler.scale(rewards.copy(), done, None)
    scaler.restart()
    fresh.moments.load_state(scaler.moments.state())
    again, theirs = rewards.copy(), rewards.copy()
    scaler.scale(again, done, None)
    fresh.scale(theirs, done, None)
    assert again.tobytes() == theirs.tobytes()


def test_reward_state_goes_there_and_back():
    rewards, done = random_rewards(60)
    scaler = RewardScaler(5, 0.9)
    scaler.scale(rewards[:30].copy(), done[:30], None)
    other = RewardScaler(5, 0.9)
    other.load_state(json.loads(json.dumps(scaler.state())))
    ours, theirs = rewards[30:].copy(), rewards[30:].copy()
    scaler.scale(ours, done[30:], None)
    other.scale(theirs, done[30:], None)
    assert ours.tobytes() == theirs.tobytes()
    assert other.state() == scaler.state()


# With a learner


@pytest.fixture
def learner(one_torch_thread):
    learner = make_learner(make_config(normalize_obs=True), obs_rows(), discrete(3))
    shift_and_scale(learner)
    return learner


def shift_and_scale(learner, seed=9):
    """Let it see a rollout whose observations are far from normal."""
    config = make_config()
    rollout = play(learner, make_rollout(config, discrete(3)), seed)
    rollout.obs[:] = 5 * rollout.obs + 3
    learner.observe(rollout)
    return rollout


def test_statistics_stand_still_while_acting_and_learning(learner):
    config = make_config(normalize_obs=True, num_epochs=2)
    rollout = make_rollout(config, discrete(3))
    before = copy.deepcopy(learner.state()["obs_moments"])
    play(learner, rollout)
    learner.values(rollout.obs.reshape(-1, OBS_SIZE))
    learner.keep_old_policy(rollout)
    make_algorithm(config).update(learner, rollout, at(config))
    assert learner.state()["obs_moments"] == before
    learner.observe(rollout)
    after = learner.state()["obs_moments"]
    assert after["count"] == before["count"] + 30
    assert after["mean"] != before["mean"]


def test_acting_and_learning_see_the_same_numbers(learner):
    # The first look at the samples gives ratios of 1 and a KL of 0 to what they were drawn from.
    from ppo_fast.surrogate import STATS

    config = make_config(normalize_obs=True, num_epochs=1, minibatch_size=30)
    rollout = play(learner, make_rollout(config, discrete(3)))
    learner.keep_old_policy(rollout)
    change = learner.policy_change(rollout)
    assert change.kl == pytest.approx(0, abs=1e-7)
    assert change.effective_sample_size == pytest.approx(1, abs=1e-6)
    seen = []
    epoch = learner.epoch
    learner.epoch = lambda *arguments: seen.append(epoch(*arguments)) or seen[-1]
    make_algorithm(config).update(learner, rollout, at(config))
    row = dict(zip(STATS, seen[0].stats[0], strict=True))
    assert row["ratio_max"] == pytest.approx(1, abs=1e-5)
    assert row["approx_kl"] == pytest.approx(0, abs=1e-7)


def test_networks_see_normal_observations(learner):
    import torch

    rng = np.random.default_rng(0)
    obs = (3 + 5 * rng.normal(size=(6, OBS_SIZE))).astype(np.float32)
    moments = learner.state()["obs_moments"]
    deviation = np.sqrt(np.array(moments["variance"]) + 1e-8)
    normal = np.clip((obs - np.array(moments["mean"])) / deviation, -10, 10).astype(np.float32)
    expected = learner.model.values(torch.from_numpy(normal)).detach().numpy()
    np.testing.assert_allclose(learner.values(obs), expected, rtol=1e-5)
    assert (
        np.abs(
            learner.values(obs) - learner.model.values(torch.from_numpy(obs)).detach().numpy()
        ).max()
        > 0.01
    )


def test_only_what_counts_is_observed(learner):
    config = make_config()
    rollout = play(learner, make_rollout(config, discrete(3)))
    rollout.valid = np.random.default_rng(0).random((5, 6)) < 0.5
    learner.load_state(
        make_learner(make_config(normalize_obs=True), obs_rows(), discrete(3)).state()
    )
    learner.observe(rollout)
    chosen = rollout.obs[:-1][rollout.valid].astype(np.float64)
    moments = learner.state()["obs_moments"]
    assert moments["count"] == rollout.valid.sum()
    np.testing.assert_allclose(moments["mean"], chosen.mean(axis=0), rtol=1e-9)


def test_the_last_row_is_observed_by_the_next_rollout(learner):
    # Row T opens the next rollout: counted here and there it would be counted twice.
    config = make_config()
    rollout = make_rollout(config, discrete(3))
    before = learner.state()["obs_moments"]["count"]
    learner.observe(rollout)
    assert learner.state()["obs_moments"]["count"] == before + 30


def test_a_learner_that_does_not_normalise(one_torch_thread):
    learner = make_learner(make_config(), obs_rows(), discrete(3))
    shift_and_scale(learner)
    assert "obs_moments" not in learner.state()


def test_a_state_without_statistics(learner):
    plain = make_learner(make_config(), obs_rows(), discrete(3))
    with pytest.raises(ValueError, match="the state is not of this network"):
        learner.load_state(plain.state())


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_loaded_policy_acts_the_same(env_id, tmp_path):
    pytest.importorskip("torch")
    import ppo_fast
    from ppo_fast import TrainConfig

    config = TrainConfig(
        env_id,
        num_envs=4,
        num_steps=64,
        total_steps=1024,
        normalize_obs=True,
        normalize_rewards=True,
        eval_episodes=0,
        out=tmp_path / "run",
    )
    result = ppo_fast.train(config)
    size = {"CartPole-v1": 4, "Pendulum-v1": 3}[env_id]
    obs = 2 * np.random.default_rng(0).normal(size=(50, size))
    ours = result.policy.predict(obs)
    np.testing.assert_array_equal(ppo_fast.load(result.out).predict(obs), ours)
    drawn = result.policy.predict(obs, deterministic=False)
    again = ppo_fast.load(result.out).predict(obs, deterministic=False)
    np.testing.assert_array_equal(again, drawn)
    moments = ppo_fast.load(result.out)._learner.state()["obs_moments"]
    assert moments["count"] == 1024


def test_returns_that_are_reported_are_those_of_the_environment(tmp_path):
    pytest.importorskip("torch")
    import ppo_fast
    from ppo_fast import TrainConfig

    config = TrainConfig(
        "CartPole-v1",
        num_envs=4,
        num_steps=64,
        total_steps=512,
        normalize_rewards=True,
        eval_episodes=0,
        out=tmp_path / "run",
    )
    metrics = ppo_fast.train(config).metrics
    np.testing.assert_array_equal(metrics["mean_return"], metrics["mean_length"])


def test_box_layout_is_normalised_too(one_torch_thread):
    config = make_config(normalize_obs=True, continuous="gsde", log_std=-1.0)
    learner = make_learner(config, obs_rows(), box())
    rollout = play(learner, make_rollout(config, box()))
    learner.keep_old_policy(rollout)
    make_algorithm(config).update(learner, rollout, at(config))
    learner.observe(rollout)
    assert learner.state()["obs_moments"]["count"] == 30
