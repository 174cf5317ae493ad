"""Every native environment against `SyncVectorEnv` of Gymnasium's originals, bit for bit.

One run of the originals is compared with native batches on several numbers of threads, since the
originals take nearly all of the time.
"""

import hashlib
import os
import platform
import subprocess
import sys
import zlib
from collections import Counter

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import ppo_fast
from ppo_fast.envs import NATIVE_SPECS

pytestmark = [
    pytest.mark.skipif(
        platform.machine() not in ("x86_64", "AMD64") or platform.libc_ver()[0] != "glibc",
        reason="bits are promised on x86-64 with glibc only",
    ),
    pytest.mark.filterwarnings("ignore:.*is out of date:DeprecationWarning"),  # CartPole-v0
]

IDS = sorted(NATIVE_SPECS)
DISCRETE = ["CartPole-v0", "CartPole-v1", "Acrobot-v1", "MountainCar-v0"]
CONTINUOUS = ["MountainCarContinuous-v0", "Pendulum-v1"]
MODES = list(AutoresetMode)
THREADS = (1, 2, 5)

# Values around every clip, comparison and rounding of the originals.
EXTREME = np.array(
    [np.inf, 3.4e38, 1e30, 2.0000002, 2.0, 1.9999999, 1.0000001, 1.0, 0.99999994, 1e-45, 0.0],
    np.float32,
)
EXTREME = np.concatenate([EXTREME, -EXTREME])


def test_the_ids():
    assert set(IDS) == {*DISCRETE, *CONTINUOUS}


# How to act: a function of the action space, observations, step and generator.


def random_actions(space, obs, step, rng):
    if isinstance(space, gymnasium.spaces.Discrete):
        return rng.integers(0, space.n, len(obs))
    return (1.5 * rng.uniform(space.low, space.high, (len(obs), *space.shape))).astype(np.float32)


