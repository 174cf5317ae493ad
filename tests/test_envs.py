"""The contract of native vector environments beyond CartPole's own arithmetic."""

import os
import subprocess
import sys
import threading

import gymnasium
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from gymnasium.vector import AutoresetMode, SyncVectorEnv

import ppo_fast


def make(num_envs=5, **kwargs):
    env = ppo_fast.make_vec("CartPole-v1", num_envs, **kwargs)
    env.reset(seed=0)
    return env


def rows(num_envs, dtype=np.float32):
    """Poisoned outputs for step_into: obs, rewards, terminated, truncated, final_obs."""
    return (
        np.full((num_envs, 4), np.nan, np.float32),
        np.full(num_envs, np.nan, dtype),
        np.zeros(num_envs, bool),
        np.zeros(num_envs, bool),
        np.full((num_envs, 4), np.nan, np.float32),
    )


def test_is_a_vector_env():
    env = make(3)
    assert isinstance(env, gymnasium.vector.VectorEnv)
    original = gymnasium.make_vec("CartPole-v1", 3, vectorization_mode="sync")
    assert env.observation_space == original.observation_space
    assert env.action_space == original.action_space
    assert env.single_observation_space == original.single_observation_space
    assert env.single_action_space == original.single_action_space
    assert env.metadata["autoreset_mode"] is AutoresetMode.NEXT_STEP
    assert env.observation_space.contains(env.reset(seed=1)[0])
    env.close()
    env.close()
    assert env.closed


@pytest.mark.parametrize("env_id", ["ppo_fast/CartPole-v1", "ppo_fast.envs:ppo_fast/CartPole-v1"])
def test_through_gymnasium(env_id):
    gymnasium.register_envs(ppo_fast.envs)
    env = gymnasium.make_vec(env_id, num_envs=3)
    assert isinstance(env, ppo_fast.envs.NativeVectorEnv)
    assert env.spec.id == "ppo_fast/CartPole-v1"
    assert env.spec.max_episode_steps == 500
    again = gymnasium.make_vec(env.spec)
    assert again.num_envs == 3
    np.testing.assert_array_equal(env.reset(seed=4)[0], again.reset(seed=4)[0])
    same_step = gymnasium.make_vec(env_id, num_envs=2, autoreset_mode=AutoresetMode.SAME_STEP)
    assert same_step.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP


def test_through_gymnasium_without_an_import_line():
    program = (
        "import gymnasium\n"
        "e = gymnasium.make_vec('ppo_fast.envs:ppo_fast/CartPole-v1', num_envs=2)\n"
        "print(type(e).__name__)"
    )
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "NativeVectorEnv"


def test_wrappers_of_gymnasium_run():
    env = gymnasium.wrappers.vector.RecordEpisodeStatistics(make(4))
    env = gymnasium.wrappers.vector.NormalizeObservation(env)
    env = gymnasium.wrappers.vector.NormalizeReward(env)
    env.reset(seed=0)
    episodes = 0
    for _ in range(100):
        *_, infos = env.step(np.ones(4, np.int64))
        episodes += int(infos.get("_episode", np.zeros(4)).sum())
    assert episodes > 4


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_step_into_equals_step(mode, dtype):
    num_envs = 70
    stepped = make(num_envs, autoreset_mode=mode)
    written = make(num_envs, autoreset_mode=mode)
    actions = np.random.default_rng(0).integers(0, 2, (200, num_envs))
    for action in actions:
        obs, rewards, terminated, truncated, infos = stepped.step(action)
        into = rows(num_envs, dtype)
        ended = written.step_into(action, *into)
        assert into[0].tobytes() == obs.tobytes()
        np.testing.assert_array_equal(into[1], rewards)
        np.testing.assert_array_equal(into[2], terminated)
        np.testing.assert_array_equal(into[3], truncated)
        done = terminated | truncated
        assert ended == done.sum()
        # Only the rows of ended episodes are written.
        np.testing.assert_array_equal(np.isnan(into[4]).any(axis=1), ~done)
        if mode is AutoresetMode.SAME_STEP and ended:
            np.testing.assert_array_equal(into[4][done], np.stack(infos["final_obs"][done]))
        elif ended:
            np.testing.assert_array_equal(into[4][done], obs[done])


