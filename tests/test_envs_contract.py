"""What Gymnasium's own tests demand of vector environments, demanded of the native ones.

After Gymnasium's tests/vector, tests/wrappers/vector and tests/envs/registration/test_make_vec.py;
results are in tests/test_envs_equality.py.
"""

import gc
import itertools
import os
import threading
import warnings
from importlib.util import find_spec

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.spaces import Box, Discrete, MultiDiscrete
from gymnasium.utils.env_checker import check_env, data_equivalence
from gymnasium.vector import AsyncVectorEnv, AutoresetMode, SyncVectorEnv, VectorEnv
from gymnasium.wrappers.vector import (
    NormalizeObservation,
    NormalizeReward,
    RecordEpisodeStatistics,
    RecordVideo,
)

import ppo_fast
from ppo_fast.envs import NATIVE_SPECS, NativeVectorEnv

pytestmark = pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning")  # CartPole-v0

IDS = sorted(NATIVE_SPECS)
MODES = list(AutoresetMode)
CONTINUOUS = ["MountainCarContinuous-v0", "Pendulum-v1"]


# check_env asks for every render mode that an environment has.
needs_renderer = pytest.mark.skipif(
    find_spec("pygame") is None, reason="Gymnasium draws with pygame, which is not installed"
)


def native_id(env_id):
    return f"ppo_fast/{env_id}"


def make(env_id="CartPole-v1", num_envs=3, **kwargs):
    return ppo_fast.make_vec(env_id, num_envs, **kwargs)


def original(env_id="CartPole-v1", num_envs=3, mode=AutoresetMode.NEXT_STEP, **kwargs):
    return SyncVectorEnv([lambda: gymnasium.make(env_id, **kwargs)] * num_envs, autoreset_mode=mode)


def samples(env, steps, seed=0):
    env.action_space.seed(seed)
    return [env.action_space.sample() for _ in range(steps)]


def step_through(env, actions):
    """Steps with the resets that DISABLED needs; yields results."""
    for action in actions:
        result = env.step(action)
        yield result
        done = result[2] | result[3]
        if env.metadata["autoreset_mode"] is AutoresetMode.DISABLED and done.any():
            env.reset(options={"reset_mask": done})


# Attributes, spaces and specs


@pytest.mark.parametrize("num_envs", [1, 8])
@pytest.mark.parametrize("env_id", IDS)
def test_spaces_are_the_originals(env_id, num_envs):
    ours, theirs = make(env_id, num_envs), original(env_id, num_envs)
    for name in (
        "single_observation_space",
        "single_action_space",
        "observation_space",
        "action_space",
    ):
        assert getattr(ours, name) == getattr(theirs, name)
        assert getattr(ours, name).dtype == getattr(theirs, name).dtype
    assert isinstance(ours.observation_space, Box)
    discrete = isinstance(ours.single_action_space, Discrete)
    assert isinstance(ours.action_space, MultiDiscrete if discrete else Box)
    assert ours.num_envs == num_envs


@pytest.mark.parametrize("env_id", IDS)
def test_specs_are_the_originals(env_id):
    ours, theirs = gymnasium.spec(native_id(env_id)), gymnasium.spec(env_id)
    assert ours.max_episode_steps == theirs.max_episode_steps
    assert ours.reward_threshold == theirs.reward_threshold
    assert make(env_id).spec.id == native_id(env_id)


@pytest.mark.parametrize("env_id", IDS)
def test_types_of_results(env_id):
    env = make(env_id, 8)
    obs, infos = env.reset()
    assert isinstance(obs, np.ndarray)
    assert infos == {}
    for act in (
        env.action_space.sample(),
        list(env.action_space.sample()),
        [env.single_action_space.sample() for _ in range(8)],
        tuple(env.single_action_space.sample() for _ in range(8)),
    ):
        obs, rewards, terminated, truncated, infos = env.step(act)
        assert obs in env.observation_space
        assert obs.dtype == env.observation_space.dtype
        assert obs.flags.c_contiguous
        assert obs.flags.writeable
        assert (rewards.dtype, rewards.shape) == (np.float64, (8,))
        for flags in (terminated, truncated):
            assert (flags.dtype, flags.shape) == (np.bool_, (8,))
        assert infos == {}


def test_metadata_is_each_environments_own():
    envs = [make(autoreset_mode=mode) for mode in MODES]
    assert [env.metadata["autoreset_mode"] for env in envs] == MODES
    named = [make(autoreset_mode=mode.value) for mode in MODES]
    assert [env.metadata["autoreset_mode"] for env in named] == MODES
    assert "autoreset_mode" not in NativeVectorEnv.metadata


@needs_renderer
def test_close_twice():
    for render_mode in (None, "rgb_array"):
        env = make(render_mode=render_mode)
        env.reset()
        if render_mode:
            env.render()
        assert not env.closed
        env.close()
        assert env.closed
        env.close()
    fresh = make()
    fresh.close()
    fresh.close()


# Autoreset, by tables like Gymnasium's; a short time limit makes the episodes


def counting(mode):
    """MountainCar for 3 steps at most; environment 0 is a step ahead of the others."""
    env = make("MountainCar-v0", 3, autoreset_mode=mode, max_episode_steps=3)
    env.reset(seed=0)
    env.step([1, 1, 1])
    env.reset(options={"reset_mask": np.array([False, True, True])})
    return env


