"""Other libraries' ways to compute advantages and returns, where they are installed."""

from functools import partial
from importlib import import_module
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ppo_fast.bench.advantage import GAE_LAMBDA, GAMMA, Contender, Maker, Problem

Array = NDArray[Any]

_TORCHRL = "torchrl.objectives.value.functional"


def sb3_buffer(problem: Problem) -> Contender | None:
    """stable-baselines3's method on a RolloutBuffer that holds the data."""
    if problem.mask is not None:
        return None
    import torch
    from gymnasium import spaces
    from stable_baselines3.common.buffers import RolloutBuffer

    num_steps, num_envs = problem.rewards.shape
    buffer = RolloutBuffer(
        num_steps,
        spaces.Box(-1, 1, (1,)),
        spaces.Discrete(2),
        device="cpu",
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        n_envs=num_envs,
    )
    buffer.rewards[:] = problem.rewards
    buffer.values[:] = problem.values
    buffer.episode_starts[1:] = problem.terminated[:-1]
    buffer.episode_starts[0] = 1
    call = partial(
        buffer.compute_returns_and_advantage,
        last_values=torch.from_numpy(problem.last_values),
        dones=problem.terminated[-1],
    )
    return Contender(call, lambda _: (buffer.advantages, buffer.returns))


def torch_loop(problem: Problem) -> Contender | None:
    """A loop over time in torch operations, as CleanRL has it in its scripts."""
    if problem.mask is not None:
        return None
    import torch

    rewards = torch.from_numpy(problem.rewards)
    values = torch.from_numpy(problem.values)
    next_value = torch.from_numpy(problem.last_values).reshape(1, -1)
    ends = torch.from_numpy(problem.terminated).float()
    dones = torch.cat([torch.ones_like(ends[:1]), ends[:-1]])  # at the step after the end
    next_done = ends[-1]

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            advantages = torch.zeros_like(rewards)
            advantage = torch.zeros(())
            for t in reversed(range(len(rewards))):
                last = t == len(rewards) - 1
                goes_on = 1.0 - (next_done if last else dones[t + 1])
                value_after = next_value if last else values[t + 1]
                delta = rewards[t] + GAMMA * value_after * goes_on - values[t]
                advantage = delta + GAMMA * GAE_LAMBDA * goes_on * advantage
                advantages[t] = advantage
            return advantages, advantages + values

    return Contender(call, lambda result: (result[0].numpy(), result[1].numpy()))


def torch_token_loop(problem: Problem) -> Contender | None:
    """A loop over tokens in torch operations that skips masked ones, as verl has it.

    verl normalises the advantages as well; that is left out.
    """
    if problem.mask is None:
        return None
    import torch

    rewards = torch.from_numpy(problem.rewards)
    values = torch.from_numpy(problem.values)
    mask = torch.from_numpy(problem.mask).float()

    def call() -> tuple[torch.Tensor, torch.Tensor]:
        with torch.no_grad():
            value_after, carried = torch.zeros(()), torch.zeros(())
            reversed_advantages = []
            for t in reversed(range(rewards.shape[1])):
                counts = mask[:, t]
                delta = rewards[:, t] + GAMMA * value_after - values[:, t]
                advantage = delta + GAMMA * GAE_LAMBDA * carried
                value_after = values[:, t] * counts + (1 - counts) * value_after
                carried = advantage * counts + (1 - counts) * carried
                reversed_advantages.append(carried)
            advantages = torch.stack(reversed_advantages[::-1], dim=1)
            return advantages, advantages + values

    return Contender(call, lambda result: (result[0].numpy(), result[1].numpy()))


def tianshou_gae(problem: Problem) -> Contender | None:
    """Tianshou's compiled loop, and the returns as its caller forms them."""
    if problem.mask is not None:
        return None
    from tianshou.algorithm.algorithm_base import _gae

    values, rewards = _one_behind_the_other(problem.values), _one_behind_the_other(problem.rewards)
    next_values = _one_behind_the_other(_next_values(problem) * ~problem.terminated)
    ends = _one_behind_the_other(_ends(problem))

    def call() -> tuple[Array, Array]:
        advantages = _gae(values, next_values, rewards, ends, GAMMA, GAE_LAMBDA)
        return advantages, advantages + values

    _gae(values[:1], next_values[:1], rewards[:1], ends[:1], GAMMA, GAE_LAMBDA)  # compiles
    return Contender(call, lambda result: _back(problem, *result))


