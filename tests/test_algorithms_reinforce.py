"""REINFORCE: complete episodes, the weight of every action, and one step along their gradient."""

from types import SimpleNamespace

import numpy as np
import pytest
from algorithm_cases import (
    OBS_SIZE,
    POLICIES,
    at,
    changed,
    discrete,
    make_config,
    obs_rows,
    parameters,
    play,
)

from ppo_fast.algorithms import make_algorithm
from ppo_fast.algorithms.reinforce import Reinforce, of_episode, weigh
from ppo_fast.envs import make_stepper
from ppo_fast.learners import EpochResult, PolicyChange, make_learner
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS

pytestmark = pytest.mark.usefixtures("one_torch_thread")

# Two environments, five steps. Environment 0 plays an episode of 2 steps (terminated) and one of 3
# (truncated); environment 1 one of 1 step and one of 2, and waits for two steps that do not count.
REWARDS = np.array([[1, 8], [2, 4], [4, 2], [8, 99], [16, 99]], np.float32)
TERMINATED = np.array([[0, 1], [1, 0], [0, 0], [0, 0], [0, 1]], bool)
TRUNCATED = np.array([[0, 0], [0, 0], [0, 1], [0, 0], [1, 0]], bool)
VALID = np.array([[1, 1], [1, 1], [1, 1], [1, 0], [1, 0]], bool)
VALUES = np.array([[1, 2], [3, 4], [5, 6], [7, 8], [9, 10], [11, 12]], np.float32)

# sum over t' >= t of gamma^(t' - t) r_t'. gamma = 1:
#   env 0: 1 + 2, 2 | 4 + 8 + 16, 8 + 16, 16        env 1: 8 | 4 + 2, 2
# gamma = 1/2:
#   env 0: 1 + 2/2, 2 | 4 + 8/2 + 16/4, 8 + 16/2, 16    env 1: 8 | 4 + 2/2, 2
TO_GO = {
    1.0: [[3, 8], [2, 6], [28, 2], [24, None], [16, None]],
    0.5: [[2, 8], [2, 5], [12, 2], [16, None], [16, None]],
}
# The first of these of each episode, at all of its steps.
WHOLE = {
    1.0: [[3, 8], [3, 6], [28, 6], [28, None], [28, None]],
    0.5: [[2, 8], [2, 5], [12, 5], [12, None], [12, None]],
}
# b of baseline mean. trajectory: over the four episodes, (3 + 28 + 8 + 6) / 4 and
# (2 + 12 + 8 + 5) / 4. reward_to_go: over the eight steps, (3 + 2 + 28 + 24 + 16 + 8 + 6 + 2) / 8
# and (2 + 2 + 12 + 16 + 16 + 8 + 5 + 2) / 8.
MEANS = {
    ("trajectory", 1.0): 11.25,
    ("trajectory", 0.5): 6.75,
    ("reward_to_go", 1.0): 11.125,
    ("reward_to_go", 0.5): 7.875,
}


def reinforce(**changes):
    return make_config(algorithm="reinforce", **changes)


def hand_worked():
    rollout = Rollout(5, 2, (1,), discrete())
    rollout.rewards[:] = REWARDS
    rollout.terminated[:] = TERMINATED
    rollout.truncated[:] = TRUNCATED
    rollout.values[:] = VALUES
    # Not asked for: an episode that was cut counts as it is.
    rollout.final_obs[:] = np.nan
    rollout.final_values[:] = np.nan
    rollout.valid = VALID
    return rollout


@pytest.mark.parametrize("gamma", [1.0, 0.5])
@pytest.mark.parametrize("baseline", ["none", "mean", "critic"])
@pytest.mark.parametrize("credit", ["trajectory", "reward_to_go"])
def test_weights_by_hand(credit, baseline, gamma):
    rollout = hand_worked()
    weigh(rollout, reinforce(credit=credit, baseline=baseline, gamma=gamma))
    weights = np.array((WHOLE if credit == "trajectory" else TO_GO)[gamma], np.float32)
    subtracted = {"none": 0, "mean": MEANS[credit, gamma], "critic": VALUES[:-1]}[baseline]
    np.testing.assert_array_equal(rollout.advantages[VALID], (weights - subtracted)[VALID])
    # What a critic learns is the reward to go, whatever the credit.
    to_go = np.array(TO_GO[gamma], np.float32)
    np.testing.assert_array_equal(rollout.returns[VALID], to_go[VALID])