def test_next_step_table():
    env = counting(AutoresetMode.NEXT_STEP)
    table = []
    for _ in range(6):
        obs, rewards, terminated, truncated, infos = env.step([2, 2, 2])
        table.append((truncated.tolist(), rewards.tolist(), (obs[:, 1] == 0).tolist()))
        assert not terminated.any()
        assert infos == {}
    yes, no, cost, free = True, False, -1.0, 0.0
    assert table == [
        ([no, no, no], [cost, cost, cost], [no, no, no]),
        ([yes, no, no], [cost, cost, cost], [no, no, no]),
        ([no, yes, yes], [free, cost, cost], [yes, no, no]),
        ([no, no, no], [cost, free, free], [no, yes, yes]),
        ([no, no, no], [cost, cost, cost], [no, no, no]),
        ([yes, no, no], [cost, cost, cost], [no, no, no]),
    ]


def test_same_step_table():
    env = counting(AutoresetMode.SAME_STEP)
    for ended in ([], [0], [1, 2], [], [0], [1, 2], [], [0]):
        obs, rewards, terminated, truncated, infos = env.step([2, 2, 2])
        mask = np.isin(np.arange(3), ended)
        np.testing.assert_array_equal(truncated, mask)
        np.testing.assert_array_equal(obs[:, 1] == 0, mask)  # cars start at rest
        assert (rewards == -1).all()
        assert not terminated.any()
        if not ended:
            assert infos == {}
            continue
        assert list(infos) == ["final_obs", "_final_obs", "final_info", "_final_info"]
        assert infos["final_info"] == {}
        for name in ("_final_obs", "_final_info"):
            assert infos[name].dtype == np.bool_
            np.testing.assert_array_equal(infos[name], mask)
        finals = infos["final_obs"]
        assert (finals.dtype, finals.shape) == (object, (3,))
        for i in range(3):
            if mask[i]:
                assert finals[i] in env.single_observation_space
                assert finals[i][1] != 0
            else:
                assert finals[i] is None


def test_disabled_table():
    env = counting(AutoresetMode.DISABLED)
    for ended in ([], [0], [1, 2], [], [0], [1, 2]):
        obs, rewards, _, truncated, infos = env.step([2, 2, 2])
        mask = np.isin(np.arange(3), ended)
        np.testing.assert_array_equal(truncated, mask)
        assert (obs[:, 1] != 0).all()
        assert (rewards == -1).all()
        assert infos == {}
        if not ended:
            continue
        state = env.get_state()
        with pytest.raises(ValueError, match=f"episode of environment {ended[0]} is over; reset"):
            env.step([2, 2, 2])
        assert env.get_state().tobytes() == state.tobytes()
        after, infos = env.reset(options={"reset_mask": truncated})
        assert infos == {}
        np.testing.assert_array_equal(after[~mask], obs[~mask])
        np.testing.assert_array_equal(after[:, 1] == 0, mask)


@pytest.mark.parametrize("mode", MODES)
def test_a_reset_ends_what_was_pending(mode):
    env = make("MountainCar-v0", 2, autoreset_mode=mode, max_episode_steps=1)
    env.reset(seed=0)
    assert env.step([2, 2])[3].all()
    env.reset()
    rewards = env.step([2, 2])[1]
    assert (rewards == -1).all()


# Seeds and generators


@pytest.mark.parametrize("env_id", IDS)
def test_seeds_are_kept(env_id):
    env = make(env_id, 4)
    env.reset(seed=42)
    assert env.np_random_seed == (42, 43, 44, 45)
    env.reset()
    assert env.np_random_seed == (42, 43, 44, 45)
    env.reset(seed=[7, None, 2**100, 0])
    assert env.np_random_seed == (7, 43, 2**100, 0)
    env.reset(seed=1, options={"reset_mask": np.array([True, False, False, True])})
    assert env.np_random_seed == (1, 43, 2**100, 4)


def test_seeds_exist_before_a_reset():
    env = make(num_envs=4)
    seeds = env.np_random_seed
    assert isinstance(seeds, tuple)
    assert len(set(seeds)) == 4
    assert env.np_random_seed == seeds
    again = make(num_envs=4)
    obs = again.reset(seed=list(seeds))[0]
    assert env.reset()[0].tobytes() == obs.tobytes()
    assert env.np_random_seed == seeds


def test_generators_exist_before_a_reset():
    env = make(num_envs=2)
    for generator, seed in zip(env.np_random, env.np_random_seed, strict=True):
        assert isinstance(generator, np.random.Generator)
        assert generator.bit_generator.state == np.random.PCG64(seed).state
    # Looking at them is no reset.
    with pytest.raises(ResetNeeded):
        env.step([0, 0])
    obs = env.reset()[0]
    again = make(num_envs=2)
    assert again.reset(seed=list(env.np_random_seed))[0].tobytes() == obs.tobytes()


