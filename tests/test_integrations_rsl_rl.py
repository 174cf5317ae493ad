"""rsl_rl trains to the same bits with our PPO as with its own."""

import copy
from types import SimpleNamespace

import pytest

pytest.importorskip("rsl_rl")
import torch
from rsl_rl.algorithms import PPO
from rsl_rl.env import VecEnv
from rsl_rl.runners import OnPolicyRunner
from tensordict import TensorDict

from ppo_fast import integrations
from ppo_fast.integrations import rsl_rl as ours
from ppo_fast.integrations.rsl_rl import FastPPO

OWN = PPO.compute_returns
NUM_ENVS, NUM_STEPS, ITERATIONS = 16, 24, 3
FAST = "ppo_fast.integrations.rsl_rl:FastPPO"
CONFIG = {
    "num_steps_per_env": NUM_STEPS,
    "save_interval": 100,
    "obs_groups": {"actor": ["policy"], "critic": ["policy"]},
    "multi_gpu": None,
    "algorithm": {"class_name": "PPO", "num_learning_epochs": 2, "num_mini_batches": 2},
    "actor": {
        "class_name": "MLPModel",
        "hidden_dims": [16],
        "obs_normalization": True,
        "distribution_cfg": {"class_name": "GaussianDistribution"},
    },
    "critic": {"class_name": "MLPModel", "hidden_dims": [16]},
}


class PointEnv(VecEnv):
    """A point to be kept near 0: leaving [-2, 2] ends an episode, and so do 10 steps."""

    def __init__(self):
        self.num_envs, self.num_actions, self.max_episode_length = NUM_ENVS, 1, 10
        self.device, self.cfg = "cpu", {}
        self.generator = torch.Generator().manual_seed(3)
        self.episode_length_buf = torch.arange(NUM_ENVS) % 10
        self.position = self.fresh()
        self.terminations = self.time_outs = 0

    def fresh(self):
        return torch.rand(NUM_ENVS, generator=self.generator) * 2 - 1

    def get_observations(self):
        noise = torch.rand((NUM_ENVS, 2), generator=self.generator)
        obs = torch.cat([self.position[:, None], noise], dim=1)
        return TensorDict({"policy": obs}, batch_size=[NUM_ENVS])

    def step(self, actions):
        self.position = self.position + actions[:, 0].clamp(-1, 1)
        self.episode_length_buf = self.episode_length_buf + 1
        out = self.position.abs() > 2
        time_outs = (self.episode_length_buf >= self.max_episode_length) & ~out
        dones = out | time_outs
        rewards = 1 - self.position.abs()
        self.position = torch.where(dones, self.fresh(), self.position)
        self.episode_length_buf = self.episode_length_buf * ~dones
        self.terminations += int(out.sum())
        self.time_outs += int(time_outs.sum())
        return self.get_observations(), rewards, dones, {"time_outs": time_outs}


def make_runner(**changes):
    """A runner with new networks; `changes` are updates of the parts of the configuration."""
    torch.manual_seed(1)
    config = copy.deepcopy(CONFIG)
    for part, update in changes.items():
        config[part].update(update)
    return OnPolicyRunner(PointEnv(), config, device="cpu")


