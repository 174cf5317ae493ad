"""Headers of users on a CUDA device, or on the CPU in its place (conftest.py: `device`)."""

import shutil
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch")

import ppo_fast  # noqa: E402 - after the check for torch
import ppo_fast.cuda  # noqa: E402
from ppo_fast.envs import NATIVE_SPECS, BuildError, build, building  # noqa: E402
from ppo_fast.envs.cuda import CudaVectorEnv  # noqa: E402
from ppo_fast.envs.native import NativeVectorEnv  # noqa: E402

ROOT = Path(__file__).parents[1]
EXAMPLES = ["gridworld", "gridworld_continuous", "snake"]
# nvcc's part: the words it knows, and the launches of tests/cuda.
STAND_IN = [
    *("g++", "-std=c++20", "-O1", "-fPIC", "-shared", "-fvisibility=hidden", "-ffp-contract=off"),
    *("-D__CUDACC__", "-D__host__=", "-D__device__=", "-D__forceinline__=inline"),
    *(f"-I{ROOT / 'tests' / 'cuda'}", "-x", "c++"),
]

pytestmark = pytest.mark.skipif(not shutil.which("g++"), reason="there is no g++")
needs_nvcc = pytest.mark.skipif(not shutil.which("nvcc"), reason="there is no nvcc")


