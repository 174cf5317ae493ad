"""Native environments on a CUDA device, or on the CPU in its place (conftest.py: `device`)."""

import copy

import numpy as np
import pytest
from gymnasium.vector import AutoresetMode

torch = pytest.importorskip("torch")

import ppo_fast  # noqa: E402 - after the check for torch
import ppo_fast.cuda  # noqa: E402
from ppo_fast.envs.cuda import CudaVectorEnv  # noqa: E402
from ppo_fast.envs.native import NativeVectorEnv  # noqa: E402

ENV_IDS = [
    "CartPole-v1",
    "CartPole-v0",
    "Acrobot-v1",
    "MountainCar-v0",
    "MountainCarContinuous-v0",
    "Pendulum-v1",
]
MODES = [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]


def make_both(env_id, num_envs, device, **keywords):
    """A batch on the CPU and one on the device, reset with the same seeds."""
    keywords = {"autoreset_mode": AutoresetMode.NEXT_STEP, "max_episode_steps": 7} | keywords
    there = CudaVectorEnv(env_id, num_envs, device=device, **keywords)
    here = NativeVectorEnv(env_id, num_envs, **keywords)
    obs, infos = there.reset(seed=3)
    expected, _ = here.reset(seed=3)
    assert infos == {}
    assert obs.device.type == device
    np.testing.assert_array_equal(obs.cpu(), expected)
    return here, there


def draw(env, rng):
    """Actions of all environments, some of them beyond the bounds of a continuous one."""
    space = env.single_action_space
    if hasattr(space, "n"):
        return rng.integers(0, space.n, env.num_envs)
    return rng.uniform(-3, 3, (env.num_envs, *space.shape)).astype(np.float32)


