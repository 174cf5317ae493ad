"""ppo-clip and stable-baselines3's PPO: the same update of the same network, to 1e-5."""

import numpy as np
import pytest

from ppo_fast import TrainConfig, _core
from ppo_fast.actions import ActionLayout
from ppo_fast.algorithms import Schedule, make_algorithm
from ppo_fast.envs import make_stepper
from ppo_fast.learners import make_learner
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Rollout

torch = pytest.importorskip("torch")
sb3 = pytest.importorskip("stable_baselines3")

from stable_baselines3.common.env_util import make_vec_env  # noqa: E402
from stable_baselines3.common.logger import configure  # noqa: E402

pytestmark = [
    pytest.mark.usefixtures("one_torch_thread"),
    # A smaller last minibatch is part of the comparison.
    pytest.mark.filterwarnings("ignore:You have specified a mini-batch size"),
]

NUM_ENVS = 4
NUM_STEPS = 70
NAMES = {
    "mlp_extractor.policy_net.0": "actor.hidden.0",
    "mlp_extractor.policy_net.2": "actor.hidden.2",
    "action_net": "actor.head",
    "mlp_extractor.value_net.0": "critic.0",
    "mlp_extractor.value_net.2": "critic.2",
    "value_net": "critic.4",
}


def our_name(name):
    """What a parameter of SB3's policy is called here."""
    if name == "log_std":
        return "actor.log_std"
    module, _, kind = name.rpartition(".")
    return f"{NAMES[module]}.{kind}"


def make_config(env_id, **changes):
    return TrainConfig(
        env_id,
        **{
            "num_envs": NUM_ENVS,
            "num_steps": NUM_STEPS,
            "num_epochs": 4,
            "minibatch_size": 64,  # four of 64 and one of 24
            "learning_rate": 1e-3,
            "gamma": 0.97,
            "gae_lambda": 0.9,
            "entropy_coef": 0.02,
            "seed": 3,
            "anneal_lr": False,
            "total_steps": 10_000,
            **changes,
        },
    )


def make_peer(config):
    """SB3's PPO with the settings of a config."""
    env = make_vec_env(config.env_id, config.num_envs)
    peer = sb3.PPO(
        "MlpPolicy",
        env,
        learning_rate=config.learning_rate,
        n_steps=config.num_steps,
        batch_size=config.minibatch_size,
        n_epochs=config.num_epochs,
        gamma=config.gamma,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip_range,
        clip_range_vf=config.clip_range_values,
        normalize_advantage=config.normalize_advantages == "minibatch",
        ent_coef=config.entropy_coef,
        vf_coef=config.value_coef,
        max_grad_norm=config.max_grad_norm,
        target_kl=config.target_kl,
        policy_kwargs={"net_arch": {"pi": [64, 64], "vf": [64, 64]}},
        device="cpu",
    )
    peer.set_logger(configure(None, []))
    return peer


def play(config):
    """Our learner, somewhat away from its start, and a rollout of the environment."""
    stepper = make_stepper(config.env_id, config.num_envs)
    observations = ObsLayout.of(config.env_id, stepper.single_observation_space)
    layout = ActionLayout.of(config.env_id, stepper.single_action_space)
    learner = make_learner(config, observations, layout)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in learner.model.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=generator))
    rollout = Rollout(config.num_steps, config.num_envs, (observations.size,), layout)
    obs, _ = stepper.reset(seed=list(range(config.num_envs)))
    rollout.start(obs)
    rollout.collect(stepper, learner, first_step=0)
    stepper.close()
    # CartPole is cut off nowhere within 70 steps: here it is, by hand.
    rollout.truncated[20, 1] |= not rollout.terminated[20, 1]
    rollout.final_obs[20, 1] = rollout.obs[20, 1]
    rollout.rewards /= 4
    return learner, rollout


