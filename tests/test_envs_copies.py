"""Native environments that are pickled or copied in the middle of their episodes."""

import copy
import pickle
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import ppo_fast
from ppo_fast.envs import NATIVE_SPECS

WAYS = {"pickle": lambda env: pickle.loads(pickle.dumps(env)), "deepcopy": copy.deepcopy}


def actions_of(space, rng, *shape):
    if hasattr(space, "n"):
        return rng.integers(0, space.n, shape)
    return rng.uniform(-1, 1, (*shape, *space.shape)).astype(np.float32)


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("mode", ["NextStep", "SameStep"])
@pytest.mark.parametrize("env_id", list(NATIVE_SPECS))
def test_a_batch_goes_on_with_the_same_bits(env_id, mode, way):
    settings = {"max_episode_steps": 20, "episode_stats": True, "autoreset_mode": mode}
    env = ppo_fast.make_vec(env_id, 70, num_threads=2, **settings)
    name = env._native_spec.params[0]
    values = [float(env.get_attr(name)[0]) * (1 + k / 100) for k in range(70)]
    if isinstance(env.get_attr(name)[0], float):
        env.set_attr(name, values)
    env.reset(seed=3)
    rng = np.random.default_rng(0)
    for action in actions_of(env.single_action_space, rng, 30, 70):
        env.step(action)
    other = WAYS[way](env)
    assert (other.num_threads, other.spec, other.np_random_seed) == (
        2,
        env.spec,
        env.np_random_seed,
    )
    assert other.get_attr(name) == env.get_attr(name)
    for action in actions_of(env.single_action_space, rng, 50, 70):
        *ours, infos = env.step(action)
        *theirs, other_infos = other.step(action)
        assert [x.tobytes() for x in ours] == [x.tobytes() for x in theirs]
        assert infos.keys() == other_infos.keys()
    assert env.get_state().tobytes() == other.get_state().tobytes()


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_single_environment_behind_gymnasiums_wrappers(env_id, way):
    env = gymnasium.make(f"ppo_fast/{env_id}")
    env.reset(seed=1)
    action = env.action_space.sample()
    env.step(action)
    other = WAYS[way](env)
    for _ in range(3):
        assert env.step(action)[0].tobytes() == other.step(action)[0].tobytes()
    assert env.reset()[0].tobytes() == other.reset()[0].tobytes()


def test_a_copy_draws_the_same_frame():
    pytest.importorskip("pygame")
    env = gymnasium.make("ppo_fast/CartPole-v1", render_mode="rgb_array")
    env.reset(seed=1)
    env.render()
    other = copy.deepcopy(env)
    assert env.render().tobytes() == other.render().tobytes()


def _step(env):
    return env.step(np.zeros(env.num_envs, np.int64))[0]


def test_in_another_process():
    env = ppo_fast.make_vec("CartPole-v1", 3)
    env.reset(seed=1)
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        theirs = pool.submit(_step, env).result()
    assert theirs.tobytes() == _step(env).tobytes()


def test_a_header_has_to_be_built_there(tmp_path):
    header = Path(__file__).parents[1] / "examples" / "gridworld.h"
    env = ppo_fast.make_vec(str(header), 3)
    env.reset(seed=1)
    other = copy.deepcopy(env)
    assert _step(other).tobytes() == _step(env).tobytes()
    path = tmp_path / "env.pickle"
    path.write_bytes(pickle.dumps(env))
    code = f"import pickle; pickle.load(open({str(path)!r}, 'rb'))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "is not known in this process; build its header here first" in done.stderr