def test_step_into_strided_rows():
    num_envs = 70
    plain, strided = make(num_envs), make(num_envs)
    wide = np.full((num_envs, 3, 4), -7, np.float32)
    flags = np.zeros((2, num_envs, 5), bool)
    rewards = np.full((num_envs, 2), -7, np.float32)
    action = np.ones(num_envs, np.int64)
    for _ in range(30):
        obs, reward, terminated, truncated, _ = plain.step(action)
        strided.step_into(action, wide[:, 1], rewards[:, 1], flags[0, :, 2], flags[1, :, 2], None)
        np.testing.assert_array_equal(wide[:, 1], obs)
        np.testing.assert_array_equal(rewards[:, 1], reward)
        np.testing.assert_array_equal(flags[0, :, 2], terminated)
        np.testing.assert_array_equal(flags[1, :, 2], truncated)
    assert (wide[:, [0, 2]] == -7).all()
    assert (rewards[:, 0] == -7).all()


def test_kept_observations_never_change():
    env = make(6)
    kept = []
    for _ in range(300):
        obs, rewards, terminated, truncated, _ = env.step(np.zeros(6, np.int64))
        kept.append((obs[1:3], rewards, terminated, truncated))  # a view of obs, not obs
    copies = [tuple(x.copy() for x in step) for step in kept]
    for _ in range(50):
        env.step(np.ones(6, np.int64))
    for step, copy in zip(kept, copies, strict=True):
        for a, b in zip(step, copy, strict=True):
            assert a.tobytes() == b.tobytes()


def test_returned_arrays_are_reused_when_nobody_holds_them():
    env = make(6)
    action = np.zeros(6, np.int64)
    addresses = {env.step(action)[0].ctypes.data for _ in range(100)}
    assert len(addresses) <= 2


def test_writing_into_an_observation_does_not_touch_the_environment():
    a, b = make(3), make(3)
    action = np.ones(3, np.int64)
    a.step(action)[0][:] = 99
    b.step(action)
    assert a.step(action)[0].tobytes() == b.step(action)[0].tobytes()


@pytest.mark.parametrize(
    "actions",
    [
        [0, 1, 1],
        (0, 1, 1),
        np.array([0, 1, 1], np.int32),
        np.array([0, 1, 1], np.uint8),
        np.array([0, 1, 1], np.int8),
        np.array([0, 9, 1, 9, 1, 9], np.int64)[::2],
    ],
)
def test_action_types(actions):
    expected = make(3).step(np.array([0, 1, 1]))[0]
    np.testing.assert_array_equal(make(3).step(actions)[0], expected)


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        (1, TypeError, "actions must be an array of one integer per environment, got int"),
        (np.int64(1), TypeError, "got int64"),
        (np.array(1), TypeError, "got a scalar"),
        (None, TypeError, "got NoneType"),
        ([0, 1], ValueError, r"actions must have shape \(3,\).*got \(2,\)"),
        ([0, 1, 0, 1], ValueError, r"got \(4,\)"),
        (np.zeros((3, 1), int), ValueError, r"got \(3, 1\)"),
        ([0, 1, 2], ValueError, r"must be in \[0, 2\), got 2 for environment 2"),
        ([0, -1, 1], ValueError, "got -1 for environment 1"),
        (np.array([2**40, 0, 0]), ValueError, "got 1099511627776 for environment 0"),
        (np.array([2**64 - 1, 0, 0], np.uint64), ValueError, "for environment 0"),
        ([0.0, 1.0, 1.0], TypeError, "must be integers, got float64"),
        (np.array([True, False, True]), TypeError, "must be integers, got bool"),
        (["a", "b", "c"], TypeError, "must be integers, got <U1"),
        (np.empty(3, "V0"), TypeError, "must be integers"),
        ([[0], [1, 2], [1]], TypeError, "must be a flat list"),
    ],
)
def test_wrong_actions_leave_the_state_alone(actions, error, message):
    env, untouched = make(3), make(3)
    with pytest.raises(error, match=message):
        env.step(actions)
    action = np.zeros(3, np.int64)
    assert env.step(action)[0].tobytes() == untouched.step(action)[0].tobytes()


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({0: np.zeros((5, 4))}, TypeError, "obs must be float32, got float64"),
        ({0: np.zeros((5, 3), np.float32)}, ValueError, r"obs must have shape \(5, 4\)"),
        ({0: np.zeros((4, 5), np.float32).T}, ValueError, "obs must have contiguous rows"),
        ({0: [0.0]}, TypeError, "obs must be a NumPy array, got list"),
        ({1: np.zeros(5, np.int64)}, TypeError, "rewards must be float32 or float64, got int64"),
        ({1: np.zeros(6)}, ValueError, r"rewards must have shape \(5,\), got \(6,\)"),
        ({2: np.zeros(5, np.uint8)}, TypeError, "terminated must be bool, got uint8"),
        ({3: np.zeros((5, 1), bool)}, ValueError, r"truncated must have shape \(5,\)"),
        ({4: np.zeros((2, 4), np.float32)}, ValueError, "final_obs must have shape"),
    ],
)
def test_wrong_outputs(change, error, message):
    outputs = list(rows(5))
    for index, value in change.items():
        outputs[index] = value
    with pytest.raises(error, match=message):
        make(5).step_into(np.zeros(5, np.int64), *outputs)


