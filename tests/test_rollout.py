"""Rollout: what lands in which row, which value follows a cut, and steppers that agree."""

from types import SimpleNamespace

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

from ppo_fast.actions import ActionLayout
from ppo_fast.envs import NativeVectorEnv, make_stepper, make_vec
from ppo_fast.envs.stepping import SingleEnvStepper, VectorEnvStepper
from ppo_fast.rollout import Rollout

LAYOUT = ActionLayout.of("Any-v0", gymnasium.spaces.Discrete(1000))
SEEDS = [3, 10, 77]
LIMIT = 20  # short enough that random play is cut, long enough that it also falls


def counting_actor(seen):
    """Action of environment i at step s is 10 s + i; remembers what it was shown."""

    def act(obs, actions, logp, *, step, deterministic=False):
        assert not deterministic
        seen.append((step, obs.copy()))
        actions[:] = 10 * step + np.arange(len(actions))
        logp[:] = -step

    return SimpleNamespace(act=act, play=lambda *_, **__: False)


def counting_stepper(ends=()):
    """The k-th step of all shows k + 1 (+ 100 i) and pays k; `ends` are (k, i) that terminate."""
    calls = []

    def step_into(actions, obs, rewards, terminated, truncated, final_obs):
        k = len(calls)
        calls.append(actions.copy())
        obs[:, 0] = k + 1 + 100 * np.arange(len(obs))
        rewards[:] = k
        terminated[:] = [(k, i) in ends for i in range(len(obs))]
        truncated[:] = False
        final_obs[terminated] = -obs[terminated]
        return int(terminated.sum())

    return SimpleNamespace(step_into=step_into, calls=calls)


def test_rows_of_a_rollout():
    seen = []
    stepper = counting_stepper(ends={(1, 0)})
    rollout = Rollout(num_steps=3, num_envs=2, obs_shape=(1,), layout=LAYOUT)
    rollout.start(np.array([[0.0], [100.0]]))
    rollout.collect(stepper, counting_actor(seen), first_step=5)
    np.testing.assert_array_equal(rollout.obs[..., 0], [[0, 100], [1, 101], [2, 102], [3, 103]])
    np.testing.assert_array_equal(rollout.actions, [[50, 51], [60, 61], [70, 71]])
    np.testing.assert_array_equal(rollout.logp, [[-5, -5], [-6, -6], [-7, -7]])
    np.testing.assert_array_equal(rollout.rewards, [[0, 0], [1, 1], [2, 2]])
    np.testing.assert_array_equal(rollout.terminated, [[0, 0], [1, 0], [0, 0]])
    assert not rollout.truncated.any()
    assert rollout.final_obs[1, 0, 0] == -2
    # The actor saw row t at step t, and its actions reached the environments.
    assert [step for step, _ in seen] == [5, 6, 7]
    for t, (_, obs) in enumerate(seen):
        np.testing.assert_array_equal(obs, rollout.obs[t])
        np.testing.assert_array_equal(stepper.calls[t], rollout.actions[t])


def arrays_of(rollout):
    """Which object every attribute is, but for the time that was taken."""
    return {name: id(value) for name, value in vars(rollout).items() if name != "env_seconds"}


def test_a_rollout_starts_where_the_last_one_stopped():
    seen = []
    stepper = counting_stepper()
    rollout = Rollout(num_steps=2, num_envs=1, obs_shape=(1,), layout=LAYOUT)
    rollout.start(np.array([[0.0]]))
    arrays = arrays_of(rollout)
    rollout.collect(stepper, counting_actor(seen), first_step=0)
    np.testing.assert_array_equal(rollout.obs.ravel(), [0, 1, 2])
    rollout.collect(stepper, counting_actor(seen), first_step=2)
    np.testing.assert_array_equal(rollout.obs.ravel(), [2, 3, 4])
    assert [(step, obs.item()) for step, obs in seen] == [(0, 0), (1, 1), (2, 2), (3, 3)]
    # Written in place: nobody who holds an array is left behind.
    assert arrays == arrays_of(rollout)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize(
    ("array", "row", "name", "samples"),
    [
        # Row t of obs was there before step t, of two environments each.
        ("obs", 0, "observations", 0),
        ("obs", 2, "observations", 4),
        ("obs", 3, "observations", 6),
        ("rewards", 0, "rewards", 2),
        ("rewards", 2, "rewards", 6),
        ("final_obs", 1, "observations", 4),
    ],
)
def test_what_is_not_finite_is_found(array, row, name, samples, value):
    rollout = Rollout(num_steps=3, num_envs=2, obs_shape=(4,), layout=LAYOUT)
    rollout.truncated[1, 1] = True
    assert rollout.find_not_finite() is None
    # One column of an observation.
    getattr(rollout, array)[row, 1, ...].reshape(-1)[-1:] = value
    found = rollout.find_not_finite()
    assert (found.name, found.samples, found.env) == (name, samples, 1)
    np.testing.assert_equal(found.value, value)