def held_actions(space, obs, step, rng):
    """Each environment's action stays for 20 steps."""
    held = np.random.default_rng([step // 20, len(obs)])
    return random_actions(space, obs, step, held)


def extreme_actions(space, obs, step, rng):
    return rng.choice(EXTREME, (len(obs), *space.shape))


def skilled_actions(space, obs, step, rng):
    """Reaches the goal or the time limit: balances, or pushes the way it moves."""
    if obs.shape[1] == 4:  # CartPole
        return (obs[:, 2] + 0.2 * obs[:, 3] > 0).astype(np.int64)
    velocity = obs[:, -1]  # of Acrobot's second link, a car, a pendulum
    if isinstance(space, gymnasium.spaces.Discrete):
        return np.where(velocity > 0, 2, 0)
    return np.where(velocity > 0, space.high, space.low)[:, None].astype(np.float32)


def original(env_id, num_envs, mode, **kwargs):
    def make():
        return gymnasium.make(env_id, disable_env_checker=True, **kwargs)

    return SyncVectorEnv([make] * num_envs, autoreset_mode=mode)


def assert_same_array(ours, theirs):
    assert type(ours) is type(theirs)
    assert ours.dtype == theirs.dtype
    assert ours.shape == theirs.shape
    if ours.dtype == object:
        for a, b in zip(ours, theirs, strict=True):
            assert (a is None) == (b is None)
            if a is not None:
                assert_same_array(a, b)
    else:
        assert ours.tobytes() == theirs.tobytes()


def assert_same_infos(ours, theirs):
    assert list(ours) == list(theirs)
    for name, value in theirs.items():
        same = assert_same_infos if isinstance(value, dict) else assert_same_array
        same(ours[name], value)


def assert_same_resets(batches, theirs, **arguments):
    """Also that options are left as they are, which the originals do not do."""
    options = arguments.pop("options", None)
    copy = None if options is None else dict(options)
    expected, expected_infos = theirs.reset(options=copy, **arguments)
    for ours in batches:
        before = None if options is None else dict(options)
        obs, infos = ours.reset(options=options, **arguments)
        assert options == before
        assert_same_array(obs, expected)
        assert_same_infos(infos, expected_infos)
    return expected


def assert_same_generators(ours, theirs):
    assert ours.np_random_seed == theirs.np_random_seed
    for a, b in zip(ours.np_random, theirs.np_random, strict=True):
        assert a.bit_generator.state == b.bit_generator.state


def play(batches, theirs, act, steps, obs, seed=0):
    """Step native batches and the originals side by side; counts of what happened."""
    rng = np.random.default_rng(seed)
    mode = theirs.metadata["autoreset_mode"]
    done = np.zeros(theirs.num_envs, bool)
    counts = Counter()
    for step in range(steps):
        if mode is AutoresetMode.DISABLED and done.any():
            obs = assert_same_resets(batches, theirs, options={"reset_mask": done})
        actions = act(theirs.single_action_space, obs, step, rng)
        expected = theirs.step(actions)
        for ours in batches:
            result = ours.step(actions)
            for a, b in zip(result[:4], expected[:4], strict=True):
                assert_same_array(a, b)
            assert_same_infos(result[4], expected[4])
        obs, _, terminated, truncated, _ = expected
        done = terminated | truncated
        counts["episodes"] += int(done.sum())
        counts["terminated"] += int(terminated.sum())
        counts["truncated"] += int(truncated.sum())
        counts["both"] += int((terminated & truncated).sum())
    return counts


def compare(
    env_id, num_envs, mode, act, steps, *, seed=0, threads=THREADS, attributes=(), **kwargs
):
    """Native batches on several numbers of threads against the originals."""
    batches = [
        ppo_fast.make_vec(env_id, num_envs, num_threads=n, autoreset_mode=mode, **kwargs)
        for n in threads
    ]
    theirs = original(env_id, num_envs, mode, **kwargs)
    for env in (*batches, theirs):
        for name, value in dict(attributes).items():
            env.set_attr(name, value)
    obs = assert_same_resets(batches, theirs, seed=seed)
    counts = play(batches, theirs, act, steps, obs)
    for ours in batches:
        assert_same_generators(ours, theirs)
    return counts


# The grid


@pytest.mark.parametrize("num_envs", [1, 3, 64])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_bits_equal_the_originals(env_id, mode, num_envs):
    steps = {1: 700, 3: 300, 64: 40}[num_envs]
    wild = extreme_actions if env_id in CONTINUOUS else random_actions
    seeds = [list(range(40, 40 + num_envs)), 2**31 - 2, 2**130 + 7]
    limited = compare(
        env_id, num_envs, mode, random_actions, steps, seed=seeds[0], max_episode_steps=13
    )
    compare(env_id, num_envs, mode, held_actions, steps, seed=seeds[1])
    compare(env_id, num_envs, mode, wild, steps, seed=seeds[2], max_episode_steps=50)
    assert limited["episodes"] >= num_envs * (steps // 14)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_bits_do_not_depend_on_threads(env_id, mode):
    # More environments than a tile, and not a whole number of tiles.
    counts = compare(
        env_id, 200, mode, random_actions, 25, seed=[5, *range(199)], max_episode_steps=9
    )
    assert counts["episodes"] > 200


@pytest.mark.slow
@pytest.mark.parametrize("act", [random_actions, held_actions, skilled_actions, extreme_actions])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_bits_equal_the_originals_for_long(env_id, mode, act):
    if act is extreme_actions and env_id in DISCRETE:
        pytest.skip("discrete actions have no extremes")
    for num_envs, steps in ((1, 6000), (3, 3000), (64, 300), (150, 100)):
        for seed, limit in ((7, None), (2**64, 31)):
            limits = {} if limit is None else {"max_episode_steps": limit}
            compare(env_id, num_envs, mode, act, steps, seed=seed, **limits)


# What episodes go through


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_goals_and_limits(env_id, mode):
    counts = compare(env_id, 4, mode, skilled_actions, 520)
    expected = "truncated" if env_id.startswith(("CartPole", "Pendulum")) else "terminated"
    assert counts[expected] >= 4


@pytest.mark.parametrize(
    ("env_id", "act", "limit"),
    [
        ("CartPole-v0", held_actions, 9),
        ("CartPole-v1", held_actions, 9),
        ("Acrobot-v1", skilled_actions, 73),
        ("MountainCar-v0", skilled_actions, 153),
        ("MountainCarContinuous-v0", skilled_actions, 78),
    ],
)
@pytest.mark.parametrize("mode", MODES)
def test_terminated_and_truncated_at_once(env_id, act, limit, mode):
    num_envs = 20
    counts = compare(env_id, num_envs, mode, act, 160, max_episode_steps=limit)
    assert counts["both"] > 0
    assert counts["truncated"] > counts["both"]
    assert counts["terminated"] > counts["both"]


def test_a_limit_of_one_step():
    for env_id in IDS:
        for mode in MODES:
            counts = compare(env_id, 3, mode, random_actions, 10, max_episode_steps=1)
            assert counts["truncated"] >= 15


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_resets_amid_episodes(env_id, mode):
    num_envs = 7
    batches = [
        ppo_fast.make_vec(
            env_id, num_envs, num_threads=n, autoreset_mode=mode, max_episode_steps=17
        )
        for n in (1, 5)
    ]
    theirs = original(env_id, num_envs, mode, max_episode_steps=17)
    obs = assert_same_resets(batches, theirs, seed=3)
    rng = np.random.default_rng(4)
    for round_ in range(12):
        play(batches, theirs, random_actions, int(rng.integers(1, 25)), obs, seed=round_)
        mask = rng.random(num_envs) < 0.5
        mask[round_ % num_envs] = True
        arguments = [
            {},
            {"seed": round_},
            {"options": {"reset_mask": mask}},
            {"options": {"reset_mask": mask}, "seed": 100 + round_},
            {"seed": [None, 5, None, 2**70, 0, None, round_]},
            {"options": {"reset_mask": mask}, "seed": [None, 5, None, 2**70, 0, None, round_]},
        ]
        obs = assert_same_resets(batches, theirs, **arguments[round_ % len(arguments)])
        # DISABLED: whatever is over by now has to start anew.
        obs = assert_same_resets(batches, theirs) if mode is AutoresetMode.DISABLED else obs
        for ours in batches:
            assert_same_generators(ours, theirs)


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("seed", [0, 1, 2**31, 2**32 + 5, 2**63, 2**130 + 7, [1, 2**200, 3]])
def test_seeds(env_id, seed):
    ours, theirs = ppo_fast.make_vec(env_id, 3), original(env_id, 3, AutoresetMode.NEXT_STEP)
    for arguments in ({"seed": seed}, {}, {"seed": [None, 4, None]}):
        assert_same_resets([ours], theirs, **arguments)
        assert_same_generators(ours, theirs)


# Keywords, attributes and options


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("env_id", "keywords"),
    [
        ("CartPole-v0", {"sutton_barto_reward": True}),
        ("CartPole-v1", {"sutton_barto_reward": True}),
        ("CartPole-v1", {"sutton_barto_reward": False}),
        ("MountainCar-v0", {"goal_velocity": 0.0}),
        ("MountainCar-v0", {"goal_velocity": 0.035}),
        ("MountainCarContinuous-v0", {"goal_velocity": 0.0}),
        ("MountainCarContinuous-v0", {"goal_velocity": 0.035}),
        ("Pendulum-v1", {"g": 9.81}),
        ("Pendulum-v1", {"g": 0.0}),
        ("Pendulum-v1", {"g": -3}),
    ],
)
def test_keywords(env_id, keywords, mode):
    act = skilled_actions if env_id.startswith("Mountain") else random_actions
    for num_envs, steps in ((2, 260), (40, 30)):
        counts = compare(env_id, num_envs, mode, act, steps, **keywords)
    if env_id.startswith("CartPole"):
        assert counts["terminated"] > 0


def test_goal_velocity_decides():
    for env_id in ("MountainCar-v0", "MountainCarContinuous-v0"):
        for goal_velocity, reached in ((0.03, True), (0.0701, False)):
            counts = compare(env_id, 5, MODES[0], skilled_actions, 190, goal_velocity=goal_velocity)
            assert (counts["terminated"] > 0) == reached


def numbers(base, count, seed):
    """Python floats about `base` with full mantissas; NumPy's would turn float32 into float64."""
    rng = np.random.default_rng(seed)
    return (base * rng.uniform(0.7, 1.3, count)).tolist()


CHOICES = {
    "sutton_barto_reward": None,  # a keyword, but no attribute of this name
    "kinematics_integrator": ["euler", "semi-implicit euler"],
    "book_or_nips": ["book", "nips"],
}
ZERO_BY_DEFAULT = {"torque_noise_max": 0.5, "goal_velocity": 0.02}
ATTRIBUTES = [
    (env_id, name)
    for env_id in IDS
    for name in NATIVE_SPECS[env_id].params
    if CHOICES.get(name, []) is not None
]


def attribute_values(env_id, name, count):
    if name in CHOICES:
        return [CHOICES[name][i % 2] for i in range(count)]
    [default] = ppo_fast.make_vec(env_id, 1).get_attr(name)
    return numbers(ZERO_BY_DEFAULT.get(name, default), count, zlib.crc32(name.encode()))


def test_the_attributes_are_those_of_the_originals():
    for env_id, name in ATTRIBUTES:
        ours = ppo_fast.make_vec(env_id, 2)
        theirs = original(env_id, 2, AutoresetMode.NEXT_STEP)
        assert ours.get_attr(name) == theirs.get_attr(name)
        assert ours.call(name) == theirs.call(name)


@pytest.mark.parametrize(("env_id", "name"), ATTRIBUTES)
def test_attributes(env_id, name):
    values = attribute_values(env_id, name, 10)
    act = random_actions if env_id.startswith("CartPole") else skilled_actions
    for mode, value in zip(MODES, (values, values[-1], tuple(values[::-1])), strict=True):
        compare(env_id, 10, mode, act, 90, threads=[1, 2], attributes={name: value}, seed=len(name))


@pytest.mark.parametrize("num_envs", [3, 70])
@pytest.mark.parametrize("env_id", IDS)
def test_all_attributes_at_once(env_id, num_envs):
    attributes = {
        name: attribute_values(env_id, name, num_envs)
        for known, name in ATTRIBUTES
        if known == env_id
    }
    steps = {3: 400, 70: 30}[num_envs]
    compare(env_id, num_envs, AutoresetMode.SAME_STEP, held_actions, steps, attributes=attributes)


@pytest.mark.parametrize("env_id", IDS)
def test_attributes_amid_an_episode(env_id):
    ours = ppo_fast.make_vec(env_id, 4)
    theirs = original(env_id, 4, AutoresetMode.NEXT_STEP)
    obs = assert_same_resets([ours], theirs, seed=1)
    for name in [name for known, name in ATTRIBUTES if known == env_id]:
        for env in (ours, theirs):
            env.set_attr(name, attribute_values(env_id, name, 4))
        play([ours], theirs, random_actions, 15, obs)
        for env in (ours, theirs):
            env.set_attr(name, attribute_values(env_id, name, 1)[0])
        play([ours], theirs, random_actions, 15, obs)
        assert ours.get_attr(name) == theirs.get_attr(name)


def full_force(space, obs, step, rng):
    return np.tile(space.high, (len(obs), 1))


@pytest.mark.parametrize(
    "attributes",
    [
        {name: limit + difference, "power": 0.01}
        for name, limit in (("goal_velocity", 0.07), ("goal_position", 0.6))
        for difference in (-1e-10, 0.0, 1e-10)
    ],
)
def test_goals_next_to_the_limits(attributes):
    # A velocity or position at its limit is a Python float in MountainCarContinuous, so it is
    # compared in float64, others in float32.
    env_id = "MountainCarContinuous-v0"
    compare(env_id, 3, MODES[0], full_force, 60, attributes=attributes)


def test_a_square_that_is_no_product():
    # l ** 2 is not l * l here, and the difference survives the rounding of 3 / (m * l ** 2).
    attributes = {"l": 1.8903560604397107, "m": 1.599731981455397}
    compare("Pendulum-v1", 3, MODES[0], random_actions, 100, attributes=attributes)


BOUNDS = [
    {"low": -0.1, "high": 0.2},
    {"low": -0.5},
    {"high": 0.25},
    {"low": 0.1, "high": 0.1},
    {"low": -2, "high": np.float32(2.5)},
    {"low": "-0.25", "high": "0.5"},
    {"low": -40.0, "high": 40.0, "nonsense": 3},
    {},
]
INITS = [
    {"x_init": 1.0, "y_init": 0.5},
    {"x_init": 0.3},
    {"y_init": 7},
    {"x_init": 0, "y_init": 0.0},
    {"x_init": "2.5", "y_init": np.float64(8.5)},
    {"x_init": 300.0, "y_init": 20.0, "low": "ignored"},
]


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        (env_id, options)
        for env_id in IDS
        for options in (INITS if env_id == "Pendulum-v1" else BOUNDS)
    ],
)
def test_reset_options(env_id, options):
    for mode in MODES:
        batches = [ppo_fast.make_vec(env_id, 6, num_threads=n, autoreset_mode=mode) for n in (1, 2)]
        theirs = original(env_id, 6, mode)
        obs = assert_same_resets(batches, theirs, seed=8, options=options)
        play(batches, theirs, random_actions, 30, obs)
        mask = np.array([True, False, True, True, False, False])
        obs = assert_same_resets(batches, theirs, seed=9)
        play(batches, theirs, random_actions, 3, obs)
        obs = assert_same_resets(batches, theirs, options={**options, "reset_mask": mask})
        play(batches, theirs, random_actions, 30, obs)
        assert_same_generators(batches[0], theirs)