def test_one_array_for_two_outputs():
    obs, rewards, terminated, truncated, _ = rows(5)
    env, action = make(5), np.zeros(5, np.int64)
    with pytest.raises(ValueError, match="truncated must not be the memory of terminated"):
        env.step_into(action, obs, rewards, terminated, terminated)
    with pytest.raises(ValueError, match="final_obs must not be the memory of obs"):
        env.step_into(action, obs, rewards, terminated, truncated, obs)


def test_read_only_output():
    outputs = rows(5)
    outputs[0].flags.writeable = False
    with pytest.raises(ValueError, match="obs must be writable"):
        make(5).step_into(np.zeros(5, np.int64), *outputs)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"env_id": "CartPol-v1"}, ValueError, "did you mean .*CartPole-v1"),
        ({"env_id": "Nonsense"}, ValueError, "unknown environment 'Nonsense'"),
        ({"env_id": "FrozenLake-v1", "backend": "native"}, ValueError, "native are: CartPole-v1, "),
        ({"backend": "x"}, ValueError, "backend must be one of"),
        ({"device": "gpu"}, ValueError, "device must be 'cpu' or 'cuda', got 'gpu'"),
        ({"num_envs": 0}, ValueError, "num_envs must be at least 1, got 0"),
        ({"num_envs": 2.5}, TypeError, "num_envs must be an integer, got 2.5"),
        ({"num_envs": 2**64}, ValueError, r"num_envs must be below 2\*\*31"),
        ({"num_threads": "2"}, TypeError, "num_threads must be an integer, got '2'"),
        ({"max_episode_steps": 1.5}, TypeError, "max_episode_steps must be an integer"),
        ({"env_id": 3}, TypeError, "env_id must be a string, got int"),
        (
            {"env_id": "no_such_module:X-v0"},
            ValueError,
            "unknown environment 'no_such_module:X-v0'",
        ),
        ({"num_threads": 0}, ValueError, "num_threads must be at least 1"),
        ({"max_episode_steps": 0}, ValueError, "max_episode_steps must be from 1"),
        ({"autoreset_mode": "x"}, ValueError, "AutoresetMode"),
        (
            {"weight": 3.0},
            TypeError,
            "has no keyword 'weight'; it has: sutton_barto_reward, gravity",
        ),
        (
            {"sutton_barto_reward": 1},
            TypeError,
            "sutton_barto_reward must be True or False, got int",
        ),
        ({"gravity": "9.8"}, TypeError, "gravity must be a number, got str"),
        (
            {"kinematics_integrator": "x"},
            ValueError,
            "kinematics_integrator must be one of 'euler', 'semi-implicit euler', got 'x'",
        ),
        (
            {"render_mode": "human"},
            ValueError,
            "render_mode must be 'rgb_array' or None, got 'human'; for others use "
            r"gymnasium.make\('CartPole-v1', render_mode='human'\)",
        ),
    ],
)
def test_make_vec_errors(arguments, error, message):
    with pytest.raises(error, match=message):
        ppo_fast.make_vec(**{"env_id": "CartPole-v1", "num_envs": 2, **arguments})