def test_the_first_of_what_is_not_finite():
    rollout = Rollout(num_steps=3, num_envs=2, obs_shape=(1,), layout=LAYOUT)
    rollout.obs[2:] = np.nan
    rollout.rewards[2] = np.nan
    assert rollout.find_not_finite().name == "observations"
    rollout.rewards[0, 1] = np.inf
    found = rollout.find_not_finite()
    assert (found.name, found.value, found.samples, found.env) == ("rewards", np.inf, 2, 1)


def test_what_does_not_count_may_be_anything():
    rollout = Rollout(num_steps=3, num_envs=2, obs_shape=(1,), layout=LAYOUT)
    # Not the last observation of an episode that terminated, or none at all.
    rollout.final_obs[:] = np.nan
    rollout.terminated[0] = rollout.truncated[0, 0] = True
    assert rollout.find_not_finite() is None
    # Nor what an environment does that waits for the others, and no step follows the last.
    rollout.valid = np.array([[True, True], [True, False], [True, False]])
    rollout.rewards[~rollout.valid] = np.nan
    rollout.obs[:-1][~rollout.valid] = np.nan
    rollout.obs[-1] = np.nan
    rollout.truncated[2, 1] = True
    assert rollout.find_not_finite() is None
    rollout.rewards[2, 0] = np.nan
    found = rollout.find_not_finite()
    assert (found.samples, found.env) == (4, 0)


def identity_critic(asked):
    """V(obs) = obs; remembers how many it was asked for."""

    def values(obs):
        asked.append(len(obs))
        return obs[:, 0].copy()

    return SimpleNamespace(values=values)


def test_bootstrapping_by_hand():
    # gamma = lambda = 1/2, all rewards 1, values 2, 4 and (after the last step) 8, V(final_obs) 16.
    #
    # column       t=1: delta = A                    t=0: delta            A_0 = delta + A_1 / 4
    # goes on      1 + 8/2 - 4 = 1                   1 + 4/2 - 2 = 1       1.25
    # term. at 0   1                                 1 + 0 - 2 = -1        -1 (done cuts A_1 off)
    # trunc. at 0  1                                 1 + 16/2 - 2 = 7      7
    # both at 0    1                                 as terminated: -1     -1
    # term. at 1   1 + 0 - 4 = -3                    1                     1 - 3/4 = 0.25
    # trunc. at 1  1 + 16/2 - 4 = 5                  1                     1 + 5/4 = 2.25
    rollout = Rollout(num_steps=2, num_envs=6, obs_shape=(1,), layout=LAYOUT)
    rollout.obs[:] = np.array([2, 4, 8], np.float32)[:, None, None]
    rollout.rewards[:] = 1
    rollout.terminated[:] = [[0, 1, 0, 1, 0, 0], [0, 0, 0, 0, 1, 0]]
    rollout.truncated[:] = [[0, 0, 1, 1, 0, 0], [0, 0, 0, 0, 0, 1]]
    # What no episode's end wrote is left over from earlier rollouts and must not be read.
    rollout.final_obs[:] = np.nan
    rollout.final_values[:] = np.nan
    rollout.final_obs[rollout.terminated | rollout.truncated] = 16
    asked = []
    rollout.estimate_advantages(identity_critic(asked), gamma=0.5, gae_lambda=0.5)
    np.testing.assert_array_equal(
        rollout.advantages, [[1.25, -1, 7, -1, 0.25, 2.25], [1, 1, 1, 1, -3, 5]]
    )
    np.testing.assert_array_equal(rollout.returns, [[3.25, 1, 9, 1, 2.25, 4.25], [5] * 4 + [1, 9]])
    np.testing.assert_array_equal(rollout.values, np.tile([[2], [4], [8]], 6))
    # One call: all rows of obs, and final_obs of the two that were truncated but not terminated.
    assert asked == [3 * 6 + 2]