@pytest.mark.parametrize(
    ("env_id", "options"),
    [
        *((env_id, {"low": 1, "high": 0.5}) for env_id in IDS if env_id != "Pendulum-v1"),
        ("CartPole-v1", {"low": "wide"}),
        ("Acrobot-v1", {"high": None}),
        ("MountainCar-v0", {"low": [1.0, 2.0]}),
        ("MountainCarContinuous-v0", {"high": -0.7}),
        ("CartPole-v1", {"low": -np.inf}),
        ("CartPole-v1", {"low": -1e308, "high": 1e308}),
        ("Acrobot-v1", {"high": np.inf}),
        ("Pendulum-v1", {"x_init": "wide"}),
        ("Pendulum-v1", {"x_init": -1.0}),
        ("Pendulum-v1", {"y_init": -1}),
        ("Pendulum-v1", {"y_init": np.inf}),
        ("Pendulum-v1", {"y_init": 1e308}),
    ],
)
@pytest.mark.filterwarnings("ignore:overflow encountered:RuntimeWarning")  # of the originals
def test_wrong_reset_options(env_id, options):
    ours, theirs = ppo_fast.make_vec(env_id, 2), original(env_id, 2, AutoresetMode.NEXT_STEP)
    assert_same_resets([ours], theirs, seed=0)
    state = ours.get_state()
    with pytest.raises((ValueError, OverflowError)):
        theirs.reset(options=dict(options))
    with pytest.raises(ValueError, match=r"reset: options\["):
        ours.reset(options=options)
    assert ours.get_state().tobytes() == state.tobytes()