def test_generators_can_be_set():
    for reset_before in (False, True):
        env = make(num_envs=2)
        if reset_before:
            env.reset()
        generator = np.random.default_rng(8)
        generator.random(13)
        generator.integers(0, 9, dtype=np.uint32)  # keeps half a draw
        state = generator.bit_generator.state
        env.set_generator(1, generator)
        assert env.np_random[1].bit_generator.state == state
        assert env.np_random_seed[1] == -1
        obs = env.reset()[0]
        expected = generator.uniform(-0.05, 0.05, 4).astype(np.float32)
        np.testing.assert_array_equal(obs[1], expected)
    with pytest.raises(ValueError, match="generator must use PCG64, got MT19937"):
        env.set_generator(0, np.random.Generator(np.random.MT19937(0)))
    with pytest.raises(IndexError, match="there is no environment 2"):
        env.set_generator(2, generator)


# Partial resets


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_partial_reset(env_id, mode):
    env = make(env_id, 3, autoreset_mode=mode)
    first = env.reset(seed=[0, 1, 2])[0]
    for action in samples(env, 3):
        last = env.step(action)[0]
    mask = np.array([True, True, False])
    options = {"reset_mask": mask, "other": 1}
    obs, infos = env.reset(seed=[0, 1, 0], options=options)
    assert infos == {}
    assert obs[:2].tobytes() == first[:2].tobytes()
    assert obs[2].tobytes() == last[2].tobytes()
    # The dict is the caller's.
    assert list(options) == ["reset_mask", "other"]
    assert options["reset_mask"] is mask
    assert mask.tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("mask", "error", "message"),
    [
        (np.array([True]), ValueError, r"must have shape `\(3,\)`, got \(1,\)"),
        (np.array([True, True, False, False]), ValueError, r"must have shape `\(3,\)`, got \(4,\)"),
        (np.array([[True, True, True]]), ValueError, r"must have shape `\(3,\)`, got \(1, 3\)"),
        (
            np.array([False, False, False]),
            ValueError,
            r"must contain a boolean array with at least one True value, got reset_mask=\[False ",
        ),
        (np.array([1, 1, 0]), TypeError, "must have `dtype=np.bool_`, got int64"),
        (np.array([1.0, 1.0, 0.0]), TypeError, "must have `dtype=np.bool_`, got float64"),
        ([True, True, False], TypeError, "must have `dtype=np.bool_`, got list"),
        (None, TypeError, "must have `dtype=np.bool_`, got NoneType"),
    ],
)
def test_wrong_reset_masks(mask, error, message):
    env, theirs = make(), original()
    for each in (env, theirs):
        each.reset(seed=0)
        with pytest.raises(error):
            each.reset(options={"reset_mask": mask})
    state = env.get_state()
    with pytest.raises(error, match=r"reset: `options\['reset_mask'\]` " + message):
        env.reset(seed=4, options={"reset_mask": mask})
    assert env.get_state().tobytes() == state.tobytes()
    assert env.np_random_seed == (0, 1, 2)


def test_a_mask_may_be_strided():
    env, same = make(), make()
    mask = np.array([True, False, False, False, True, False])[::2]
    for each, selected in ((env, mask), (same, mask.copy())):
        each.reset(seed=0)
        each.step([1, 1, 1])
        obs = each.reset(options={"reset_mask": selected})[0]
    assert (
        obs.tobytes() == env.get_attr("state")[0].astype(np.float32).tobytes() + obs[1:].tobytes()
    )
    assert env.get_state().tobytes() == same.get_state().tobytes()


def test_first_reset_must_be_of_all():
    env = make()
    with pytest.raises(ResetNeeded, match="first reset must cover all"):
        env.reset(options={"reset_mask": np.array([True, False, True])})
    env.reset(options={"reset_mask": np.array([True, True, True])})


# Attributes


def test_call_get_and_set():
    env = make(num_envs=4)
    env.reset()
    assert env.call("gravity") == env.get_attr("gravity") == (9.8,) * 4
    env.set_attr("gravity", [9.81, 3.72, 8.87, 1.62])
    assert env.get_attr("gravity") == (9.81, 3.72, 8.87, 1.62)
    env.set_attr("gravity", (1, 2, 3, 4))
    assert env.get_attr("gravity") == (1.0, 2.0, 3.0, 4.0)
    env.set_attr("gravity", 5)
    assert env.get_attr("gravity") == (5.0,) * 4
    env.set_attr("kinematics_integrator", ["euler", "semi-implicit euler"] * 2)
    assert env.call("kinematics_integrator") == ("euler", "semi-implicit euler") * 2
    assert env.get_attr("sutton_barto_reward") == (False,) * 4
    assert env.get_attr("render_mode") == (None,) * 4
    assert env.get_attr("np_random_seed") == env.np_random_seed
    assert env.get_attr("observation_space") == (env.single_observation_space,) * 4
    assert env.get_attr("action_space") == (env.single_action_space,) * 4
    assert [state.shape for state in env.get_attr("state")] == [(4,)] * 4


@pytest.mark.parametrize(
    ("name", "values", "error", "message"),
    [
        ("gravity", [9.81, 3.72], ValueError, r"one entry per environment \(3\), got 2"),
        ("gravity", [9.81, 3.72, "x"], TypeError, "set_attr: gravity must be a number, got str"),
        ("gravity", "x", TypeError, "set_attr: gravity must be a number, got str"),
        ("gravity", True, TypeError, "set_attr: gravity must be a number, got bool"),
        ("weight", 1.0, AttributeError, "CartPole-v1 has no attribute 'weight' to set; it has: "),
        ("state", 1.0, AttributeError, "has no attribute 'state' to set"),
        ("kinematics_integrator", "x", ValueError, "must be one of 'euler', 'semi-implicit euler'"),
    ],
)
def test_wrong_attributes(name, values, error, message):
    env = make()
    with pytest.raises(error, match=message):
        env.set_attr(name, values)