def lfilter_paths(problem: Problem) -> Contender | None:
    """SciPy's linear filter over one episode after the other, as in Spinning Up.

    Spinning Up's returns are sums of rewards; here they are A + V like everybody's.
    """
    if problem.mask is not None:
        return None
    from scipy.signal import lfilter

    rewards, values = _one_behind_the_other(problem.rewards), _one_behind_the_other(problem.values)
    next_values = _one_behind_the_other(_next_values(problem) * ~problem.terminated)
    bounds = [0, *(np.flatnonzero(_one_behind_the_other(_ends(problem))) + 1).tolist()]
    paths = [slice(a, b) for a, b in pairwise(bounds)]
    numerator = np.ones(1, np.float32)
    denominator = np.array([1, -GAMMA * GAE_LAMBDA], np.float32)

    def call() -> tuple[Array, Array]:
        advantages = np.empty_like(rewards)
        for path in paths:
            deltas = rewards[path] + GAMMA * next_values[path] - values[path]
            advantages[path] = lfilter(numerator, denominator, deltas[::-1])[::-1]
        return advantages, advantages + values

    return Contender(call, lambda result: _back(problem, *result))


def torchrl_estimate(function: str) -> Maker:
    """One of TorchRL's functions, on tensors [N, T, 1] as it stores them."""

    def make(problem: Problem) -> Contender:
        import torch

        def batch_major(array: Array) -> torch.Tensor:
            rows = array if problem.mask is not None else array.T
            return torch.from_numpy(np.ascontiguousarray(rows)).unsqueeze(-1)

        def like_the_rewards(tensor: torch.Tensor) -> Array:
            rows = tensor.squeeze(-1).numpy()
            return rows if problem.mask is not None else rows.T

        ends = batch_major(problem.terminated)
        call = partial(
            getattr(import_module(_TORCHRL), function),
            GAMMA,
            GAE_LAMBDA,
            batch_major(problem.values),
            batch_major(_next_values(problem)),
            batch_major(problem.rewards),
            ends,
            ends,
        )
        return Contender(call, lambda pair: (like_the_rewards(pair[0]), like_the_rewards(pair[1])))

    return make


def _next_values(problem: Problem) -> Array:
    axis = 0 if problem.mask is None else 1
    last = np.expand_dims(problem.last_values, axis)
    return np.concatenate([np.delete(problem.values, 0, axis), last], axis)


def _ends(problem: Problem) -> Array:
    """Flags of transitions that nothing is carried back over: the last one of each row as well."""
    ends = problem.terminated.copy()
    ends[-1] = True
    return ends


def _one_behind_the_other(array: Array) -> Array:
    """[T, N] as [N * T]: all steps of the first environment, then those of the second."""
    return np.ascontiguousarray(array.T).reshape(-1)


def _back(problem: Problem, advantages: Array, returns: Array) -> tuple[Array, Array]:
    shape = problem.rewards.shape[::-1]
    return advantages.reshape(shape).T, returns.reshape(shape).T


# What each peer needs, by the module's name.
PEERS: dict[str, tuple[str, Maker]] = {
    "stable-baselines3": ("stable_baselines3.common.buffers", sb3_buffer),
    "torch loop like CleanRL's": ("torch", torch_loop),
    "torch loop like verl's": ("torch", torch_token_loop),
    "Tianshou, numba": ("tianshou.algorithm.algorithm_base", tianshou_gae),
    "TorchRL, loop": (_TORCHRL, torchrl_estimate("generalized_advantage_estimate")),
    "TorchRL, vectorised": (_TORCHRL, torchrl_estimate("vec_generalized_advantage_estimate")),
    "SciPy lfilter": ("scipy.signal", lfilter_paths),
}


def installed_peers() -> dict[str, Maker]:
    """The peers that can be measured; the others are named and left out."""
    peers = {}
    for name, (module, make) in PEERS.items():
        try:
            import_module(module)  # another version may be without it
        except ImportError as error:
            print(f"{name} is left out: {error}")
        else:
            peers[name] = make
    return peers