@pytest.mark.parametrize("credit", ["trajectory", "reward_to_go"])
def test_what_does_not_count_has_no_influence(credit):
    expected = hand_worked()
    rollout = hand_worked()
    rollout.rewards[~VALID] = -1e6
    rollout.terminated[~VALID] = [True, False]
    for each in (expected, rollout):
        weigh(each, reinforce(credit=credit, baseline="mean", gamma=0.9))
    np.testing.assert_array_equal(rollout.advantages[VALID], expected.advantages[VALID])


def test_weights_where_all_steps_count():
    rollout = hand_worked()
    rollout.valid = None
    rollout.rewards[3:, 1] = 0
    weigh(rollout, reinforce(credit="trajectory", baseline="mean", gamma=1.0))
    # Environment 1 has a fifth episode of return 0: b = (3 + 28 + 8 + 6 + 0) / 5.
    np.testing.assert_array_equal(rollout.advantages[:, 0], [-6, -6, 19, 19, 19])
    np.testing.assert_array_equal(rollout.advantages[:, 1], [-1, -3, -3, -9, -9])


def test_of_episode():
    returns = np.array([[1], [2], [3], [4]], np.float32)
    done = np.array([[0], [1], [1], [0]], bool)
    whole, first = of_episode(returns, done)
    np.testing.assert_array_equal(whole, [[1], [1], [3], [4]])
    np.testing.assert_array_equal(first, [[1], [0], [1], [1]])


def test_whole_return_is_the_sum_of_the_episode():
    config = reinforce(num_steps=30, num_envs=4, credit="trajectory", baseline="none", gamma=1.0)
    rollout, _ = collected(config, lengths=lambda rng: rng.integers(1, 20))
    rollout.rewards[:] = np.random.default_rng(5).integers(-9, 9, rollout.rewards.shape)
    weigh(rollout, config)
    done = rollout.terminated | rollout.truncated
    for i in range(rollout.num_envs):
        for start, stop in episodes_of(done[:, i], rollout.valid[:, i]):
            total = rollout.rewards[start:stop, i].sum()
            assert (rollout.advantages[start:stop, i] == total).all()


# Complete episodes


class Countdown:
    """Environments whose episodes have lengths that a generator draws; rewards are 1.

    Odd episodes terminate, even ones are truncated. `obs` is [steps to go, episode].
    """

    def __init__(self, num_envs, lengths, seed=0):
        self.rngs = [np.random.default_rng([seed, i]) for i in range(num_envs)]
        self.lengths = lengths
        self.left = np.array([lengths(rng) for rng in self.rngs])
        self.episode = np.ones(num_envs, int)
        self.started = [[left] for left in self.left.tolist()]
        self.num_calls = 0

    def obs(self):
        return np.stack([self.left, self.episode], axis=1).astype(np.float32)

    def step_into(self, actions, obs, rewards, terminated, truncated, final_obs):
        self.num_calls += 1
        self.left -= 1
        rewards[:] = 1
        done = self.left == 0
        terminated[:] = done & (self.episode % 2 == 1)
        truncated[:] = done & (self.episode % 2 == 0)
        final_obs[done] = self.obs()[done]
        for i in np.flatnonzero(done):
            self.left[i] = self.lengths(self.rngs[i])
            self.started[i].append(int(self.left[i]))
            self.episode[i] += 1
        obs[:] = self.obs()
        return int(done.sum())


def still(seen=None):
    def act(obs, actions, logp, *, step, deterministic=False):
        if seen is not None:
            seen.append(step)
        actions[:] = 0
        logp[:] = 0

    return SimpleNamespace(act=act)


def collected(config, lengths, seed=0, rollout=None):
    stepper = Countdown(config.num_envs, lengths, seed)
    if rollout is None:
        rollout = Rollout(config.num_steps, config.num_envs, (2,), discrete())
    rollout.start(stepper.obs())
    rollout.collect_episodes(stepper, still(), first_step=0)
    return rollout, stepper


def episodes_of(done, valid):
    """(start, stop) of the episodes in a column."""
    stops = np.flatnonzero(done & valid) + 1
    return list(zip([0, *stops[:-1].tolist()], stops.tolist(), strict=True))


