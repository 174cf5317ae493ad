"""The advantages of CleanRL and LeanRL scripts in one call: python examples/cleanrl_advantages.py

Those scripts keep, as torch tensors,

    rewards, values, dones   [T, N]: `dones[t]` is set where step t starts an episode
    next_done                [N]: the same for the observation after the last step
    next_value               [1, N]: the value of that observation

and loop over the steps backward. Both ways are run here on random data, compared and timed.
"""

import argparse
import time

import torch

import ppo_fast

GAMMA, GAE_LAMBDA = 0.99, 0.95


def loop(rewards, values, dones, next_value, next_done):
    """The loop in torch that a script has now."""
    advantages = torch.zeros_like(rewards)
    following, value_after, done_after = 0.0, next_value[0], next_done
    for t in range(len(rewards) - 1, -1, -1):
        goes_on = 1.0 - done_after
        delta = rewards[t] + GAMMA * value_after * goes_on - values[t]
        following = delta + GAMMA * GAE_LAMBDA * goes_on * following
        advantages[t] = following
        value_after, done_after = values[t], dones[t]
    return advantages, advantages + values


def one_call(rewards, values, dones, next_value, next_done):
    """What to write instead."""
    return ppo_fast.gae(
        rewards,
        values,
        gamma=GAMMA,
        gae_lambda=GAE_LAMBDA,
        last_values=next_value,
        episode_starts=dones,
        last_done=next_done,
    )


def random_rollout(num_steps, num_envs):
    rewards, values = torch.randn(2, num_steps, num_envs)
    dones = (torch.rand(num_steps, num_envs) < 0.05).float()
    return rewards, values, dones, torch.randn(1, num_envs), (torch.rand(num_envs) < 0.05).float()


def best_seconds(function, rollout, repeats):
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function(*rollout)
        times.append(time.perf_counter() - start)
    return min(times)


def main(sizes, repeats):
    print("      T       N   loop, ms   one call, ms")
    for num_steps, num_envs in sizes:
        rollout = random_rollout(num_steps, num_envs)
        for ours, theirs in zip(one_call(*rollout), loop(*rollout), strict=True):
            assert torch.equal(ours, theirs)
        before, after = (1e3 * best_seconds(f, rollout, repeats) for f in (loop, one_call))
        print(f"{num_steps:7} {num_envs:7} {before:10.3f} {after:14.4f}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=10, help="the best of so many is printed")
    repeats = parser.parse_args().repeats
    torch.manual_seed(0)
    main([(128, 4), (128, 8), (2048, 1), (32, 4096)], repeats)
