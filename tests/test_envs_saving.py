"""States of Gymnasium environments: saved, and gone on from in new environments with equal bits."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces, wrappers
from gymnasium.vector import AutoresetMode

from ppo_fast.envs import make_stepper, saving
from ppo_fast.envs.stepping import SingleEnvStepper, VectorEnvStepper

MUJOCO = (
    *("Ant", "HalfCheetah", "Hopper", "Humanoid", "HumanoidStandup", "InvertedDoublePendulum"),
    *("InvertedPendulum", "Pusher", "Reacher", "Swimmer", "Walker2d"),
)


class Walk(gymnasium.Env):
    """A random walk that can be saved, or cannot if its state has something that is no number."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)
    action_space = spaces.Discrete(2)
    extra = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.place = self.np_random.normal()
        return np.array([self.place], np.float32), {}

    def step(self, action):
        self.place += self.np_random.normal() + action
        return np.array([self.place], np.float32), self.place, abs(self.place) > 4, False, {}

    def get_training_state(self):
        return {"place": self.place, "extra": self.extra}

    def set_training_state(self, state):
        self.place = float(state["place"])


class Forgetful(Walk):
    """One that has only half of what it takes."""

    get_training_state = property()


def limited(env, steps=7):
    return wrappers.TimeLimit(env, steps)


def walks(count):
    env = gymnasium.vector.SyncVectorEnv(
        [lambda: limited(Walk())] * count, autoreset_mode=AutoresetMode.SAME_STEP
    )
    return VectorEnvStepper(env)


def play(stepper, actions):
    """All that steps give, episodes being reset where they end, and how many did."""
    n, size = stepper.num_envs, stepper.single_observation_space.shape
    played, ended = [], 0
    for action in actions:
        row = [
            np.zeros((n, *size), np.float32),
            np.zeros(n),
            *np.zeros((2, n), bool),
            np.zeros((n, *size), np.float32),
        ]
        ended += stepper.step_into(np.stack([action] * n), *row)
        played.append(np.concatenate([np.asarray(x, np.float64).ravel() for x in row]))
    return np.array(played), ended


def random_actions(space, count):
    rng = np.random.default_rng(0)
    if isinstance(space, spaces.Discrete):
        return rng.integers(space.n, size=count)
    return rng.uniform(space.low, space.high, (count, *space.shape)).astype(space.dtype)


def assert_goes_on(make):
    """A second stepper goes on from the state of the first, at a few moments."""
    count = 60
    first = make()
    first.reset(seed=[3 + i for i in range(first.num_envs)])
    actions = random_actions(first.single_action_space, 2 * count)
    for moment in (0, 1, count):
        play(first, actions[:moment])
        state = first.get_state()
        assert state.dtype == np.uint8
        expected, ended = play(first, actions[count:])
        assert ended > 0
        second = make()
        second.reset(seed=[99] * second.num_envs)
        second.set_state(state)
        np.testing.assert_array_equal(play(second, actions[count:])[0], expected)


@pytest.mark.filterwarnings("ignore:.*v4 is out of date:DeprecationWarning")
@pytest.mark.parametrize("env_id", [*(f"{name}-v5" for name in MUJOCO), "Ant-v4", "Humanoid-v4"])
def test_mujoco_goes_on(env_id):
    pytest.importorskip("mujoco")
    assert_goes_on(lambda: SingleEnvStepper(gymnasium.make(env_id, max_episode_steps=23)))


def test_a_batch_of_mujoco_goes_on():
    pytest.importorskip("mujoco")
    stepper = make_stepper("Hopper-v5", 3)
    assert isinstance(stepper, VectorEnvStepper)
    assert_goes_on(lambda: make_stepper("Hopper-v5", 3))


@pytest.mark.parametrize("make", [lambda: SingleEnvStepper(limited(Walk())), lambda: walks(3)])
def test_an_environment_with_methods_of_its_own_goes_on(make):
    assert_goes_on(make)


def test_wrappers_that_remember_nothing():
    def make():
        env = wrappers.OrderEnforcing(wrappers.PassiveEnvChecker(limited(Walk(), 9)))
        return SingleEnvStepper(wrappers.FlattenObservation(env))

    assert_goes_on(make)


class Foreign(Walk):
    """One whose methods of like names mean something else, and whose generator is an old one."""

    get_training_state = property()

    def get_state(self, name):
        return self.place

    def set_state(self, qpos, qvel):
        raise AssertionError


def test_what_cannot_be_saved():
    other_wrapper = wrappers.TransformReward(Walk(), lambda r: r)
    for env in (other_wrapper, Foreign(), Forgetful(), gymnasium.make("CartPole-v1")):
        env.reset(seed=0)
        assert saving.get_state([env]) is None


@pytest.mark.parametrize(
    "other", [np.random.Generator(np.random.MT19937(0)), np.random.RandomState(0)]
)
def test_a_generator_that_cannot_be_saved(other):
    env = Walk()
    env.reset(seed=0)
    env._np_random = other
    assert saving.get_state([env]) is None


@pytest.mark.parametrize("extra", [object(), [object(), object()], [[1], [1, 2]], None])
def test_a_state_that_is_no_number(extra):
    env = Walk()
    env.extra = extra
    env.reset(seed=0)
    with pytest.raises(TypeError, match=r"must give a dict of numbers .*, got .* as 'extra'"):
        saving.get_state([env])


@pytest.mark.parametrize("state", [np.zeros(3), (1, 2), None])
def test_a_state_without_names(state, monkeypatch):
    monkeypatch.setattr(Walk, "get_training_state", lambda self: state)
    env = Walk()
    env.reset(seed=0)
    with pytest.raises(TypeError, match=f"by name, got {type(state).__name__}$"):
        saving.get_state([env])


def test_a_state_of_another_environment():
    pytest.importorskip("mujoco")
    hopper, cheetah = (gymnasium.make(f"{name}-v5") for name in ("Hopper", "HalfCheetah"))
    for env in (hopper, cheetah):
        env.reset(seed=0)
    with pytest.raises(ValueError, match="Error: "):
        saving.set_state([cheetah], saving.get_state([hopper]))
