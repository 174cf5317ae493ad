"""Runs every kernel of _cuda once, on small inputs from the CPU; for compute-sanitizer."""

import torch

import ppo_fast
from ppo_fast.distributions import (
    Bernoulli,
    Categorical,
    Gaussian,
    SquashedGaussian,
    StateDependentNoise,
)
from ppo_fast.surrogate import fused_loss, importance_surrogate

GENERATOR = torch.Generator().manual_seed(0)


def draw(*shape, dtype=torch.float32):
    return torch.randn(shape, generator=GENERATOR, dtype=dtype).to(DEVICE)


def advantages(dtype):
    # Wide, narrow and long; both layouts; in one part and in several.
    for steps, columns in ((33, 70), (300, 3), (5000, 2)):
        for time_axis in (0, 1):
            shape = (steps, columns) if time_axis == 0 else (columns, steps)
            rewards, values, logs = (draw(*shape, dtype=dtype) for _ in range(3))
            ends = {
                "terminated": (draw(*shape).cpu() > 2).to(DEVICE),
                "last_values": draw(columns, dtype=dtype),
                "time_axis": time_axis,
            }
            ppo_fast.gae(rewards, values, gamma=0.99, gae_lambda=0.9, **ends)
            ppo_fast.gae(rewards, values, gamma=0.99, gae_lambda=0.9, exact=True, **ends)
            ppo_fast.vtrace(rewards, values, log_rhos=logs, gamma=0.99, **ends)
    rewards, values = draw(3, 3000, dtype=dtype), draw(3, 3000, dtype=dtype)
    mask = (draw(3, 3000).cpu() < 1).to(DEVICE)
    ppo_fast.token_gae(rewards, values, mask=mask, gamma=0.99, gae_lambda=0.9)


def policies_and_losses(dtype):
    size, dims = 100, 3
    first = draw(size, dims, dtype=dtype).requires_grad_()
    log_std = draw(dims, dtype=dtype).requires_grad_()
    old = draw(size, dims, dtype=dtype)
    policies = (
        (Categorical(first), Categorical(old), torch.arange(size).to(DEVICE) % dims),
        (Bernoulli(first), Bernoulli(old), (draw(size, dims).cpu() > 0).long().to(DEVICE)),
        (Gaussian(first, log_std), Gaussian(old, log_std), draw(size, dims, dtype=dtype)),
        (
            SquashedGaussian(first, log_std),
            SquashedGaussian(old, log_std),
            draw(size, dims, dtype=dtype),
        ),
    )
    columns = [draw(size, dtype=dtype) for _ in range(4)]
    weights = draw(size, dtype=dtype).cpu().abs().to(DEVICE)
    for dist, old_dist, actions in policies:
        dist.sample(seed=0, step=0)
        dist.sample(seed=0, step=0, deterministic=True)
        logp, entropy = dist.evaluate(actions)
        (logp.sum() + entropy.sum() + old_dist.kl(dist).sum()).backward()
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
    StateDependentNoise(first, columns[0][:, None], log_std[None]).sample(seed=0, step=0)
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
        policies_and_losses(dtype)
    environments()


DEVICE = "cuda"
if __name__ == "__main__":
    main()
    torch.cuda.synchronize()