def train(**changes):
    """Parameters after a few iterations."""
    runner = make_runner(**changes)
    runner.learn(ITERATIONS)
    assert runner.env.terminations
    assert runner.env.time_outs
    models = (runner.alg.actor, runner.alg.critic)
    return [p.detach().clone() for model in models for p in model.parameters()]


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the rewards that our function was called with."""
    shapes = []
    kernel = ours.lambda_returns

    def counting(rewards, *args, **kwargs):
        shapes.append(tuple(rewards.shape))
        return kernel(rewards, *args, **kwargs)

    monkeypatch.setattr(ours, "lambda_returns", counting)
    return shapes


def assert_same_bits(result, expected):
    for a, b in zip(result, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a, b)


RNN = {"class_name": "RNNModel", "rnn_type": "gru", "rnn_hidden_dim": 8}
CHANGES = [
    {},
    {"algorithm": {"normalize_advantage_per_mini_batch": True}},
    {"algorithm": {"gamma": 0.995, "lam": 0.9}},
    {"actor": RNN, "critic": RNN},
]


@pytest.mark.parametrize("changes", CHANGES, ids=["plain", "per mini-batch", "gamma", "recurrent"])
def test_training_has_the_same_bits(changes, calls):
    expected = train(**changes)
    assert not calls
    algorithm = {**changes.get("algorithm", {}), "class_name": FAST}
    assert_same_bits(train(**{**changes, "algorithm": algorithm}), expected)
    assert calls == [(NUM_STEPS, NUM_ENVS, 1)] * ITERATIONS


class Critic:
    """One without a memory, whose values are known."""

    def __init__(self, values):
        self.values = values

    def get_hidden_state(self):
        return None

    def reset(self, hidden_state):
        assert hidden_state is None

    def __call__(self, obs):
        return self.values


def test_training_depends_on_the_advantages():
    parameters = train(algorithm={"lam": 0.95}), train(algorithm={"lam": 0.9499})
    assert not torch.equal(parameters[0][0], parameters[1][0])


def test_patch(calls):
    expected = train()
    with integrations.patch("rsl_rl") as patch:
        assert "rsl_rl.algorithms.ppo.PPO.compute_returns" in str(patch)
        assert_same_bits(train(), expected)
    assert calls == [(NUM_STEPS, NUM_ENVS, 1)] * ITERATIONS
    assert PPO.compute_returns is OWN
    del calls[:]
    assert_same_bits(train(), expected)
    assert not calls


@pytest.mark.parametrize("gamma", [0.99, 0.995, 0.9, 1.0, 0.0])
@pytest.mark.parametrize("lam", [0.95, 0.97, 0.8, 1.0, 0.0])
@pytest.mark.parametrize("per_mini_batch", [False, True])
def test_storage_has_the_same_bits(gamma, lam, per_mini_batch, calls):
    runner = make_runner(
        algorithm={
            "gamma": gamma,
            "lam": lam,
            "class_name": FAST,
            "normalize_advantage_per_mini_batch": per_mini_batch,
        }
    )
    algorithm, storage = runner.alg, runner.alg.storage
    assert type(algorithm) is FastPPO
    generator = torch.Generator().manual_seed(0)
    shape = (NUM_STEPS, NUM_ENVS, 1)
    storage.rewards[:] = torch.randn(shape, generator=generator)
    storage.values[:] = torch.randn(shape, generator=generator)
    storage.dones[:] = torch.rand(shape, generator=generator) < 0.2
    obs = runner.env.get_observations()
    results = []
    with torch.inference_mode():
        for compute_returns in (PPO.compute_returns, FastPPO.compute_returns):
            storage.returns, storage.advantages = torch.empty(shape), torch.empty(shape)
            compute_returns(algorithm, obs)
            results.append((storage.returns, storage.advantages))
    assert_same_bits(results[1], results[0])
    assert calls == [shape]


@pytest.mark.parametrize("per_mini_batch", [False, True])
def test_a_storage_on_a_gpu_has_the_same_bits(per_mini_batch, device, calls):
    shape = (NUM_STEPS, NUM_ENVS, 1)
    results = []
    for compute_returns, place in ((PPO.compute_returns, "cpu"), (FastPPO.compute_returns, device)):
        generator = torch.Generator().manual_seed(0)
        rewards, values = (torch.randn(shape, generator=generator) for _ in range(2))
        dones = (torch.rand(shape, generator=generator) < 0.2).byte()
        storage = SimpleNamespace(
            rewards=rewards.to(place),
            values=values.to(place),
            dones=dones.to(place),
            returns=torch.empty(shape, device=place),
            num_transitions_per_env=NUM_STEPS,
        )
        algorithm = SimpleNamespace(
            critic=Critic(torch.randn((NUM_ENVS, 1), generator=generator).to(place)),
            storage=storage,
            gamma=0.99,
            lam=0.95,
            normalize_advantage_per_mini_batch=per_mini_batch,
        )
        compute_returns(algorithm, None)
        assert storage.advantages.device.type == place
        results.append((storage.returns.cpu(), storage.advantages.cpu()))
    assert torch.equal(results[1][0], results[0][0])
    torch.testing.assert_close(results[1][1], results[0][1])
    assert calls == [shape]