@pytest.fixture(autouse=True)
def _on_its_own(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PPO_FAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    known = dict(NATIVE_SPECS)
    yield
    NATIVE_SPECS.clear()
    NATIVE_SPECS.update(known)


@pytest.fixture
def built(device, monkeypatch):
    """`build(header, device="cuda")`, wherever that is."""
    if device == "cpu":
        monkeypatch.setattr(building, "_cuda_command", lambda device: STAND_IN)
        monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
    return lambda header, **keywords: build(header, device="cuda", **keywords)


@pytest.mark.parametrize("example", EXAMPLES)
def test_examples_step_as_on_the_cpu(example, built, device):
    maker = built(ROOT / "examples" / f"{example}.h")
    there = maker(70, autoreset_mode="SameStep")
    here = maker(70, autoreset_mode="SameStep", device="cpu")
    assert isinstance(there, CudaVectorEnv)
    assert isinstance(here, NativeVectorEnv)
    assert there.device.type == device
    expected, _ = here.reset(seed=1)
    np.testing.assert_array_equal(there.reset(seed=1)[0].cpu(), expected)
    here.action_space.seed(0)
    ended = 0
    for _ in range(80):
        there.set_state(here.get_state())
        actions = here.action_space.sample()
        results = there.step(torch.from_numpy(actions).to(device))
        expected = here.step(actions)
        for mine, other in zip(results[:4], expected[:4], strict=True):
            np.testing.assert_allclose(mine.cpu(), other, rtol=1e-6, atol=1e-9)
        ended += (expected[2] | expected[3]).sum()
    assert ended > 0


def test_make_vec_takes_a_header(built, device):
    header = ROOT / "examples" / "gridworld.h"
    env = ppo_fast.make_vec(str(header), 3, device="cuda", size=3)
    assert isinstance(env, CudaVectorEnv)
    assert env.reset(seed=0)[0].device.type == device
    assert env.get_attr("size") == (3, 3, 3)
    with pytest.raises(RuntimeError, match="GridWorld-v0 threw: size must be at least 2"):
        ppo_fast.make_vec(str(header), 3, device="cuda", size=1).reset(seed=0)


def test_what_a_reset_refuses_is_refused_before_the_device_has_it(built, device):
    env = built(ROOT / "examples" / "gridworld.h")(3, size=4)
    obs, _ = env.reset(seed=0)
    state = env.get_state()
    with pytest.raises(RuntimeError, match="GridWorld-v0 threw: size must be at least 2"):
        env.set_attr("size", 1)
    assert env.get_attr("size") == (4, 4, 4)
    np.testing.assert_array_equal(env.get_state(), state)
    env.step(torch.zeros(3, dtype=torch.int64, device=device))
    env.set_attr("size", 6)
    assert env.reset(seed=0)[0].shape == obs.shape


def test_old_batches_survive_a_new_build(built, device, tmp_path):
    text = (ROOT / "examples" / "gridworld.h").read_text()
    header = tmp_path / "grid.h"
    header.write_text(text.replace("GridWorld-v0", "Grid-v0"))
    old = built(header)(1)
    header.write_text(text.replace("GridWorld-v0", "Grid-v0").replace("? 1.0 :", "? 5.0 :"))
    new = built(header)(1)
    for env, reward in ((old, 1.0), (new, 5.0)):
        env.reset(seed=0)
        rewards = [env.step(torch.tensor([k % 4], device=device))[1].item() for k in range(3)]
        assert set(rewards) <= {-0.01, reward, 0.0}
        state = np.array(env.get_attr("state")[0])
        moves = [1] * int(max(state[2] - state[0], 0)) + [0] * int(max(state[0] - state[2], 0))
        moves += [3] * int(max(state[3] - state[1], 0)) + [2] * int(max(state[1] - state[3], 0))
        got = [env.step(torch.tensor([move], device=device))[1].item() for move in moves]
        assert got[-1] == reward


def test_built_for_the_cpu_only(built, tmp_path):
    header = tmp_path / "grid.h"
    text = (ROOT / "examples" / "gridworld.h").read_text()
    header.write_text(text.replace("GridWorld-v0", "Lone-v0"))
    maker = build(header)
    with pytest.raises(
        ValueError,
        match=r"^make_vec: Lone-v0 was built for the CPU only; for a GPU, ppo_fast\.envs",
    ):
        maker(2, device="cuda")
    assert isinstance(built(header)(2), CudaVectorEnv)


def test_two_headers_of_one_id(built, device, tmp_path):
    # The CPU's was built anew, with more state; the GPU's was not.
    header = tmp_path / "grid.h"
    text = (ROOT / "examples" / "gridworld.h").read_text().replace("GridWorld-v0", "Twice-v0")
    header.write_text(text)
    built(header)
    header.write_text(text.replace("goal_column, size;", "goal_column, size, more[100];"))
    env = build(header)(2, device="cuda")
    env.reset(seed=0)
    with pytest.raises(ValueError, match="the state of Twice-v0 is laid out otherwise on the CPU"):
        env.step(torch.zeros(2, dtype=torch.int64, device=device))


def test_arguments(built):
    header = ROOT / "examples" / "snake.h"
    with pytest.raises(ValueError, match=r"^build: device must be 'cpu' or 'cuda', got 'gpu'"):
        build(header, device="gpu")


def test_no_nvcc(device, monkeypatch):
    monkeypatch.setenv("CUDACXX", "no-such-nvcc")
    with pytest.raises(BuildError, match="there is no no-such-nvcc for device='cuda'; install"):
        build(ROOT / "examples" / "snake.h", device="cuda")


def test_without_a_gpu():
    reason = ppo_fast.build_info()["cuda_off"]
    if not reason:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"^build: device='cuda' cannot be used here: "):
        build(ROOT / "examples" / "snake.h", device="cuda")


@needs_nvcc
def test_nvcc_takes_a_header_beside_emulated_kernels(emulated, monkeypatch):
    monkeypatch.setattr(ppo_fast.cuda, "usable", lambda: (emulated, ""))
    monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    assert build(ROOT / "examples" / "snake.h", device="cuda").device == "cuda"
    assert emulated.find_env("Snake-v0") is not None
    assert emulated.find_env("Worm-v0") is None


@needs_nvcc
def test_functions_without_a_mark_beside_emulated_kernels(emulated, monkeypatch, tmp_path):
    monkeypatch.setattr(ppo_fast.cuda, "usable", lambda: (emulated, ""))
    monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (9, 0))
    text = (ROOT / "examples" / "snake.h").read_text()
    header = tmp_path / "snake.h"
    header.write_text(text.replace("PPO_HD static void observe", "static void observe"))
    with pytest.raises(BuildError, match=r"(?s)E::observe.*\nA GPU runs functions .* PPO_HD, e\.g"):
        build(header, device="cuda")
