"""Fixtures that several test files use."""

import importlib.util
import subprocess
import sys
from pathlib import Path

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


@pytest.fixture(scope="session")
def emulated():
    """`ppo_fast._cuda` without a GPU: its sources as plain C++, kernels on the CPU (tests/cuda)."""
    import ppo_fast.cuda

    pybind11 = pytest.importorskip("pybind11")
    root = Path(__file__).parents[1]
    build = root / "build" / "emulated"
    settings = {
        "PPO_FAST_CPP_TESTS": "ON",
        "PPO_FAST_CUDA": "OFF",
        "Python_EXECUTABLE": sys.executable,
        "pybind11_DIR": pybind11.get_cmake_dir(),
    }
    for command in (
        ["cmake", "-S", root, "-B", build, *(f"-D{k}={x}" for k, x in settings.items())],
        ["cmake", "--build", build, "--target", "_cuda_emulated"],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (build / "tests" / "cuda").glob("_cuda.*so")
    spec = importlib.util.spec_from_file_location("_cuda", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    ppo_fast.cuda.use_torch(module, "cpu")
    return module


@pytest.fixture(params=["emulated", "cuda"])
def device(request, monkeypatch):
    """Where the kernels of the GPU run: on the CPU, or on a GPU if there is one.

    The name of torch's device that tensors must be on.
    """
    import ppo_fast.cuda

    if request.param == "cuda":
        reason = ppo_fast.cuda.build_info()["cuda_off"]
        if reason:
            pytest.skip(reason)
        return "cuda"
    module = request.getfixturevalue("emulated")
    monkeypatch.setattr(ppo_fast.cuda, "usable", lambda: (module, ""))
    monkeypatch.setattr(ppo_fast.cuda, "holds", lambda tensor: True)
    return "cpu"


@pytest.fixture
def on_cpu(monkeypatch):
    """Calls a function while tensors on the CPU are the CPU's, whatever `device` says."""
    import ppo_fast.cuda

    def call(function):
        with monkeypatch.context() as patch:
            patch.setattr(ppo_fast.cuda, "holds", lambda tensor: tensor.is_cuda)
            return function()

    return call