def test_unknown_attributes():
    env = make()
    for name in ("weight", "step", "_native"):
        with pytest.raises(AttributeError, match=f"CartPole-v1 has no attribute '{name}'"):
            env.get_attr(name)
    with pytest.raises(AttributeError, match="has no method 'swing'"):
        env.call("swing", 3)


# Wrong actions of continuous environments; those of discrete ones are in test_envs.py


@pytest.mark.parametrize("env_id", CONTINUOUS)
@pytest.mark.parametrize("num_envs", [3, 70])
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        (lambda n: 0.5, TypeError, "must be a float array with a row per environment, got float"),
        (lambda n: np.float32(0.5), TypeError, "must be a float array"),
        (lambda n: np.array(0.5), TypeError, "got a scalar"),
        (lambda n: None, TypeError, "got NoneType"),
        (lambda n: np.zeros(n, np.float32), ValueError, "must have shape"),
        (lambda n: np.zeros((n, 2), np.float32), ValueError, "must have shape"),
        (lambda n: np.zeros((n - 1, 1), np.float32), ValueError, "must have shape"),
        (lambda n: np.zeros((n + 1, 1), np.float32), ValueError, "must have shape"),
        (lambda n: np.zeros((1, n), np.float32), ValueError, "must have shape"),
        (lambda n: np.zeros((n, 1, 1), np.float32), ValueError, "must have shape"),
        (lambda n: [[0.5]] * (n - 1), ValueError, "must have shape"),
        (lambda n: [[0.5]] * (n - 1) + [[0.5, 0.5]], TypeError, "list of rows of one length"),
        (lambda n: np.zeros((n, 1), np.int64), TypeError, "must be float32 or float64, got int64"),
        (lambda n: np.zeros((n, 1), bool), TypeError, "must be float32 or float64, got bool"),
        (lambda n: np.zeros((n, 1), np.float16), TypeError, "got float16"),
        (lambda n: np.zeros((n, 1), np.complex64), TypeError, "got complex64"),
        (lambda n: [["a"]] * n, TypeError, "must be float32 or float64"),
        (
            lambda n: np.where(np.arange(n) == n - 1, np.nan, 0).astype(np.float32)[:, None],
            ValueError,
            "must not be NaN, got NaN for environment (2|69)",
        ),
        (lambda n: [[np.nan]] + [[0.0]] * (n - 1), ValueError, "got NaN for environment 0"),
    ],
)
def test_wrong_continuous_actions_leave_the_state_alone(env_id, num_envs, wrong, error, message):
    env, untouched = make(env_id, num_envs), make(env_id, num_envs)
    outputs = (*(x.copy() for x in untouched.reset(seed=0)[:1]), *np.zeros((1, num_envs)))
    flags = np.zeros((2, num_envs), bool)
    env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(error, match="step: actions.*" + message):
        env.step(wrong(num_envs))
    with pytest.raises(error, match="step_into: actions.*" + message):
        env.step_into(wrong(num_envs), *outputs, *flags)
    assert env.get_state().tobytes() == state.tobytes()
    action = np.full((num_envs, 1), 0.3, np.float32)
    for a, b in zip(env.step(action)[:4], untouched.step(action)[:4], strict=True):
        assert a.tobytes() == b.tobytes()


@pytest.mark.parametrize("env_id", CONTINUOUS)
def test_continuous_action_types(env_id):
    expected = None
    for actions in (
        np.array([[0.1], [-0.2], [5.0]], np.float32),
        np.array([[0.1], [-0.2], [5.0]], np.float64),
        [[0.1], [-0.2], [5.0]],
        ([0.1], [-0.2], [5.0]),
        [np.array([0.1], np.float32), np.array([-0.2], np.float32), np.array([5], np.float32)],
        np.array([[0.1, 9], [7, 9], [-0.2, 9], [7, 9], [5, 9], [7, 9]], np.float32)[::2, :1],
        np.asfortranarray(np.array([[0.1], [-0.2], [5.0]], np.float32)),
    ):
        env = make(env_id)
        env.reset(seed=0)
        obs, rewards, *_ = env.step(actions)
        expected = expected or (obs.tobytes(), rewards.tobytes())
        assert (obs.tobytes(), rewards.tobytes()) == expected


@pytest.mark.parametrize("env_id", sorted(set(IDS) - set(CONTINUOUS)))
def test_discrete_actions_out_of_range(env_id):
    env = make(env_id)
    env.reset(seed=0)
    state = env.get_state()
    count = env.single_action_space.n
    for actions in ([0, 0, count], [-1, 0, 0]):
        with pytest.raises(ValueError, match=rf"must be in \[0, {count}\)"):
            env.step(actions)
    for actions in (np.zeros(3, np.float32), [0.0, 1.0, 0.0], np.zeros(3, bool)):
        with pytest.raises(TypeError, match="must be integers"):
            env.step(actions)
    for actions in (env.action_space.sample()[:2], np.zeros(4, int), np.zeros((3, 1), int)):
        with pytest.raises(ValueError, match=r"must have shape \(3,\)"):
            env.step(actions)
    with pytest.raises(TypeError, match=r"an array of one integer per environment, got int$"):
        env.step(0)
    with pytest.raises(TypeError, match=r"got Tensor; pass numpy\.asarray\(actions\)$"):
        env.step(pytest.importorskip("torch").zeros(3, dtype=int))
    assert env.get_state().tobytes() == state.tobytes()