@pytest.mark.parametrize(
    "lengths",
    [
        lambda rng: 1,
        lambda rng: 5,  # divides the 20 steps
        lambda rng: 7,
        lambda rng: 100,  # longer than the rollout
        lambda rng: rng.integers(1, 60),
        lambda rng: rng.choice([1, 500], p=[0.9, 0.1]),
    ],
    ids=["1", "5", "7", "100", "mixed", "short or long"],
)
def test_episodes_are_complete(lengths):
    config = make_config(num_steps=20, num_envs=6)
    rollout, stepper = collected(config, lengths)
    done = rollout.terminated | rollout.truncated
    assert rollout.num_steps == stepper.num_calls == len(rollout.valid)
    assert rollout.valid.any(axis=1).all()  # it stops with the last that plays
    for i in range(6):
        valid = rollout.valid[:, i]
        count = int(valid.sum())
        # What counts comes first, is at least a rollout long and ends with the end of an episode;
        # no episode before that could have been the last.
        assert valid[:count].all()
        assert count >= 20
        assert done[count - 1, i]
        assert not done[19 : count - 1, i].any()
        # Exactly the episodes that were started, the long ones too, in their order.
        played = [stop - start for start, stop in episodes_of(done[:, i], valid)]
        assert played == stepper.started[i][: len(played)]
    np.testing.assert_array_equal(rollout.samples, np.flatnonzero(rollout.valid.reshape(-1)))
    # Rows are what an agent saw, to the last.
    assert rollout.obs.shape == (rollout.num_steps + 1, 6, 2)
    np.testing.assert_array_equal(rollout.obs[-1], stepper.obs())
    np.testing.assert_array_equal(rollout.opening, stepper.obs())
    np.testing.assert_array_equal(rollout.obs[1:, :, 0][done] > 0, True)
    np.testing.assert_array_equal(rollout.final_obs[..., 0][done], 0)


def test_room_grows_and_stays():
    config = make_config(num_steps=3, num_envs=2)
    # 50 steps need 3, 6, 12, 24, 48, 96 rows.
    rollout, _ = collected(config, lambda rng: 50)
    assert rollout.num_steps == 50
    np.testing.assert_array_equal(rollout.obs[:, 0, 0], [*range(50, 0, -1), 50])
    np.testing.assert_array_equal(rollout.rewards, 1)
    memory = rollout.obs.base
    # A shorter one shows what it has, and uses the same room.
    collected(config, lambda rng: 4, seed=1, rollout=rollout)
    assert rollout.num_steps == 4
    for name in ("actions", "logp", "rewards", "advantages", "returns", "valid"):
        assert getattr(rollout, name).shape == (4, 2), name
    for name in ("obs", "values"):
        assert len(getattr(rollout, name)) == 5, name
    np.testing.assert_array_equal(rollout.obs[:, 1, 0], [4, 3, 2, 1, 4])
    assert rollout.obs.base is memory
    # Growing keeps the rows that are there.
    collected(config, lambda rng: 300, seed=2, rollout=rollout)
    np.testing.assert_array_equal(rollout.obs[:, 1, 0], [*range(300, 0, -1), 300])


def test_draws_are_counted_from_the_first_step():
    stepper = Countdown(1, lambda rng: 9)
    rollout = Rollout(2, 1, (2,), discrete())
    rollout.start(stepper.obs())
    seen = []
    rollout.collect_episodes(stepper, still(seen), first_step=100)
    assert seen == list(range(100, 109))


def test_an_episode_that_never_ends(monkeypatch):
    import ppo_fast.rollout as module

    monkeypatch.setattr(module, "_LONGEST_EPISODE", 1000)
    with pytest.raises(
        RuntimeError,
        match=r"^an episode did not end within 1,000 steps; this algorithm learns from whole "
        r"episodes, so give the environment a limit of steps \(max_episode_steps\)$",
    ):
        collected(make_config(num_steps=4, num_envs=2), lambda rng: 10**9)
    collected(make_config(num_steps=4, num_envs=2), lambda rng: 1000)


def test_a_long_rollout_of_short_episodes_is_no_long_episode(monkeypatch):
    import ppo_fast.rollout as module

    # The limit is one of episodes: a rollout may have more steps than that.
    monkeypatch.setattr(module, "_LONGEST_EPISODE", 100)
    rollout, _ = collected(make_config(num_steps=150, num_envs=2), lambda rng: 10)
    assert rollout.num_steps == 150