def test_no_truncation_asks_for_no_final_values():
    rollout = Rollout(num_steps=2, num_envs=1, obs_shape=(1,), layout=LAYOUT)
    rollout.obs[:] = np.array([2, 4, 8], np.float32)[:, None, None]
    rollout.final_obs[:] = np.nan
    asked = []
    rollout.estimate_advantages(identity_critic(asked), gamma=0.5, gae_lambda=0.0)
    assert asked == [3]
    # lambda = 0: A = delta = 0 + V' / 2 - V.
    np.testing.assert_array_equal(rollout.advantages, [[0], [0]])


def native_batch():
    return make_vec(
        "CartPole-v1",
        len(SEEDS),
        autoreset_mode=AutoresetMode.SAME_STEP,
        max_episode_steps=LIMIT,
    )


def gymnasium_batch():
    return VectorEnvStepper(
        make_vec(
            "CartPole-v1",
            len(SEEDS),
            backend="gymnasium",
            autoreset_mode=AutoresetMode.SAME_STEP,
            max_episode_steps=LIMIT,
        )
    )


def single_env():
    return SingleEnvStepper(gymnasium.make("CartPole-v1", max_episode_steps=LIMIT))


def play(stepper, seeds, actions):
    """All that a stepper writes for actions [T, N], and its counts of ended episodes."""
    num_steps, num_envs = actions.shape
    result = {
        "obs": np.zeros((num_steps + 1, num_envs, 4), np.float32),
        "rewards": np.zeros((num_steps, num_envs), np.float32),
        "terminated": np.zeros((num_steps, num_envs), bool),
        "truncated": np.zeros((num_steps, num_envs), bool),
        # Only rows of ended episodes may be written; the others stay as they are.
        "final_obs": np.full((num_steps, num_envs, 4), 9, np.float32),
        "ended": np.zeros((num_steps, 1), int),
    }
    result["obs"][0] = stepper.reset(seed=seeds)[0]
    for t in range(num_steps):
        result["ended"][t] = stepper.step_into(
            actions[t],
            result["obs"][t + 1],
            *(result[name][t] for name in ("rewards", "terminated", "truncated", "final_obs")),
        )
    stepper.close()
    return result


def assert_equal(ours, theirs):
    for name, value in theirs.items():
        assert ours[name].tobytes() == value.tobytes(), name


def test_steppers_agree():
    actions = np.random.default_rng(0).integers(0, 2, (400, len(SEEDS)))
    native = play(native_batch(), SEEDS, actions)
    assert_equal(play(gymnasium_batch(), SEEDS, actions), native)
    # Episodes start anew without a seed, so equal draws show in every later row.
    singles = [play(single_env(), [seed], actions[:, i : i + 1]) for i, seed in enumerate(SEEDS)]
    joined = {name: np.concatenate([single[name] for single in singles], axis=1) for name in native}
    joined["ended"] = joined["ended"].sum(axis=1, keepdims=True)
    assert_equal(joined, native)
    # The case is worth something only if it holds both ways to end.
    assert native["terminated"].sum() > 20
    assert native["truncated"].sum() > 20
    ended = native["terminated"] | native["truncated"]
    assert (native["final_obs"][~ended] == 9).all()
    np.testing.assert_array_equal(native["ended"][:, 0], ended.sum(axis=1))


@pytest.mark.parametrize(
    ("env_id", "num_envs", "kind"),
    [
        ("CartPole-v1", 1, NativeVectorEnv),
        ("CartPole-v1", 5, NativeVectorEnv),
        ("ppo_fast/CartPole-v1", 2, NativeVectorEnv),
        ("Acrobot-v1", 1, NativeVectorEnv),
        ("foreign", 1, SingleEnvStepper),
        ("foreign", 2, VectorEnvStepper),
    ],
)
def test_make_stepper_chooses(env_id, num_envs, kind, foreign_env):
    stepper = make_stepper(foreign_env if env_id == "foreign" else env_id, num_envs)
    assert isinstance(stepper, kind)
    assert stepper.num_envs == num_envs
    obs, _ = stepper.reset(seed=list(range(num_envs)))
    assert obs.shape == (num_envs, *stepper.single_observation_space.shape)
    stepper.close()


@pytest.mark.parametrize("num_envs", [1, 2])
def test_make_stepper_refuses_unknown_ids(num_envs):
    with pytest.raises(ValueError, match="unknown environment 'Akrobot-v1'; did you mean Acrobot"):
        make_stepper("Akrobot-v1", num_envs)
