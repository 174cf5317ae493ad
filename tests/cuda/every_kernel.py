"""Runs every kernel of _cuda once; for compute-sanitizer.

All inputs come from the CPU: what other kernels wrote counts as unwritten for initcheck, which
looks at ours alone.
"""

import torch

import ppo_fast
from ppo_fast.distributions import Bernoulli, Categorical, Gaussian, SquashedGaussian
from ppo_fast.surrogate import fused_loss, importance_surrogate

GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=GENERATOR, dtype=dtype).to(DEVICE)


def advantages(dtype):
    # Wide, narrow and long; both layouts; in one part and in several.
    for steps, columns in ((33, 70), (300, 3), (5000, 2), (17000, 1)):
        for time_axis in (0, 1):
            shape = (steps, columns) if time_axis == 0 else (columns, steps)
            rewards, values, logs = (draw(*shape, dtype=dtype) for _ in range(3))
            ends = {
                "terminated": (draw(*shape).cpu() > 2).to(DEVICE),
                "last_values": draw(columns, dtype=dtype),
                "time_axis": time_axis,
            }
            ppo_fast.gae(rewards, values, gamma=0.99, gae_lambda=0.9, **ends)
            lambdas = torch.linspace(0.5, 1, columns, dtype=torch.float64).to(DEVICE)
            ppo_fast.gae(rewards, values, gamma=0.99, gae_lambda=lambdas, **ends)
            ppo_fast.gae(rewards, values, gamma=0.99, gae_lambda=0.9, exact=True, **ends)
            # Not in the form that has kernels of its own; flags of another type.
            flags = draw(*shape).cpu() > 2
            cuts = {"truncated": flags.int().to(DEVICE), "final_values": logs}
            resets = {"prev_done": flags.to(DEVICE)}
            for more in (cuts, resets):
                ppo_fast.gae(rewards, values, gamma=0.99, gae_lambda=0.9, **ends, **more)
            ppo_fast.vtrace(rewards, values, log_rhos=logs, gamma=0.99, **ends)
    rewards, values = draw(3, 9000, dtype=dtype), draw(3, 9000, dtype=dtype)
    mask = (draw(3, 9000).cpu() < 1).to(DEVICE)
    ppo_fast.token_gae(
        rewards, values, mask=mask, bootstrap=draw(3, dtype=dtype), gamma=0.99, gae_lambda=0.9
    )


def tiles():
    # Blocks with three tiles, of which the third takes the memory of the first.
    rewards, values = draw(300, 2020), draw(300, 2020)
    ends = {
        "terminated": torch.zeros(300, 2020, dtype=torch.bool).to(DEVICE),
        "last_values": draw(2020),
    }
    ppo_fast.gae(rewards, values, gamma=0.99, gae_lambda=0.9, **ends)


def policies_and_losses(size, dims, dtype):
    first, log_std = draw(size, dims, dtype=dtype), draw(dims, dtype=dtype)
    old, old_log_std = draw(size, dims, dtype=dtype), log_std.clone()
    first.requires_grad_()
    log_std.requires_grad_()
    choices = (torch.arange(size) % dims).to(DEVICE)
    bits = (torch.arange(size * dims) % 2).reshape(size, dims).to(DEVICE)
    numbers = draw(size, dims, dtype=dtype)
    policies = (
        (Categorical(first), Categorical(old), choices),
        (Bernoulli(first), Bernoulli(old), bits),
        (Gaussian(first, log_std), Gaussian(old, old_log_std), numbers),
        (SquashedGaussian(first, log_std), SquashedGaussian(old, old_log_std), numbers),
    )
    columns = [draw(size, dtype=dtype) for _ in range(4)]
    weights = torch.linspace(0, 1, size, dtype=dtype).to(DEVICE)
    for dist, old_dist, actions in policies:
        dist.sample(seed=0, step=0)
        dist.sample(seed=0, step=0, deterministic=True)
        results = (*dist.evaluate(actions), old_dist.kl(dist))
        torch.autograd.backward(results, columns[:3])
        fused_loss(
            dist,
            actions,
            columns[0],
            objective="clipped",
            clip_range=0.2,
            old_logp=columns[1],
            values=columns[2],
            returns=columns[3],
            old_dist=old_dist,
            kl_coef=0.1,
            kl_hinge=1.0,
            weights=weights,
            normalize_advantages=True,
        )
    importance_surrogate(columns[0], columns[1], columns[2])


def environments():
    for env_id in ppo_fast.envs.NATIVE_SPECS:
        for mode in ("NextStep", "SameStep"):
            settings = {"autoreset_mode": mode, "episode_stats": True, "max_episode_steps": 2}
            env = ppo_fast.make_vec(env_id, 70, device=DEVICE, **settings)
            env.reset(seed=0)
            space = env.single_action_space
            actions = (
                torch.zeros(70, dtype=torch.int64)
                if hasattr(space, "n")
                else torch.zeros(70, *space.shape)
            )
            for _ in range(4):
                env.step(actions.to(DEVICE))


def main():
    for dtype in (torch.float32, torch.float64):
        advantages(dtype)
        for size, dims in POLICIES:
            policies_and_losses(size, dims, dtype)
    tiles()
    environments()


DEVICE = "cuda"
# With columns in registers and in memory; the last with several samples to a lane.
POLICIES = ((100, 3), (100, 5), (66_000, 3))
if __name__ == "__main__":
    main()
    torch.cuda.synchronize()