def test_no_length_is_left_out():
    # Half of the episodes have 2 steps, half 30. Were the last one dropped, or were only those
    # played that fit, long ones would be rare: in 20 steps a single environment would begin about
    # 2.2 episodes and finish none of the long ones. Over many rollouts the mean over episodes of
    # any function is what it should be (Wald): here the length, 16.
    config = make_config(num_steps=20, num_envs=50)
    totals = np.zeros(2)
    for seed in range(40):
        rollout, _ = collected(config, lambda rng: rng.choice([2, 30]), seed=seed)
        done = (rollout.terminated | rollout.truncated) & rollout.valid
        totals += done.sum(), rollout.valid.sum()
    episodes, steps = totals
    assert episodes > 3000
    # The standard error of the mean length is 14 / sqrt(episodes) = 0.2.
    assert steps / episodes == pytest.approx(16, abs=4 * 14 / np.sqrt(episodes))


@pytest.mark.parametrize("env_id", ["CartPole-v1", "MountainCar-v0"])
def test_episodes_of_a_real_environment(env_id):
    stepper = make_stepper(env_id, 5)
    size = stepper.single_observation_space.shape[0]
    rollout = Rollout(16, 5, (size,), discrete())
    obs, _ = stepper.reset(seed=list(range(5)))
    rollout.start(obs)
    rng = np.random.default_rng(0)

    def act(obs, actions, logp, *, step, deterministic=False):
        actions[:] = rng.integers(0, 2, len(actions))
        logp[:] = np.log(0.5)

    rollout.collect_episodes(stepper, SimpleNamespace(act=act), first_step=0)
    stepper.close()
    done = rollout.terminated | rollout.truncated
    for i in range(5):
        count = int(rollout.valid[:, i].sum())
        assert count >= 16
        assert done[count - 1, i]
    if env_id == "MountainCar-v0":  # nobody arrives: all are cut at 200 steps
        assert rollout.num_steps == 200
        assert rollout.truncated[-1].all()


# The update


def recorder():
    calls = []

    def epoch(rollout, order, loss, step):
        calls.append(SimpleNamespace(order=order.copy(), loss=loss, step=step))
        return EpochResult(np.ones((1, len(STATS))), stopped=False)

    return SimpleNamespace(
        epoch=epoch,
        values=lambda obs: obs[:, 0] * 0 + 1,
        policy_change=lambda rollout: PolicyChange(0.1, 0.2, 0.3),
        read=dict,
        calls=calls,
    )


@pytest.mark.parametrize("baseline", ["none", "mean", "critic"])
def test_one_step_on_all_samples(baseline):
    config = make_config(
        algorithm="reinforce",
        baseline=baseline,
        num_epochs=7,
        minibatch_size=2,
        value_coef=0.7,
        entropy_coef=0.03,
        max_grad_norm=0.4,
    )
    learner = recorder()
    metrics = Reinforce(config).update(learner, hand_worked(), at(config))
    (call,) = learner.calls
    # The eight samples that count, as indices into five steps of two environments.
    assert call.order.tolist() == [0, 1, 2, 3, 4, 5, 6, 8]
    assert call.step.minibatch_size == 8
    assert (call.step.max_grad_norm, call.step.stop_kl) == (0.4, None)
    assert call.loss.objective == "policy_gradient"
    assert call.loss.entropy_coef == 0.03
    # Nothing is fitted that is not used, and normalising would be a baseline of its own.
    assert call.loss.value_coef == (0.7 if baseline == "critic" else 0)
    assert call.loss.has_critic is (baseline == "critic")
    assert call.loss.normalize_advantages is False
    assert metrics["kl"] == 0.1
    assert make_algorithm(config).whole_episodes


def test_normalisation_is_not_for_reinforce():
    config = make_config(algorithm="reinforce", baseline="none")
    assert config.normalize_advantages == "minibatch"  # the default, for the others
    rollout = hand_worked()
    Reinforce(config).update(recorder(), rollout, at(config))
    assert rollout.advantages[4, 0] == 16