# Rendering


@needs_renderer
def test_render_modes():
    env = make(render_mode="rgb_array")
    assert env.render_mode == "rgb_array"
    with pytest.raises(ResetNeeded):
        env.render()
    env.reset()
    frames = env.render()
    assert isinstance(frames, tuple)
    assert len(frames) == 3
    for frame in frames:
        assert isinstance(frame, np.ndarray)
        assert frame.dtype == np.uint8
    called = env.call("render")
    assert [frame.tobytes() for frame in called] == [frame.tobytes() for frame in frames]
    env.close()
    blind = make()
    blind.reset()
    assert blind.render_mode is None
    assert blind.render() is None
    assert blind.call("render") == (None, None, None)


def same_frames(ours, theirs):
    frames = list(zip(ours.render(), theirs.render(), strict=True))
    assert all(a.shape == b.shape and a.tobytes() == b.tobytes() for a, b in frames)


@needs_renderer
@pytest.mark.parametrize("env_id", IDS)
def test_frames_are_the_originals(env_id):
    ours = make(env_id, 2, render_mode="rgb_array")
    theirs = original(env_id, 2, render_mode="rgb_array")
    for env in (ours, theirs):
        env.reset(seed=3)
    same_frames(ours, theirs)
    assert ours.metadata["render_fps"] == theirs.metadata["render_fps"]
    for step, action in enumerate(samples(ours, 40)):
        idle = action * 0  # a torque of zero, for one
        for env in (ours, theirs):
            env.step(idle if step % 5 == 0 else action)
        if step % 4 < 2:
            same_frames(ours, theirs)
    # Attributes that are drawn, per environment.
    drawn = {"Acrobot-v1": "LINK_LENGTH_1", "MountainCar-v0": "goal_position"}
    name = {"CartPole": "length", "Pendulum": "max_torque"}.get(env_id.split("-")[0])
    name = name or drawn.get(env_id, "max_position")
    for env in (ours, theirs):
        env.set_attr(name, [0.61, 0.4])
        env.reset()
        env.step(action)
    same_frames(ours, theirs)
    for env in (ours, theirs):
        env.close()


@needs_renderer
@pytest.mark.parametrize("env_id", IDS)
def test_frames_of_single_environments(env_id):
    ours = gymnasium.make(native_id(env_id), render_mode="rgb_array_list")
    theirs = gymnasium.make(env_id, render_mode="rgb_array_list")
    ours.action_space.seed(0)
    actions = [ours.action_space.sample() for _ in range(5)]
    videos = []
    for env in (ours, theirs):
        env.reset(seed=1)
        for action in actions:
            env.step(action)
        videos.append(env.render())
        env.close()
    assert len(videos[0]) == len(videos[1]) == 6
    assert [frame.tobytes() for frame in videos[0]] == [frame.tobytes() for frame in videos[1]]


# Registration


@pytest.mark.parametrize("num_envs", [1, 3, 10])
@pytest.mark.parametrize("vectorization_mode", [None, "vector_entry_point", "sync", "async"])
def test_make_vec_modes(num_envs, vectorization_mode):
    if vectorization_mode == "async" and num_envs == 10:
        pytest.skip("ten processes show no more than three")
    env = gymnasium.make_vec(
        native_id("CartPole-v1"), num_envs=num_envs, vectorization_mode=vectorization_mode
    )
    kinds = {"sync": SyncVectorEnv, "async": AsyncVectorEnv}
    assert type(env) is kinds.get(vectorization_mode, NativeVectorEnv)
    assert isinstance(env, VectorEnv)
    assert env.num_envs == num_envs
    assert env.reset(seed=0)[0].shape == (num_envs, 4)
    env.close()


@pytest.mark.parametrize(
    "kwargs",
    [
        {},
        {"num_envs": 3},
        {"vectorization_mode": "vector_entry_point"},
        {"render_mode": "rgb_array"},
        {"max_episode_steps": 5},
        {"sutton_barto_reward": True},
        {"gravity": 3.0},
        {"num_threads": 2, "episode_stats": True},
        {"autoreset_mode": AutoresetMode.SAME_STEP},
        {"autoreset_mode": "Disabled"},
        {"vectorization_mode": "sync"},
        {"vectorization_mode": "sync", "vector_kwargs": {"copy": False}},
        {"vectorization_mode": "sync", "wrappers": (gymnasium.wrappers.TimeAwareObservation,)},
        {"vectorization_mode": "sync", "max_episode_steps": 5},
        {"vectorization_mode": "sync", "sutton_barto_reward": True},
    ],
)
@pytest.mark.parametrize("from_spec", [False, True])
def test_make_vec_from_its_spec(kwargs, from_spec):
    env_id = native_id("CartPole-v1")
    env = gymnasium.make_vec(gymnasium.spec(env_id) if from_spec else env_id, **kwargs)
    again = gymnasium.make_vec(env.spec)
    assert type(again) is type(env)
    assert again.spec == env.spec
    assert again.num_envs == env.num_envs
    assert again.render_mode == env.render_mode
    assert again.metadata == env.metadata
    for name in (
        "observation_space",
        "single_observation_space",
        "action_space",
        "single_action_space",
    ):
        assert getattr(again, name) == getattr(env, name)
    env.reset(seed=0)
    again.reset(seed=0)
    for action in samples(env, 12):
        assert data_equivalence(env.step(action)[:4], again.step(action)[:4])
    env.close()
    again.close()


