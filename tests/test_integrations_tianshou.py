"""Tianshou trains to the same bits with our advantages as with its own."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("tianshou", minversion="2")
import torch
from tianshou.algorithm import A2C, PPO, TRPO, Reinforce, algorithm_base
from tianshou.algorithm.modelfree.reinforce import DiscreteActorPolicy
from tianshou.algorithm.optim import AdamOptimizerFactory
from tianshou.data import Collector, VectorReplayBuffer
from tianshou.env import DummyVectorEnv
from tianshou.trainer import OnPolicyTrainerParams
from tianshou.utils.net.common import Net
from tianshou.utils.net.discrete import DiscreteCritic

from ppo_fast import advantage, integrations
from ppo_fast.integrations import tianshou

OWN = algorithm_base._gae
FACTORS = [(0.99, 0.95), (0.995, 0.9), (0.98, 0.8), (0.9, 1.0), (1.0, 1.0), (0.99, 0.0), (0.0, 0.5)]


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def calls(monkeypatch):
    """How many transitions our function was given, call by call."""
    counts = []
    ours = advantage.gae

    def counting(rewards, *args, **kwargs):
        counts.append(len(rewards))
        return ours(rewards, *args, **kwargs)

    monkeypatch.setattr(advantage, "gae", counting)
    return counts


# Each pair of dtypes costs a compilation by numba.
@pytest.mark.parametrize(
    ("values_dtype", "rewards_dtype"),
    [(np.float32, np.float64), (np.float64, np.float64), (np.float32, np.float32)],
)
@pytest.mark.parametrize("size", [0, 1, 2, 7, 500, 20_000])
def test_bits_of_the_original(size, values_dtype, rewards_dtype):
    rng = np.random.default_rng(size)
    v_s, v_s_ = rng.normal(size=(2, size)).astype(values_dtype)
    rew = (10 * rng.normal(size=size)).astype(rewards_dtype)
    # Long episodes among many transitions: an end hides what was rounded differently after it.
    end_flag = rng.random(size) < min(0.1, 10 / max(size, 1))
    v_s_ *= ~end_flag | (rng.random(size) < 0.5)
    for gamma, gae_lambda in FACTORS:
        theirs = OWN(v_s, v_s_, rew, end_flag, gamma, gae_lambda)
        ours = tianshou.gae(v_s, v_s_, rew, end_flag, gamma, gae_lambda)
        assert ours.dtype == theirs.dtype == np.float64
        assert ours.shape == theirs.shape
        assert ours.tobytes() == theirs.tobytes()


@pytest.mark.parametrize("gamma", [1, np.float32(0.99)])
def test_factors_that_are_no_python_floats_agree_to_rounding(gamma):
    rng = np.random.default_rng(1)
    v_s, v_s_, rew = rng.normal(size=(3, 500)).astype(np.float32)
    end_flag = rng.random(500) < 0.1
    theirs = OWN(v_s, v_s_, rew, end_flag, gamma, 0.95)
    ours = tianshou.gae(v_s, v_s_, rew, end_flag, gamma, 0.95)
    assert ours.dtype == theirs.dtype == np.float64
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-5)


def test_by_hand():
    v_s, v_s_, rew = np.array([[4, 8, 2], [8, 2, 4], [1, 2, 3]], np.float32)
    advantages = tianshou.gae(v_s, v_s_, rew, np.array([False, True, False]), 0.5, 0.5)
    # 3 + 4/2 - 2 = 3;  2 + 2/2 - 8 = -5, where an episode ends;  1 + 8/2 - 4 - 5/4 = -0.25.
    np.testing.assert_array_equal(advantages, [-0.25, -5, 3])


def test_inputs_are_not_written():
    arrays = [np.ones(5), np.full(5, 2.0), np.full(5, 3.0), np.array([False, True] * 2 + [True])]
    copies = [array.copy() for array in arrays]
    advantages = tianshou.gae(*arrays, 0.99, 0.95)
    for array, copy in zip(arrays, copies, strict=True):
        np.testing.assert_array_equal(array, copy)
        assert not np.shares_memory(array, advantages)


def test_wrong_arguments():
    five, ends = np.ones(5), np.zeros(5, bool)
    with pytest.raises(ValueError, match=r"gae: next_values must have shape \(5,\)"):
        tianshou.gae(five, np.ones(4), five, ends, 0.99, 0.95)
    with pytest.raises(ValueError, match=r"gae: gamma must be in \[0, 1\], got 1.5"):
        tianshou.gae(five, five, five, ends, 1.5, 0.95)


def cartpole():
    # Short enough for episodes of both kinds of end.
    return gym.make("CartPole-v1", max_episode_steps=20)


def trained(algorithm, **settings):
    np.random.seed(0)  # noqa: NPY002 - the generator that Tianshou shuffles with
    torch.manual_seed(0)
    envs = DummyVectorEnv([cartpole for _ in range(2)])
    envs.seed(0)
    space = cartpole().observation_space
    policy = DiscreteActorPolicy(
        actor=Net(state_shape=space.shape, action_shape=2, hidden_sizes=[8]),
        action_space=envs.action_space[0],
        observation_space=space,
    )
    if algorithm is not Reinforce:
        net = Net(state_shape=space.shape, hidden_sizes=[8])
        settings["critic"] = DiscreteCritic(preprocess_net=net)
    model = algorithm(policy=policy, optim=AdamOptimizerFactory(lr=1e-2), gamma=0.98, **settings)
    initial = {name: tensor.detach().clone() for name, tensor in model.named_parameters()}
    collector = Collector(model, envs, VectorReplayBuffer(128, 2))
    model.run_training(
        OnPolicyTrainerParams(
            training_collector=collector,
            max_epochs=1,
            epoch_num_steps=3 * 64,
            collection_step_num_env_steps=64,
            batch_size=32,
            update_step_num_repetitions=2,
            verbose=False,
            show_progress=False,
        )
    )
    envs.close()
    final = {name: tensor.detach() for name, tensor in model.named_parameters()}
    assert any(not torch.equal(final[name], initial[name]) for name in final)
    return final


def same_parameters(a, b):
    assert a.keys() == b.keys()
    return all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


CASES = {
    "A2C": (A2C, {"gae_lambda": 0.9}),
    "PPO": (PPO, {"gae_lambda": 0.9}),
    "PPO, scaled and recomputed": (PPO, {"return_scaling": True, "recompute_advantage": True}),
    "TRPO": (TRPO, {"gae_lambda": 0.9}),
    "Reinforce": (Reinforce, {}),
}


@pytest.mark.parametrize("case", CASES)
def test_training_ends_with_the_same_bits(case, calls):
    algorithm, settings = CASES[case]
    theirs = trained(algorithm, **settings)
    assert calls == []
    with integrations.patch("tianshou"):
        ours = trained(algorithm, **settings)
    # Each algorithm calls the function twice with two transitions, for numba's sake.
    updates = 2 if settings.get("recompute_advantage") else 1
    assert calls == [2, 2] + [64] * 3 * updates
    assert same_parameters(ours, theirs)
    assert algorithm_base._gae is OWN


def test_parameters_would_tell_a_difference():
    one, other = (trained(PPO, gae_lambda=gae_lambda) for gae_lambda in (0.9, 0.900001))
    assert not same_parameters(one, other)


def test_what_the_patch_replaces():
    (target,) = tianshou.targets()
    assert str(target) == (
        "tianshou.algorithm.algorithm_base._gae -> ppo_fast.integrations.tianshou.gae"
    )
