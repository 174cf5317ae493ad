"""Fixtures that several test files use."""

import gymnasium
import pytest
import tiny_envs


@pytest.fixture
def one_torch_thread():
    """The order of torch's sums must not depend on what else the machine does."""
    torch = pytest.importorskip("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def foreign_env():
    """Id of an environment that is not native: Gymnasium's Acrobot under another name."""
    env_id = "foreign/Acrobot-v1"
    spec = gymnasium.spec("Acrobot-v1")
    gymnasium.register(env_id, spec.entry_point, max_episode_steps=spec.max_episode_steps)
    yield env_id
    del gymnasium.registry[env_id]


@pytest.fixture
def tiny():
    """Ids of tiny environments by their kind of actions: choices, bits, pair."""
    tiny_envs.register()
    yield tiny_envs.IDS
    tiny_envs.unregister()


@pytest.fixture
def faulty():
    """The class of the environment `tiny_envs.FAULTY`, whose `fault` a test sets."""
    tiny_envs.register()
    yield tiny_envs.Faulty
    tiny_envs.unregister()