@pytest.mark.parametrize("env_id", IDS)
def test_single_environments_in_a_sync_vector_env(env_id):
    """The single form behind Gymnasium's own vector environment equals the batch."""
    for mode in MODES:
        theirs = gymnasium.make_vec(
            native_id(env_id),
            num_envs=3,
            vectorization_mode="sync",
            vector_kwargs={"autoreset_mode": mode},
            max_episode_steps=20,
        )
        ours = gymnasium.make_vec(
            native_id(env_id), num_envs=3, autoreset_mode=mode, max_episode_steps=20
        )
        assert ours.reset(seed=5)[0].tobytes() == theirs.reset(seed=5)[0].tobytes()
        actions = samples(ours, 50)
        for a, b in zip(step_through(ours, actions), step_through(theirs, actions), strict=True):
            assert data_equivalence(a, b)
        assert ours.np_random_seed == theirs.np_random_seed
        for a, b in zip(ours.np_random, theirs.np_random, strict=True):
            assert a.bit_generator.state == b.bit_generator.state
        theirs.close()


def test_make_vec_refuses_what_gymnasium_refuses():
    env_id = native_id("CartPole-v1")
    with pytest.raises(gymnasium.error.Error, match="vector_kwargs"):
        gymnasium.make_vec(env_id, vector_kwargs={"copy": False})
    with pytest.raises(gymnasium.error.Error, match="wrappers"):
        gymnasium.make_vec(env_id, wrappers=(gymnasium.wrappers.TimeAwareObservation,))
    with pytest.raises(TypeError, match="has no keyword 'nonsense'"):
        gymnasium.make_vec(env_id, nonsense=1)


# The single form


@needs_renderer
@pytest.mark.parametrize("render_mode", [None, "rgb_array"])
@pytest.mark.parametrize("env_id", IDS)
def test_check_env(env_id, render_mode):
    def warnings_of(name):
        env = gymnasium.make(name, render_mode=render_mode)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            check_env(env.unwrapped)
        env.close()
        texts = [str(warning.message).replace("ppo_fast/", "") for warning in caught]
        return sorted(text for text in texts if "out of date" not in text)

    # What it warns of, e.g. CartPole's infinite bounds, it warns of for the originals as well.
    assert set(warnings_of(native_id(env_id))) <= set(warnings_of(env_id))


@pytest.mark.parametrize("env_id", IDS)
def test_single_environment(env_id):
    ours, theirs = gymnasium.make(native_id(env_id)), gymnasium.make(env_id)
    assert ours.observation_space == theirs.observation_space
    assert ours.action_space == theirs.action_space
    obs, infos = ours.reset(seed=9)
    expected = theirs.reset(seed=9)[0]
    assert obs.tobytes() == expected.tobytes()
    assert infos == {}
    assert ours.unwrapped.np_random_seed == 9
    ours.action_space.seed(0)
    for _ in range(300):
        action = ours.action_space.sample()
        a, b = ours.step(action), theirs.step(action)
        assert a[0].tobytes() == b[0].tobytes()
        assert a[1:] == b[1:]
        assert [type(x) for x in a[1:]] == [float, bool, bool, dict]
        if a[2] or a[3]:
            assert ours.reset()[0].tobytes() == theirs.reset()[0].tobytes()
    assert ours.np_random.bit_generator.state == theirs.np_random.bit_generator.state
    ours.close()
    ours.close()


@pytest.mark.parametrize("env_id", IDS)
def test_attributes_of_single_environments(env_id):
    name = {"CartPole": "gravity", "MountainCar": "gravity", "Acrobot": "LINK_MASS_1"}.get(
        env_id.split("-")[0], "max_speed"
    )
    ours, theirs = gymnasium.make(native_id(env_id)), gymnasium.make(env_id)
    for env in (ours, theirs):
        env.reset(seed=2)
        value = env.get_wrapper_attr(name)
        env.set_wrapper_attr(name, value * 0.9)  # of the environment, not of the wrapper
        assert env.get_wrapper_attr(name) == getattr(env.unwrapped, name) == value * 0.9
    ours.action_space.seed(0)
    for _ in range(8):
        action = ours.action_space.sample()
        assert ours.step(action)[0].tobytes() == theirs.step(action)[0].tobytes()
    np.testing.assert_array_equal(ours.unwrapped.state, theirs.unwrapped.state)
    with pytest.raises(AttributeError):
        ours.unwrapped.state = np.zeros(4)
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        _ = ours.unwrapped.nonsense
    ours.unwrapped.note = "kept"
    assert ours.unwrapped.note == "kept"


def test_generator_of_a_single_environment():
    env = gymnasium.make(native_id("CartPole-v1")).unwrapped
    assert env.np_random.bit_generator.state == np.random.PCG64(env.np_random_seed).state
    env.np_random = np.random.default_rng(3)
    assert env.np_random_seed == -1
    expected = np.random.default_rng(3).uniform(-0.05, 0.05, 4).astype(np.float32)
    assert env.reset()[0].tobytes() == expected.tobytes()