@pytest.mark.parametrize("family", POLICIES)
def test_gradient_is_that_of_the_weighted_log_probabilities(family):
    torch = pytest.importorskip("torch")
    import plain_policies as plain

    changes, layout = POLICIES[family]
    config = make_config(
        algorithm="reinforce",
        baseline="none",
        entropy_coef=0.0,
        max_grad_norm=None,
        learning_rate=1e-12,
        **changes,
    )
    learner = make_learner(config, obs_rows(), layout)
    rollout = play(learner, Rollout(5, 6, (OBS_SIZE,), layout), seed=3)
    rollout.valid = np.random.default_rng(1).random((5, 6)) < 0.7
    learner.keep_old_policy(rollout)
    make_algorithm(config).update(learner, rollout, at(config))
    ours = {name: p.grad.clone() for name, p in learner.model.named_parameters()}

    # The parameters have moved by 1e-12, which is nothing.
    model = learner.model
    dist = model.policy(torch.from_numpy(rollout.obs[:-1][rollout.valid]))
    actions = torch.from_numpy(rollout.actions[rollout.valid])
    weights = torch.from_numpy(rollout.advantages[rollout.valid])
    logp = plain.log_probability(dist, actions)
    model.zero_grad(set_to_none=False)
    (-(weights * logp).mean()).backward()
    for name, p in model.actor.named_parameters():
        torch.testing.assert_close(ours[f"actor.{name}"], p.grad, rtol=1e-4, atol=1e-6)
        assert p.grad.abs().max() > 0, name
    for name, gradient in ours.items():
        if name.startswith("critic"):
            assert not gradient.any(), name


@pytest.mark.parametrize("baseline", ["none", "mean"])
def test_without_a_critic_nobody_asks_it(baseline, monkeypatch):
    pytest.importorskip("torch")
    config = make_config(algorithm="reinforce", baseline=baseline)
    learner = make_learner(config, obs_rows(), discrete(3))
    rollout = play(learner, Rollout(5, 6, (OBS_SIZE,), discrete(3)), seed=3)
    learner.keep_old_policy(rollout)
    before = parameters(learner)

    def forward(features):
        raise AssertionError("asked for")

    monkeypatch.setattr(learner.model.critic, "forward", forward)
    metrics = make_algorithm(config).update(learner, rollout, at(config))
    # What an untrained critic is worth is no figure of this run.
    assert metrics["value_loss"] == 0
    assert np.isnan(metrics["explained_variance"])
    assert np.isfinite(metrics["policy_loss"])
    moved = changed(before, parameters(learner))
    assert moved == {name for name in before if name.startswith("actor")}


def test_the_critic_is_fitted_to_the_reward_to_go():
    torch = pytest.importorskip("torch")
    config = make_config(algorithm="reinforce", max_grad_norm=None, learning_rate=1e-12)
    learner = make_learner(config, obs_rows(), discrete(3))
    rollout = play(learner, Rollout(5, 6, (OBS_SIZE,), discrete(3)), seed=3)
    rollout.valid = np.random.default_rng(1).random((5, 6)) < 0.7
    learner.keep_old_policy(rollout)
    make_algorithm(config).update(learner, rollout, at(config))
    ours = {name: p.grad.clone() for name, p in learner.model.critic.named_parameters()}
    learner.model.zero_grad(set_to_none=False)
    values = learner.model.values(torch.from_numpy(rollout.obs[:-1][rollout.valid]))
    returns = torch.from_numpy(rollout.returns[rollout.valid])
    (config.value_coef * ((values - returns) ** 2).mean()).backward()
    for name, p in learner.model.critic.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-4, atol=1e-6)


def test_samples_that_do_not_count_change_no_bit():
    torch = pytest.importorskip("torch")
    moved = []
    for noise in (0.0, 7.0):
        config = make_config(algorithm="reinforce", learning_rate=1e-2, baseline="mean")
        learner = make_learner(config, obs_rows(), discrete(3))
        rollout = play(learner, Rollout(5, 6, (OBS_SIZE,), discrete(3)), seed=3)
        rollout.valid = np.ones((5, 6), bool)
        rollout.valid[3:, ::2] = False
        rollout.terminated[2, ::2] = True
        rollout.obs[:-1][~rollout.valid] += noise
        rollout.rewards[~rollout.valid] += noise
        learner.keep_old_policy(rollout)
        metrics = make_algorithm(config).update(learner, rollout, at(config))
        moved.append((parameters(learner), metrics))
    (ours, metrics), (theirs, others) = moved
    for name in ours:
        assert torch.equal(ours[name], theirs[name]), name
    np.testing.assert_equal(metrics, others)
