"""Native CartPole against Gymnasium's own, bit for bit."""

import platform

import gymnasium
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import ppo_fast

pytestmark = pytest.mark.skipif(
    platform.machine() not in ("x86_64", "AMD64") or platform.libc_ver()[0] != "glibc",
    reason="bits are promised on x86-64 with glibc only",
)

MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def original(num_envs, mode, **kwargs):
    return SyncVectorEnv(
        [lambda: gymnasium.make("CartPole-v1", **kwargs)] * num_envs, autoreset_mode=mode
    )


def assert_same_infos(ours, theirs):
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        if key == "final_obs":
            for a, b in zip(ours[key], value, strict=True):
                np.testing.assert_array_equal(a, b)
                if b is not None:
                    assert a.dtype == b.dtype
        elif isinstance(value, dict):
            assert_same_infos(ours[key], value)
        else:
            np.testing.assert_array_equal(ours[key], value)
            assert ours[key].dtype == value.dtype


def assert_same_steps(ours, theirs, actions, seed):
    obs, infos = ours.reset(seed=seed)
    expected, expected_infos = theirs.reset(seed=seed)
    np.testing.assert_array_equal(obs, expected)
    assert infos == expected_infos == {}
    episodes = 0
    for action in actions:
        result = ours.step(action)
        reference = theirs.step(action)
        for a, b in zip(result[:4], reference[:4], strict=True):
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes()
        assert_same_infos(result[4], reference[4])
        episodes += int((result[2] | result[3]).sum())
    return episodes


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize(("num_envs", "steps"), [(1, 20_000), (20, 3_000), (130, 500)])
def test_bits_equal_gymnasium(mode, num_threads, num_envs, steps):
    rng = np.random.default_rng(7)
    actions = rng.integers(0, 2, (steps, num_envs))
    ours = ppo_fast.make_vec("CartPole-v1", num_envs, autoreset_mode=mode, num_threads=num_threads)
    episodes = assert_same_steps(ours, original(num_envs, mode), actions, seed=11)
    assert episodes > num_envs * steps / 100


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("num_threads", "num_envs"), [(1, 20), (3, 130)])
def test_bits_equal_gymnasium_for_long(mode, num_threads, num_envs):
    test_bits_equal_gymnasium(mode, num_threads, num_envs, 20_000)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_envs", [2, 70])
def test_bits_equal_with_both_flags_at_once(mode, num_envs):
    # A limit of 9 steps cuts episodes, and some of these end by falling at that very step.
    rng = np.random.default_rng(1)
    actions = np.ones((400, num_envs), dtype=np.int64)
    actions[rng.random(actions.shape) < 0.02] = 0
    ours = ppo_fast.make_vec("CartPole-v1", num_envs, autoreset_mode=mode, max_episode_steps=9)
    assert_same_steps(
        ours, original(num_envs, mode, max_episode_steps=9), actions, seed=[5] * num_envs
    )
    ours.reset(seed=[5] * num_envs)
    both = 0
    for action in actions:
        _, _, terminated, truncated, _ = ours.step(action)
        both += int((terminated & truncated).sum())
    assert both > 0


def test_bits_equal_with_sutton_barto_reward():
    actions = np.random.default_rng(2).integers(0, 2, (500, 20))
    ours = ppo_fast.make_vec("CartPole-v1", 20, sutton_barto_reward=True)
    theirs = original(20, AutoresetMode.NEXT_STEP, sutton_barto_reward=True)
    assert_same_steps(ours, theirs, actions, seed=3)


def test_bits_do_not_depend_on_the_batch():
    # 64 and more environments go through the vector code, fewer go one by one.
    actions = np.random.default_rng(3).integers(0, 2, (1000, 200))
    whole = ppo_fast.make_vec("CartPole-v1", 200, num_threads=2)
    whole.reset(seed=0)
    parts = [ppo_fast.make_vec("CartPole-v1", 10, num_threads=1) for _ in range(20)]
    for k, part in enumerate(parts):
        part.reset(seed=10 * k)
    for action in actions:
        obs = whole.step(action)[0]
        split = [part.step(action[10 * k : 10 * k + 10])[0] for k, part in enumerate(parts)]
        assert obs.tobytes() == np.concatenate(split).tobytes()


def test_seeds():
    ours = ppo_fast.make_vec("CartPole-v1", 3)
    theirs = original(3, AutoresetMode.NEXT_STEP)
    for seed in (0, 2**31, 2**32 + 5, 2**63, 2**130 + 7, [1, 2**200, 3]):
        assert ours.reset(seed=seed)[0].tobytes() == theirs.reset(seed=seed)[0].tobytes()
        assert ours.np_random_seed == theirs.np_random_seed
    # None goes on with the same generators, alone or in a list.
    assert ours.reset()[0].tobytes() == theirs.reset()[0].tobytes()
    assert ours.reset(seed=[None, 4, None])[0].tobytes() == (
        theirs.reset(seed=[None, 4, None])[0].tobytes()
    )
    assert ours.np_random_seed == theirs.np_random_seed


def test_unseeded_environments_differ():
    first = ppo_fast.make_vec("CartPole-v1", 4)
    obs, _ = first.reset()
    assert len({row.tobytes() for row in obs}) == 4
    again = ppo_fast.make_vec("CartPole-v1", 4)
    assert again.reset()[0].tobytes() != obs.tobytes()
    # The seeds it chose are known, and reproduce it.
    again.reset(seed=list(first.np_random_seed))
    assert again.reset(seed=list(first.np_random_seed))[0].tobytes() == obs.tobytes()


def test_reset_options():
    ours = ppo_fast.make_vec("CartPole-v1", 3)
    theirs = original(3, AutoresetMode.NEXT_STEP)
    options = {"low": -0.1, "high": 0.2}
    a = ours.reset(seed=1, options=options)[0]
    assert a.tobytes() == theirs.reset(seed=1, options=dict(options))[0].tobytes()
    assert options == {"low": -0.1, "high": 0.2}
    mask = np.array([True, False, True])
    b = ours.reset(options={"reset_mask": mask})[0]
    assert b.tobytes() == theirs.reset(options={"reset_mask": mask})[0].tobytes()
    np.testing.assert_array_equal(a[1], b[1])
    for bad in ({"low": "x"}, {"low": 1.0, "high": 0.0}, {"reset_mask": np.array([True])}):
        with pytest.raises(ValueError, match=r"reset: `?options"):
            ours.reset(options=bad)
    for bad_mask in ([True, False, True], np.ones(3)):
        with pytest.raises(TypeError, match="reset_mask"):
            ours.reset(options={"reset_mask": bad_mask})


def test_disabled_autoreset():
    ours = ppo_fast.make_vec("CartPole-v1", 2, autoreset_mode=AutoresetMode.DISABLED)
    theirs = original(2, AutoresetMode.DISABLED)
    ours.reset(seed=0)
    theirs.reset(seed=0)
    done = np.zeros(2, bool)
    for _ in range(300):
        if done.any():
            with pytest.raises(ValueError, match="is over; reset it"):
                ours.step([1, 1])
            a = ours.reset(options={"reset_mask": done})[0]
            b = theirs.reset(options={"reset_mask": done})[0]
            assert a.tobytes() == b.tobytes()
        result, reference = ours.step(np.array([1, 0])), theirs.step(np.array([1, 0]))
        for x, y in zip(result[:4], reference[:4], strict=True):
            assert x.tobytes() == y.tobytes()
        done = result[2] | result[3]
