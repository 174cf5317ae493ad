"""PPO in the plain style of CleanRL's ppo.py: torch, Gymnasium's SyncVectorEnv, one function.

It differs from the original where equal hyperparameters need it: the clip range may fall as well,
the critic's loss is mean((V - R)^2) without a further factor of 1/2, and V is not clipped. And it
keeps no log. As there, an episode that is cut off by its limit counts as one that ended.

S. Huang, R. F. J. Dossa, C. Ye, J. Braga, "CleanRL: High-quality Single-file Implementations of
Deep Reinforcement Learning Algorithms", JMLR 2022.
"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from torch import Tensor, nn
from torch.distributions import Categorical

from ppo_fast.config import TrainConfig


def layer_init(layer: nn.Linear, std: float = 2**0.5, bias_const: float = 0.0) -> nn.Linear:
    torch.nn.init.orthogonal_(layer.weight, std)
    torch.nn.init.constant_(layer.bias, bias_const)
    return layer


class Agent(nn.Module):
    def __init__(self, envs: SyncVectorEnv, hidden_sizes: tuple[int, ...]) -> None:
        super().__init__()
        assert isinstance(envs.single_action_space, gym.spaces.Discrete)
        assert envs.single_observation_space.shape is not None
        obs_size = int(np.prod(envs.single_observation_space.shape))
        self.critic = self._mlp((obs_size, *hidden_sizes), 1, std=1.0)
        self.actor = self._mlp((obs_size, *hidden_sizes), int(envs.single_action_space.n), std=0.01)

    @staticmethod
    def _mlp(sizes: tuple[int, ...], outputs: int, std: float) -> nn.Sequential:
        layers: list[nn.Module] = []
        for before, after in pairwise(sizes):
            layers += [layer_init(nn.Linear(before, after)), nn.Tanh()]
        return nn.Sequential(*layers, layer_init(nn.Linear(sizes[-1], outputs), std=std))

    def get_value(self, x: Tensor) -> Tensor:
        value: Tensor = self.critic(x)
        return value

    def get_action_and_value(
        self, x: Tensor, action: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        logits = self.actor(x)
        probs = Categorical(logits=logits)
        if action is None:
            action = probs.sample()  # type: ignore[no-untyped-call]
        logprob = probs.log_prob(action)  # type: ignore[no-untyped-call]
        entropy = probs.entropy()  # type: ignore[no-untyped-call]
        return action, logprob, entropy, self.critic(x)


def make_env(env_id: str) -> Callable[[], gym.Env[Any, Any]]:
    def thunk() -> gym.Env[Any, Any]:
        return gym.wrappers.RecordEpisodeStatistics(gym.make(env_id))

    return thunk


def train(config: TrainConfig) -> tuple[float, Agent]:
    """Train with the settings of a config; returns environment steps per second, and the agent."""
    rng = np.random.default_rng(config.seed)
    torch.manual_seed(config.seed)
    num_steps, num_envs, batch_size = config.num_steps, config.num_envs, config.batch_size
    envs = SyncVectorEnv(
        [make_env(config.env_id) for _ in range(num_envs)], autoreset_mode=AutoresetMode.SAME_STEP
    )
    agent = Agent(envs, config.hidden_sizes)
    optimizer = torch.optim.Adam(agent.parameters(), lr=config.learning_rate, eps=1e-5)

    obs = torch.zeros((num_steps, num_envs, *envs.single_observation_space.shape))  # type: ignore[misc]
    actions = torch.zeros((num_steps, num_envs))
    logprobs = torch.zeros((num_steps, num_envs))
    rewards = torch.zeros((num_steps, num_envs))
    dones = torch.zeros((num_steps, num_envs))
    values = torch.zeros((num_steps, num_envs))

    start_time = time.perf_counter()
    next_obs = torch.Tensor(envs.reset(seed=config.seed)[0])
    next_done = torch.zeros(num_envs)
    num_iterations = config.rounded_steps // batch_size
    for iteration in range(num_iterations):
        frac = 1.0 - iteration / num_iterations
        clip_coef = config.clip_range * (frac if config.anneal_clip_range else 1.0)
        if config.anneal_lr:
            optimizer.param_groups[0]["lr"] = frac * config.learning_rate

        for step in range(num_steps):
            obs[step] = next_obs
            dones[step] = next_done
            with torch.no_grad():
                action, logprob, _, value = agent.get_action_and_value(next_obs)
                values[step] = value.flatten()
            actions[step] = action
            logprobs[step] = logprob
            new_obs, reward, terminations, truncations, _ = envs.step(action.numpy())
            rewards[step] = torch.tensor(reward).view(-1)
            next_obs = torch.Tensor(new_obs)
            next_done = torch.Tensor(np.logical_or(terminations, truncations))

        with torch.no_grad():
            next_value = agent.get_value(next_obs).reshape(1, -1)
            advantages = torch.zeros_like(rewards)
            lastgaelam: Tensor | float = 0.0
            for t in reversed(range(num_steps)):
                if t == num_steps - 1:
                    nextnonterminal = 1.0 - next_done
                    nextvalues = next_value
                else:
                    nextnonterminal = 1.0 - dones[t + 1]
                    nextvalues = values[t + 1]
                delta = rewards[t] + config.gamma * nextvalues * nextnonterminal - values[t]
                lastgaelam = delta + config.gamma * config.gae_lambda * nextnonterminal * lastgaelam
                advantages[t] = lastgaelam
            returns = advantages + values

        b_obs = obs.reshape((-1, *envs.single_observation_space.shape))  # type: ignore[misc]
        b_logprobs = logprobs.reshape(-1)
        b_actions = actions.reshape(-1)
        b_advantages = advantages.reshape(-1)
        b_returns = returns.reshape(-1)

        b_inds = np.arange(batch_size)
        clipfracs = []
        for _ in range(config.num_epochs):
            rng.shuffle(b_inds)
            for start in range(0, batch_size, config.minibatch_size):
                mb_inds = b_inds[start : start + config.minibatch_size]
                _, newlogprob, entropy, newvalue = agent.get_action_and_value(
                    b_obs[mb_inds], b_actions.long()[mb_inds]
                )
                logratio = newlogprob - b_logprobs[mb_inds]
                ratio = logratio.exp()

                with torch.no_grad():
                    ((ratio - 1) - logratio).mean()  # approx_kl
                    clipfracs.append(((ratio - 1.0).abs() > clip_coef).float().mean().item())

                mb_advantages = b_advantages[mb_inds]
                mb_advantages = (mb_advantages - mb_advantages.mean()) / (
                    mb_advantages.std() + 1e-8
                )

                pg_loss1 = -mb_advantages * ratio
                pg_loss2 = -mb_advantages * torch.clamp(ratio, 1 - clip_coef, 1 + clip_coef)
                pg_loss = torch.max(pg_loss1, pg_loss2).mean()
                v_loss = ((newvalue.view(-1) - b_returns[mb_inds]) ** 2).mean()
                entropy_loss = entropy.mean()
                loss = pg_loss - config.entropy_coef * entropy_loss + v_loss * config.value_coef

                optimizer.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                if config.max_grad_norm is not None:
                    nn.utils.clip_grad_norm_(agent.parameters(), config.max_grad_norm)
                optimizer.step()

    seconds = time.perf_counter() - start_time
    envs.close()
    return config.rounded_steps / seconds, agent


def greedy_return(agent: Agent, env_id: str, *, episodes: int, seed: int) -> float:
    """Mean return of whole episodes with the most probable actions."""
    envs = SyncVectorEnv([make_env(env_id) for _ in range(episodes)])
    obs, _ = envs.reset(seed=seed)
    returns = np.zeros(episodes)
    playing = np.ones(episodes, np.bool_)
    while playing.any():
        with torch.no_grad():
            actions = agent.actor(torch.Tensor(obs)).argmax(1)
        obs, rewards, terminations, truncations, _ = envs.step(actions.numpy())
        returns += rewards * playing
        playing &= ~(terminations | truncations)
    envs.close()
    return float(returns.mean())