def close(ours, other, device):
    """Equal to the bit where the CPU stands in, else to what libraries of functions differ in."""
    if device == "cpu":
        np.testing.assert_array_equal(ours.cpu(), other)
    else:
        np.testing.assert_allclose(ours.cpu(), other, rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("num_envs", [1, 64, 130])
@pytest.mark.parametrize("env_id", ENV_IDS)
def test_each_step_is_that_of_the_cpu(env_id, num_envs, mode, device):
    here, there = make_both(env_id, num_envs, device, autoreset_mode=mode, episode_stats=True)
    rng = np.random.default_rng(0)
    ended = 0
    for _ in range(20):
        there.set_state(here.get_state())
        actions = draw(here, rng)
        obs, rewards, terminated, truncated, infos = there.step(
            torch.from_numpy(actions).to(device)
        )
        expected = here.step(actions)
        close(obs, expected[0], device)
        close(rewards, expected[1], device)
        np.testing.assert_array_equal(terminated.cpu(), expected[2])
        np.testing.assert_array_equal(truncated.cpu(), expected[3])
        over = expected[2] | expected[3]
        ended += over.sum()
        np.testing.assert_array_equal(infos["_episode"].cpu(), over)
        if over.any():
            others = expected[4]
            close(infos["episode"]["r"].cpu()[over], others["episode"]["r"][over], device)
            np.testing.assert_array_equal(
                infos["episode"]["l"].cpu()[over], others["episode"]["l"][over]
            )
            if mode == AutoresetMode.SAME_STEP:
                final = np.stack([x for x in others["final_obs"] if x is not None])
                close(infos["final_obs"].cpu()[over], final, device)
                np.testing.assert_array_equal(infos["_final_obs"].cpu(), over)
    assert ended > 0


@pytest.mark.parametrize("mode", MODES)
def test_it_goes_on_by_itself(mode, device):
    # CartPole's trajectories stay together for a while even where sines differ in the last bit.
    here, there = make_both(
        "CartPole-v1", 70, device, autoreset_mode=mode, max_episode_steps=20, episode_stats=True
    )
    rng = np.random.default_rng(1)
    for _ in range(60):
        actions = draw(here, rng)
        obs, rewards, terminated, truncated, infos = there.step(
            torch.from_numpy(actions).to(device)
        )
        expected = here.step(actions)
        np.testing.assert_allclose(obs.cpu(), expected[0], rtol=1e-5, atol=1e-7)
        np.testing.assert_array_equal(rewards.cpu(), expected[1])
        np.testing.assert_array_equal(terminated.cpu(), expected[2])
        np.testing.assert_array_equal(truncated.cpu(), expected[3])
        over = expected[2] | expected[3]
        if over.any():
            for name in ("r", "l"):
                np.testing.assert_array_equal(
                    infos["episode"][name].cpu()[over], expected[4]["episode"][name][over]
                )


@pytest.mark.parametrize("rewards_dtype", [torch.float32, torch.float64])
def test_step_into(rewards_dtype, device):
    here, there = make_both(
        "Pendulum-v1", 65, device, autoreset_mode=AutoresetMode.SAME_STEP, max_episode_steps=2
    )
    given = {"device": device}
    outputs = [
        torch.full((65, 3), torch.nan, **given),
        torch.full((65,), torch.nan, dtype=rewards_dtype, **given),
        torch.ones(65, dtype=torch.bool, **given),
        torch.ones(65, dtype=torch.bool, **given),
        torch.full((65, 3), torch.nan, **given),
    ]
    rng = np.random.default_rng(2)
    for k in range(2):
        actions = draw(here, rng)
        assert there.step_into(torch.from_numpy(actions).to(device), *outputs) is None
        expected = here.step(actions)
        close(outputs[0], expected[0], device)
        np.testing.assert_allclose(outputs[1].cpu(), expected[1], rtol=1e-6)
        assert not outputs[2].any()
        assert bool(outputs[3].all()) == (k == 1)
        assert bool(outputs[4].isnan().all()) == (k == 0)


def test_actions_of_32_bits_and_out_of_range(device):
    _, there = make_both("MountainCar-v0", 4, device)
    state = there.get_state()
    results = []
    for actions in ([-5, 0, 2, 99], [0, 0, 2, 2]):
        for dtype in (torch.int64, torch.int32):
            there.set_state(state)
            results.append(there.step(torch.tensor(actions, dtype=dtype, device=device))[0])
    assert all(torch.equal(x, results[0]) for x in results)


def test_what_the_cpu_does_on_a_copy(device):
    here, there = make_both("CartPole-v1", 5, device)
    rng = np.random.default_rng(4)
    for _ in range(3):
        there.set_state(here.get_state())
        actions = draw(here, rng)
        there.step(torch.from_numpy(actions).to(device))
        here.step(actions)
    np.testing.assert_allclose(there.get_attr("state"), here.get_attr("state"), atol=1e-9)
    assert [g.random() for g in there.np_random] == [g.random() for g in here.np_random]
    for env in (here, there):
        env.set_attr("gravity", [9.8, 9.8, 1.0, 2.0, 3.0])
        env.set_generator(2, np.random.default_rng(77))
    mask = np.array([False, True, False, True, False])
    obs, _ = there.reset(seed=9, options={"reset_mask": mask, "low": -0.01})
    expected, _ = here.reset(seed=9, options={"reset_mask": mask, "low": -0.01})
    close(obs, expected, device)
    there.set_state(here.get_state())
    actions = draw(here, rng)
    close(there.step(torch.from_numpy(actions).to(device))[0], here.step(actions)[0], device)
    assert there.get_attr("gravity") == here.get_attr("gravity")


def test_generators_before_the_first_reset(device):
    there = CudaVectorEnv("CartPole-v1", 5, device=device)
    generators = there.np_random
    obs, _ = there.reset()
    expected = np.array([g.uniform(-0.05, 0.05, 4) for g in generators])
    np.testing.assert_allclose(obs.cpu(), expected, rtol=1e-6)


def test_attributes_stay_where_a_graph_reads_them(device):
    _, there = make_both("CartPole-v1", 5, device)
    address = there._params.data_ptr()
    there.set_attr("gravity", 3.0)
    assert there._params.data_ptr() == address
    there.set_attr("gravity", [1.0, 2.0, 3.0, 4.0, 5.0])
    address = there._params.data_ptr()
    with pytest.raises(TypeError, match="gravity"):
        there.set_attr("gravity", [1.0, 2.0, "three", 4.0, 5.0])
    assert there.get_attr("gravity") == (1.0, 2.0, 3.0, 4.0, 5.0)
    assert there._params.data_ptr() == address


@pytest.mark.parametrize(
    ("actions", "error", "message"),
    [
        ([0, 1, 0], TypeError, "actions must be a tensor on .*, got list"),
        (torch.zeros(3), TypeError, "actions must be int64 or int32, got float32"),
        (torch.zeros(4, dtype=torch.int64), ValueError, r"actions must have shape \(3,\)"),
        (torch.zeros(6, dtype=torch.int64)[::2], ValueError, "actions must be contiguous"),
        (torch.zeros(3, dtype=torch.int64, device="meta"), ValueError, "actions must be on"),
    ],
)
def test_errors_of_a_step(actions, error, message, device):
    _, there = make_both("CartPole-v1", 3, device)
    if isinstance(actions, torch.Tensor) and actions.device.type == "cpu":
        # A strided tensor must stay one.
        is_strided = not actions.is_contiguous()
        actions = actions.to(device)
        if is_strided:
            actions = actions.repeat(2)[::2]
    with pytest.raises(error, match=f"^step: {message}"):
        there.step(actions)


def test_outputs_that_do_not_fit(device):
    _, there = make_both("CartPole-v1", 3, device)
    actions = torch.zeros(3, dtype=torch.int64, device=device)
    flags = torch.zeros(3, dtype=torch.bool, device=device)
    rewards = torch.zeros(3, device=device)
    for obs in (torch.zeros(3, 5, device=device), torch.zeros(4, 4, device=device)):
        with pytest.raises(ValueError, match=r"^step: obs must have a row per environment"):
            there.step_into(actions, obs, rewards, flags, flags.clone())
    obs = torch.zeros(3, 4, device=device)
    with pytest.raises(TypeError, match=r"^step: obs must have the dtype"):
        there.step_into(actions, obs.double(), rewards, flags, flags.clone())
    with pytest.raises(TypeError, match=r"^step: truncated must be bool"):
        there.step_into(actions, obs, rewards, flags, rewards)


def test_arguments(device):
    with pytest.raises(ValueError, match=r"^make_vec: autoreset_mode must be NEXT_STEP"):
        CudaVectorEnv("CartPole-v1", device=device, autoreset_mode="Disabled")
    with pytest.raises(TypeError, match="has no keyword 'mass'"):
        CudaVectorEnv("CartPole-v1", device=device, mass=2.0)


def test_make_vec(monkeypatch, device):
    if device == "cpu":
        monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
    env = ppo_fast.make_vec("ppo_fast/CartPole-v1", 3, device="cuda", sutton_barto_reward=True)
    assert isinstance(env, CudaVectorEnv)
    env.reset(seed=0)
    actions = torch.zeros(3, dtype=torch.int64, device=device)
    assert not env.step(actions)[1].any()
    for keywords, message in (
        ({"num_threads": 2}, "num_threads is for environments on the CPU"),
        ({"backend": "gymnasium"}, "device 'cuda' is for backend 'native', got 'gymnasium'"),
    ):
        with pytest.raises(ValueError, match=f"^make_vec: {message}"):
            ppo_fast.make_vec("CartPole-v1", 3, device="cuda", **keywords)
    with pytest.raises(ValueError, match="is for native environments, which 'Taxi-v3' is not"):
        ppo_fast.make_vec("Taxi-v3", 3, device="cuda")


def test_without_a_gpu():
    reason = ppo_fast.build_info()["cuda_off"]
    if not reason:
        pytest.skip("there is a GPU")
    with pytest.raises(
        RuntimeError, match=r"^make_vec: device='cuda' cannot be used here: "
    ) as error:
        ppo_fast.make_vec("CartPole-v1", 4, device="cuda")
    assert str(error.value).endswith(reason)


def test_copies_are_refused(device):
    env = CudaVectorEnv("CartPole-v1", 3, device=device)
    with pytest.raises(TypeError, match="on a GPU cannot be pickled or copied; make others"):
        copy.deepcopy(env)