# The other ways to step


@pytest.mark.parametrize("num_envs", [3, 70])
@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("env_id", IDS)
def test_step_into_equals_step(env_id, mode, num_envs):
    stepped, written = (
        ppo_fast.make_vec(env_id, num_envs, autoreset_mode=mode, max_episode_steps=11)
        for _ in range(2)
    )
    obs = stepped.reset(seed=6)[0]
    written.reset(seed=6)
    rng = np.random.default_rng(5)
    size = obs.shape[1]
    for step in range(60):
        actions = random_actions(stepped.single_action_space, obs, step, rng)
        obs, rewards, terminated, truncated, infos = stepped.step(actions)
        # Rows within wider arrays, which must stay as they are elsewhere.
        rows, finals = (np.full((num_envs, 2, size), 7, np.float32) for _ in range(2))
        scores = np.full((num_envs, 3), 7, np.float32 if step % 2 else np.float64)
        flags = np.zeros((2, num_envs, 2), bool)
        ended = written.step_into(
            actions, rows[:, 1], scores[:, 1], flags[0, :, 1], flags[1, :, 1], finals[:, 0]
        )
        assert_same_array(np.ascontiguousarray(rows[:, 1]), obs)
        assert_same_array(scores[:, 1].copy(), rewards.astype(scores.dtype))
        assert_same_array(flags[0, :, 1].copy(), terminated)
        assert_same_array(flags[1, :, 1].copy(), truncated)
        done = terminated | truncated
        assert ended == done.sum()
        if mode is AutoresetMode.SAME_STEP and ended:
            assert_same_array(finals[done, 0], np.stack(infos["final_obs"][done]))
        else:
            assert_same_array(finals[done, 0], obs[done])
        assert (finals[~done] == 7).all()
        assert (finals[:, 1] == 7).all()
        assert (rows[:, 0] == 7).all()
        assert (scores[:, [0, 2]] == 7).all()
        assert not flags[:, :, 0].any()