def fill(peer, learner, rollout):
    """Give our rollout and weights to the peer, as its own collection would have left them."""
    theirs = dict(peer.policy.named_parameters())
    ours = dict(learner.model.named_parameters())
    assert {our_name(name) for name in theirs} == set(ours)
    with torch.no_grad():
        for name, p in theirs.items():
            p.copy_(ours[our_name(name)])
    done = rollout.terminated | rollout.truncated
    values = learner.values(rollout.obs.reshape(-1, rollout.obs.shape[-1]))
    values = torch.from_numpy(values.reshape(rollout.values.shape))
    rewards = rollout.rewards.copy()
    cut = rollout.truncated & ~rollout.terminated
    # Where it was truncated, SB3 adds what would have followed to the reward.
    rewards[cut] += np.float32(peer.gamma) * learner.values(rollout.final_obs[cut])
    buffer = peer.rollout_buffer
    buffer.reset()
    starts = np.ones(rollout.num_envs, bool)
    for t in range(rollout.num_steps):
        actions = rollout.actions[t].reshape(rollout.num_envs, -1)
        logp = torch.from_numpy(rollout.logp[t].copy())
        buffer.add(rollout.obs[t], actions, rewards[t], starts, values[t], logp)
        starts = done[t]
    buffer.compute_returns_and_advantage(values[-1], starts)


def orders(config, monkeypatch):
    """Let the peer's minibatches be ours: its samples are counted environment by environment."""
    size = config.batch_size
    given = []

    def permutation(count):
        assert count == size
        (ours,) = _core.permutations(config.seed, len(given), 1, size)
        given.append(ours)
        t, i = np.divmod(ours, config.num_envs)
        return i * config.num_steps + t

    monkeypatch.setattr(np.random, "permutation", permutation)
    return given


def update_both(config, monkeypatch):
    learner, rollout = play(config)
    peer = make_peer(config)
    fill(peer, learner, rollout)
    before = {name: p.detach().clone() for name, p in learner.model.named_parameters()}
    given = orders(config, monkeypatch)
    learner.keep_old_policy(rollout)
    metrics = make_algorithm(config).update(learner, rollout, Schedule(config, 0, 1.0))
    peer.train()
    advantages = peer.rollout_buffer.advantages
    if peer.rollout_buffer.generator_ready:  # flattened, environment by environment
        advantages = advantages.reshape(config.num_envs, config.num_steps).T
    np.testing.assert_allclose(rollout.advantages, advantages, atol=1e-5)
    return learner, peer, before, metrics, given


def assert_equal_parameters(learner, peer, before):
    ours = dict(learner.model.named_parameters())
    moved = []
    for name, p in peer.policy.named_parameters():
        mine = ours[our_name(name)]
        torch.testing.assert_close(mine, p, rtol=0, atol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
        moved.append((mine - before[our_name(name)]).abs().max().item())
    # Equal because both moved, weights, biases and log_std.
    assert min(moved) > 0
    assert np.median(moved) > 1e-3


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"entropy_coef": 0.0},
        {"entropy_coef": 0.3},
        {"clip_range_values": 0.05},
        {"clip_range_values": 10.0, "normalize_advantages": "none"},
        {"normalize_advantages": "none", "max_grad_norm": 10.0},
        {"max_grad_norm": 0.01, "value_coef": 2.0},
        {"clip_range": 0.05},
        {"learning_rate": 3e-4, "minibatch_size": 280},
    ],
    ids=lambda changes: " ".join(f"{k}={v}" for k, v in changes.items()) or "plain",
)
def test_an_update_is_that_of_sb3(env_id, changes, monkeypatch):
    config = make_config(env_id, **changes)
    learner, peer, before, metrics, given = update_both(config, monkeypatch)
    assert_equal_parameters(learner, peer, before)
    assert len(given) == 4
    logged = peer.logger.name_to_value
    assert metrics["policy_loss"] == pytest.approx(
        logged["train/policy_gradient_loss"], rel=1e-3, abs=1e-5
    )
    assert metrics["value_loss"] == pytest.approx(logged["train/value_loss"], rel=1e-3)
    assert metrics["explained_variance"] == pytest.approx(
        logged["train/explained_variance"], abs=1e-4
    )
    if env_id == "CartPole-v1":
        assert metrics["clip_fraction"] == pytest.approx(logged["train/clip_fraction"], abs=0.01)


@pytest.mark.parametrize(
    ("env_id", "target_kl", "learning_rate"),
    [("CartPole-v1", 0.01, 2e-3), ("Pendulum-v1", 0.005, 5e-4)],
)
def test_target_kl_stops_where_sb3_stops(env_id, target_kl, learning_rate, monkeypatch):
    config = make_config(env_id, target_kl=target_kl, learning_rate=learning_rate, num_epochs=10)
    learner, peer, before, metrics, given = update_both(config, monkeypatch)
    assert_equal_parameters(learner, peer, before)
    # Within an epoch that is neither the first nor the last.
    assert 1 < len(given) < 10
    assert metrics["epochs"] == len(given)