@pytest.mark.parametrize(
    ("seed", "error", "message"),
    [
        ([1, 2], ValueError, r"one entry per environment \(5\), got 2"),
        (-1, ValueError, "must not be negative, got -1"),
        ("x", TypeError, "seed must be an integer, a list of integers or None, got 'x'"),
        (1.5, TypeError, "seed must be an integer, a list"),
        ([1, 2, 3, 4, 1.5], TypeError, "integer"),
    ],
)
def test_wrong_seeds(seed, error, message):
    with pytest.raises(error, match=message):
        make(5).reset(seed=seed)


def test_wrong_options():
    with pytest.raises(TypeError, match="options must be a dict or None, got 5"):
        make(5).reset(options=5)
    with pytest.raises(ValueError, match=r"options\['low'\] must be a number, got nan"):
        make(5).reset(options={"low": np.nan})


def test_ids_with_a_module(tmp_path, monkeypatch):
    (tmp_path / "ppo_fast_example.py").write_text(
        "import gymnasium\n"
        "gymnasium.register('Example-v0', "
        "entry_point='gymnasium.envs.classic_control.cartpole:CartPoleEnv', max_episode_steps=7)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    env = ppo_fast.make_vec("ppo_fast_example:Example-v0", 2)
    assert env.reset(seed=0)[0].shape == (2, 4)
    native = ppo_fast.make_vec("ppo_fast.envs:ppo_fast/CartPole-v1", 2)
    assert isinstance(native, ppo_fast.envs.NativeVectorEnv)


def test_step_before_reset():
    env = ppo_fast.make_vec("CartPole-v1", 2)
    with pytest.raises(ResetNeeded):
        env.step([0, 0])
    with pytest.raises(ResetNeeded):
        env.step_into([0, 0], *rows(2))


def test_any_other_environment_is_gymnasiums(foreign_env):
    env = ppo_fast.make_vec(foreign_env, 2, autoreset_mode=AutoresetMode.SAME_STEP)
    assert isinstance(env, SyncVectorEnv)
    assert env.metadata["autoreset_mode"] is AutoresetMode.SAME_STEP
    assert isinstance(ppo_fast.make_vec("CartPole-v1", 2, backend="gymnasium"), SyncVectorEnv)
    limited = ppo_fast.make_vec(foreign_env, 1, max_episode_steps=3)
    limited.reset(seed=0)
    truncated = [bool(limited.step([0])[3][0]) for _ in range(3)]
    assert truncated == [False, False, True]


def test_state_round_trip():
    env = make(70, autoreset_mode=AutoresetMode.SAME_STEP)
    actions = np.random.default_rng(0).integers(0, 2, (100, 70))
    for action in actions[:40]:
        env.step(action)
    state = env.get_state()
    expected = [env.step(action)[0].tobytes() for action in actions[40:]]
    other = ppo_fast.make_vec("CartPole-v1", 70, autoreset_mode=AutoresetMode.SAME_STEP)
    other.set_state(state)
    assert [other.step(action)[0].tobytes() for action in actions[40:]] == expected
    with pytest.raises(ValueError, match="state must have shape"):
        other.set_state(state[:100])
    # Of other environments, though of as many bytes.
    acrobot = ppo_fast.make_vec("Acrobot-v1", 70)
    for foreign in (make(69), acrobot):
        with pytest.raises(ValueError, match="for 70 environments of CartPole-v1; this is another"):
            other.set_state(foreign.get_state())
    with pytest.raises(TypeError, match="state must be uint8"):
        other.set_state(state.astype(np.float32))


def test_two_threads_cannot_corrupt_an_environment():
    num_envs = 50_000  # long enough for a step to release the GIL
    env = make(num_envs, num_threads=1)
    action = np.zeros(num_envs, np.int64)
    messages = []

    def play():
        for _ in range(50):
            try:
                env.step(action)
            except RuntimeError as error:
                messages.append(str(error))

    threads = [threading.Thread(target=play) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("stepped by another thread" in message for message in messages)
    assert env.step(action)[0].shape == (num_envs, 4)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this platform has no fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:os.fork")  # JAX, if a test has loaded it, is against forks
def test_works_after_fork():
    env = make(5000, num_threads=3)
    action = np.zeros(5000, np.int64)
    env.step(action)
    child = os.fork()
    if child == 0:
        env.step(action)
        os._exit(0)
    expected = env.step(action)[0]
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert expected.shape == (5000, 4)