# Wrappers


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_record_episode_statistics(env_id, mode):
    """Around ours, around the originals, and our own `episode_stats`: one answer."""
    limit = {"max_episode_steps": 25}
    envs = [
        RecordEpisodeStatistics(make(env_id, 4, autoreset_mode=mode, **limit)),
        make(env_id, 4, autoreset_mode=mode, episode_stats=True, **limit),
    ]
    # Gymnasium's wrapper forgets all episodes where SyncVectorEnv has taken the mask out.
    if mode is not AutoresetMode.DISABLED:
        envs.append(RecordEpisodeStatistics(original(env_id, 4, mode, **limit)))
    for env in envs:
        env.reset(seed=1)
    episodes = 0
    for action in samples(envs[0], 150):
        results = [env.step(action) for env in envs]
        done = results[0][2] | results[0][3]
        for *arrays, infos in results:
            assert ("episode" in infos) == done.any()
            times = infos["episode"].pop("t") if done.any() else np.zeros(4)
            assert (times.dtype, times.shape) == (np.float64, (4,))
            assert (times[done] > 0).all()
            assert (times[~done] == 0).all()
            assert data_equivalence(tuple(arrays), results[0][:4])
            assert data_equivalence(infos, results[0][4])
        if done.any():
            episode = results[1][4]["episode"]
            assert (episode["r"].dtype, episode["l"].dtype) == (np.float64, np.int64)
            assert results[1][4]["_episode"].tolist() == done.tolist()
            assert (episode["l"][done] <= 25).all()
        episodes += int(done.sum())
        if mode is AutoresetMode.DISABLED and done.any():
            for env in envs:
                env.reset(options={"reset_mask": done.copy()})
    assert episodes >= 4 * 5


def test_statistics_are_not_recorded_twice():
    env = RecordEpisodeStatistics(make(episode_stats=True, max_episode_steps=1))
    env.reset()
    with pytest.raises(ValueError, match="already exists in info"):
        env.step([0, 0, 0])


def test_times_of_episodes_start_at_their_reset():
    env = make(num_envs=2, episode_stats=True, max_episode_steps=2)
    env.reset(seed=0)
    threading.Event().wait(0.05)
    env.step([0, 0])
    first = env.step([0, 0])[4]["episode"]["t"]
    assert (first >= 0.05).all()
    env.step([0, 0])  # the reset
    env.step([0, 0])
    assert (env.step([0, 0])[4]["episode"]["t"] < 0.05).all()


@pytest.mark.parametrize("wrapper", [NormalizeObservation, NormalizeReward])
@pytest.mark.parametrize("env_id", IDS)
def test_normalizers(env_id, wrapper):
    ours, theirs = wrapper(make(env_id, 4)), wrapper(original(env_id, 4))
    assert data_equivalence(ours.reset(seed=0)[0], theirs.reset(seed=0)[0])
    for action in samples(ours, 120):
        assert data_equivalence(ours.step(action), theirs.step(action))
    statistics = [getattr(env, "obs_rms", None) or env.return_rms for env in (ours, theirs)]
    assert data_equivalence(statistics[0].mean, statistics[1].mean)
    assert data_equivalence(statistics[0].var, statistics[1].var)
    assert statistics[0].count == statistics[1].count


@pytest.mark.parametrize("mode", [AutoresetMode.SAME_STEP, AutoresetMode.DISABLED])
def test_normalize_reward_in_other_modes(mode):
    ours, theirs = NormalizeReward(make(autoreset_mode=mode)), NormalizeReward(original(mode=mode))
    for env in (ours, theirs):
        env.reset(seed=0)
    actions = samples(ours, 100)
    for a, b in zip(step_through(ours, actions), step_through(theirs, actions), strict=True):
        assert data_equivalence(a[:4], b[:4])


def test_normalize_observation_refuses_same_step():
    with pytest.raises(ValueError, match="autoreset"):
        NormalizeObservation(make(autoreset_mode=AutoresetMode.SAME_STEP))


def test_transformations_of_observations_write_into_ours():
    # Some wrappers write into the array that step returned.
    env = gymnasium.wrappers.vector.RescaleObservation(
        make("MountainCar-v0", 2), np.float32(0), np.float32(1)
    )
    plain = make("MountainCar-v0", 2)
    obs, expected = env.reset(seed=0)[0], plain.reset(seed=0)[0]
    low, high = plain.single_observation_space.low, plain.single_observation_space.high
    for _ in range(30):
        np.testing.assert_allclose(obs, (expected - low) / (high - low), rtol=1e-5, atol=1e-6)
        obs, expected = env.step([2, 0])[0], plain.step([2, 0])[0]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.filterwarnings("ignore:.*autoreset mode is same-step:UserWarning")