@pytest.mark.parametrize("env_id", CONTINUOUS)
@pytest.mark.parametrize("num_envs", [1, 2, 70])
def test_float64_actions_are_rounded(env_id, num_envs):
    a, b, c = (ppo_fast.make_vec(env_id, num_envs) for _ in range(3))
    for env in (a, b, c):
        env.reset(seed=2)
    rng = np.random.default_rng(2)
    for _ in range(50):
        actions = rng.uniform(-3, 3, (num_envs, 1))
        expected = a.step(actions.astype(np.float32))
        for env, same in ((b, actions), (c, np.stack([actions, actions], axis=2)[..., 1])):
            for x, y in zip(env.step(same)[:4], expected[:4], strict=True):
                assert_same_array(x, y)


@pytest.mark.parametrize("num_envs", [2, 70])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("env_id", IDS)
def test_replay_from_a_state(env_id, mode, num_envs):
    """Also from a state between an episode's end and its reset."""
    first, second = (
        ppo_fast.make_vec(
            env_id, num_envs, autoreset_mode=mode, max_episode_steps=12, num_threads=n
        )
        for n in (1, 2)
    )
    rng = np.random.default_rng(1)
    first.reset(seed=3)
    obs = first.reset(options={"reset_mask": np.arange(num_envs) % 2 == 0})[0]
    batch = [random_actions(first.single_action_space, obs, k, rng) for k in range(48)]

    def run(env, actions):
        digest = hashlib.sha256()
        done = np.zeros(num_envs, bool)
        for action in actions:
            if mode is AutoresetMode.DISABLED and done.any():
                digest.update(env.reset(options={"reset_mask": done})[0].tobytes())
            obs, rewards, terminated, truncated, _ = env.step(action)
            done = terminated | truncated
            for array in (obs, rewards, terminated, truncated):
                digest.update(array.tobytes())
        if mode is AutoresetMode.DISABLED and done.any():
            env.reset(options={"reset_mask": done})
        return digest.hexdigest()

    for start in range(0, 48, 6):  # 12 steps end an episode, so every second state is at an end
        state = first.get_state()
        kept = state.copy()
        expected = run(first, batch[start:])
        generators = [g.bit_generator.state for g in first.np_random]
        second.set_state(state)
        assert run(second, batch[start:]) == expected
        assert [g.bit_generator.state for g in second.np_random] == generators
        assert state.tobytes() == kept.tobytes()
        first.set_state(state)
        run(first, batch[start : start + 6])