def test_record_video(mode, tmp_path):
    pytest.importorskip("moviepy")
    names = []
    for name, env in (
        ("ours", make(num_envs=2, autoreset_mode=mode, render_mode="rgb_array")),
        ("theirs", original(num_envs=2, mode=mode, render_mode="rgb_array")),
    ):
        recorder = RecordVideo(
            env,
            str(tmp_path / name),
            episode_trigger=lambda episode: episode == 1,
            step_trigger=lambda step: step == 0,
            video_length=8,
            video_aspect_ratio=(1, 2),
            disable_logger=True,
        )
        recorder.reset(seed=123)
        for _ in step_through(recorder, samples(recorder, 45)):
            pass
        recorder.close()
        names.append(sorted(file.name for file in (tmp_path / name).glob("*.mp4")))
    assert names[0] == names[1] == ["rl-video-episode-1.mp4", "rl-video-step-0.mp4"]


# Arrays that were returned


def holders(obs):
    """Ways to hold on to an observation without holding the array itself."""
    yield obs
    yield obs[1:]
    yield obs[::2, 1:3]
    yield obs.T
    yield memoryview(obs)
    torch = pytest.importorskip("torch")
    yield torch.from_numpy(obs)
    yield torch.from_numpy(obs)[:, 0]
    yield torch.as_tensor(obs).view(-1)


def content(part):
    return (part.numpy() if hasattr(part, "numpy") else part).tobytes()


@pytest.mark.parametrize("mode", MODES)
def test_kept_results_never_change(mode):
    num_envs = 6
    env = make("Acrobot-v1", num_envs, autoreset_mode=mode, max_episode_steps=7, episode_stats=True)
    env.reset(seed=0)
    kept, copies = [], []
    for k, result in enumerate(step_through(env, samples(env, 1000))):
        obs, rewards, terminated, truncated, infos = result
        way = k % 8
        kept.append((next(itertools.islice(holders(obs), way, None)), rewards[2:], truncated[:1]))
        copies.append([content(part) for part in kept[-1]])
        if infos:
            kept.append([v for v in infos.get("final_obs", []) if v is not None])
            kept[-1] += [infos["episode"]["r"], infos["episode"]["l"], infos["_episode"]]
            copies.append([content(part) for part in kept[-1]])
        del obs, rewards, terminated, truncated, infos, result
    gc.collect()
    for parts, before in zip(kept, copies, strict=True):
        assert [content(part) for part in parts] == before


def test_resets_do_not_overwrite_either():
    env = make()
    kept = [env.reset()[0][1:] for _ in range(100)]
    copies = [obs.copy() for obs in kept]
    for _ in range(20):
        env.reset()
        env.step([0, 0, 0])
    assert all((a == b).all() for a, b in zip(kept, copies, strict=True))


@pytest.mark.parametrize("part", range(4))
def test_what_was_done_to_a_returned_array_does_not_come_back(part):
    env, untouched = make(), make()
    for each in (env, untouched):
        each.reset(seed=0)
    for change in ("lock", "reshape"):
        result = env.step([0, 1, 0])[part]
        untouched.step([0, 1, 0])
        if change == "lock":
            result.flags.writeable = False
        else:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # NumPy 2.5 is about to forbid it
                result.shape = (*result.shape, 1)
        del result
        for a, b in zip(env.step([0, 1, 0])[:4], untouched.step([0, 1, 0])[:4], strict=True):
            assert a.shape == b.shape
            assert a.flags.writeable
            assert a.tobytes() == b.tobytes()


# Processes and threads


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX, if a test has loaded it, is against forks
@pytest.mark.parametrize("env_id", IDS)
def test_fork_after_use(env_id):
    env = make(env_id, 4096, num_threads=2)
    env.reset(seed=0)
    first, second = samples(env, 2)
    env.step(first)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        code = 1
        try:
            os.write(writer, env.step(second)[0][::512].tobytes())
            own = make(env_id, 4096, num_threads=2)
            own.reset(seed=1)
            own.step(second)
            code = 0
        finally:
            os._exit(code)
    expected = env.step(second)[0][::512].tobytes()
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        assert pipe.read() == expected
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def in_threads(*functions):
    errors = []

    def guarded(function):
        try:
            function()
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=guarded, args=(function,)) for function in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("env_id", IDS)
def test_two_threads_with_an_environment_each(env_id):
    num_envs = 2000
    alone = make(env_id, num_envs, num_threads=1)
    alone.reset(seed=0)
    actions = samples(alone, 20)
    expected = [alone.step(action)[0].tobytes() for action in actions]
    results = {}

    def play(name):
        env = make(env_id, num_envs, num_threads=2)
        env.reset(seed=0)
        results[name] = [env.step(action)[0].tobytes() for action in actions]

    in_threads(lambda: play("a"), lambda: play("b"))
    assert results == {"a": expected, "b": expected}


@pytest.mark.parametrize("env_id", IDS)
def test_two_threads_on_one_environment(env_id):
    num_envs = 20_000
    env, alone = (make(env_id, num_envs, num_threads=1) for _ in range(2))
    for each in (env, alone):
        each.reset(seed=0)
    action = samples(env, 1)[0]
    steps, refusals = [0, 0], []

    def play(which):
        for _ in range(15):
            try:
                env.step(action)
                steps[which] += 1
            except RuntimeError as error:
                refusals.append(str(error))

    in_threads(lambda: play(0), lambda: play(1))
    assert all("stepped by another thread; give each thread its own" in text for text in refusals)
    assert sum(steps) + len(refusals) == 30
    for _ in range(sum(steps)):
        alone.step(action)
    assert env.step(action)[0].tobytes() == alone.step(action)[0].tobytes()