# Instruction sets

ISAS = ["generic", "avx2", "avx512"]
SCRIPT = """
import hashlib

import numpy as np

import ppo_fast
from ppo_fast.envs import NATIVE_SPECS

print("isa", ppo_fast.build_info()["isa"])
for env_id in NATIVE_SPECS:
    for own_params in (False, True):
        digest = hashlib.sha256()
        rng = np.random.default_rng(0)
        env = ppo_fast.make_vec(env_id, 200, autoreset_mode="SameStep", max_episode_steps=40)
        space = env.single_action_space
        if own_params:
            for name in NATIVE_SPECS[env_id].params:
                [value, *_] = env.get_attr(name)
                if type(value) is float:
                    env.set_attr(name, (value * rng.uniform(0.8, 1.2, 200)).tolist())
        digest.update(env.reset(seed=1)[0])
        for step in range(300):
            if hasattr(space, "n"):
                actions = rng.integers(0, space.n, 200)
            else:
                actions = rng.uniform(1.2 * space.low, 1.2 * space.high, (200, 1))
            if step % 100 == 99:
                digest.update(env.reset()[0])
            for array in env.step(actions)[:4]:
                digest.update(array)
        digest.update(env.get_state())
        print(env_id + ("/own" if own_params else ""), digest.hexdigest())
"""


def isa_digests(isa):
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env=os.environ | {"PPO_FAST_ISA": isa},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    lines = dict(line.split() for line in done.stdout.splitlines())
    assert lines.pop("isa") == isa
    assert len(lines) == 2 * len(IDS)
    return lines


@pytest.fixture(scope="module")
def generic_digests():
    return isa_digests("generic")


@pytest.mark.parametrize("isa", ISAS[1:])
def test_every_instruction_set_gives_the_same_bits(isa, generic_digests):
    best = ppo_fast.build_info()["best_isa"]
    if ISAS.index(isa) > ISAS.index(best):
        pytest.skip(f"{isa} is more than this build or processor has: {best}")
    assert isa_digests(isa) == generic_digests
