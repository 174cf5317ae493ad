"""Native learners whose gradients, and plain torch ones in float64, the tests compare."""

import copy
from types import SimpleNamespace

import numpy as np
import plain_policies as plain
import torch
from algorithm_cases import OBS_SIZE, make_config, make_rollout, obs_rows, play

from ppo_fast.learners import GradientStep, Loss, make_learner
from ppo_fast.learners.networks import ActorCritic
from ppo_fast.surrogate import STATS

# Relative to the largest derivative of a tensor; and to the largest of all, for tensors whose sums
# over the samples cancel.
TOLERANCE, FLOOR = 1e-5, 1e-7

LOSSES = {
    "policy gradient": Loss("policy_gradient", entropy_coef=0.01, value_coef=0.5),
    "importance": Loss("importance", entropy_coef=0.01, value_coef=0.5),
    "clipped": Loss("clipped", clip_range=0.1, entropy_coef=0.01, value_coef=0.5),
    "dual": Loss(
        "clipped",
        clip_range=0.1,
        clip_range_high=0.2,
        dual_clip=1.3,
        entropy_coef=0.01,
        value_coef=0.5,
        normalize_advantages=True,
    ),
    "kl": Loss(
        "importance",
        entropy_coef=0.01,
        value_coef=0.5,
        kl_coef=0.7,
        kl_hinge=3.0,
        kl_hinge_from=1e-4,
    ),
    "clipped values": Loss("importance", entropy_coef=0.01, value_coef=1.0, clip_range_values=0.3),
    "entropy": Loss("importance", entropy_coef=1.0, value_coef=0.0),
}


def prepared(layout, obs_size=OBS_SIZE, *, seed=0, **changes):
    """A native learner, noise that it has played, and the model as it was then.

    The parameters have moved since: ratios and values are off, some beyond their limits.
    """
    config = make_config(engine="native", seed=seed, **changes)
    learner = make_learner(config, obs_rows(obs_size), layout)
    rng = np.random.default_rng(seed)
    with torch.no_grad():  # the last layer starts out too small for any mistake to show
        learner.model.actor.head.weight.mul_(30)
    rollout = play(learner, make_rollout(config, layout, obs_size), seed)
    learner.keep_old_policy(rollout)
    before = in_float64(learner, config, obs_size, layout)
    rollout.advantages[:] = rng.normal(size=rollout.advantages.shape)
    rollout.returns[:] = rng.normal(size=rollout.returns.shape)
    rollout.old_values[:] = learner.values(rollout.obs[:-1].reshape(-1, obs_size)).reshape(
        rollout.old_values.shape
    )
    rollout.logp += (0.3 * rng.normal(size=rollout.logp.shape)).astype(np.float32)
    with torch.no_grad():
        for p in learner.model.parameters():
            p += torch.from_numpy(0.3 / np.sqrt(p.shape[-1]) * rng.normal(size=p.shape)).float()
    return SimpleNamespace(
        config=config,
        layout=layout,
        obs_size=obs_size,
        learner=learner,
        rollout=rollout,
        before=before,
    )


def in_float64(learner, config, obs_size, layout):
    """A copy of a learner's model whose gradients are autograd's."""
    model = ActorCritic(config, obs_rows(obs_size), layout).double()
    model.load_state_dict(copy.deepcopy(learner.model.state_dict()))
    return model


def plain_loss(case, model, order, loss):
    """The loss of the definitions page on some samples, with torch's own operations."""
    rollout = case.rollout
    index = torch.from_numpy(order)
    obs, actions, old_logp, advantages, returns, old_values = (
        torch.from_numpy(x.reshape(-1, *x.shape[2:]))[index]
        for x in (
            rollout.obs[:-1],
            rollout.actions,
            rollout.logp,
            rollout.advantages,
            rollout.returns,
            rollout.old_values,
        )
    )
    obs, old_logp, advantages, returns, old_values = (
        x.double() for x in (obs, old_logp, advantages, returns, old_values)
    )
    if actions.is_floating_point():
        actions = actions.double()
    dist, values = model(obs)
    if loss.normalize_advantages and len(order) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    logp = plain.log_probability(dist, actions)
    ratio = torch.exp(logp - old_logp)
    terms = ratio * advantages
    if loss.objective == "policy_gradient":
        terms = logp * advantages
    elif loss.objective == "clipped":
        high = loss.clip_range if loss.clip_range_high is None else loss.clip_range_high
        terms = torch.min(terms, torch.clamp(ratio, 1 - loss.clip_range, 1 + high) * advantages)
        if loss.dual_clip is not None:
            bounded = torch.max(terms, loss.dual_clip * advantages)
            terms = torch.where(advantages < 0, bounded, terms)
    if loss.clip_range_values is not None:
        limit = loss.clip_range_values
        values = old_values + torch.clamp(values - old_values, -limit, limit)
    result = loss.value_coef * ((values - returns) ** 2).mean() - terms.mean()
    result = result - loss.entropy_coef * plain.entropy(dist).mean()
    if loss.uses_kl:
        kl = plain.kl(plain.detached(case.before.policy(obs)), dist).mean()
        excess = torch.clamp(kl - loss.kl_hinge_from, min=0)
        result = result + loss.kl_coef * kl + loss.kl_hinge * excess**2
    return result


def gradients(case, order, loss):
    """Name -> (the native gradient, autograd's) of each parameter, and the row of statistics."""
    model = in_float64(case.learner, case.config, case.obs_size, case.layout)
    plain_loss(case, model, order, loss).backward()
    # A step so short that it moves nothing; the gradient stays where torch sees it.
    result = case.learner.epoch(
        case.rollout, order, loss, GradientStep(len(order), 1e-30, max_grad_norm=None)
    )
    ours = {name: p.grad.numpy() for name, p in case.learner.model.named_parameters()}
    theirs = {
        name: np.zeros(p.shape) if p.grad is None else p.grad.numpy()
        for name, p in model.named_parameters()
    }
    assert ours.keys() == theirs.keys()
    pairs = {name: (ours[name], theirs[name]) for name in ours}
    return pairs, dict(zip(STATS, result.stats[0].tolist(), strict=True))


def assert_same_gradients(case, loss, order=None):
    """The native gradient is autograd's; returns the statistics."""
    if order is None:
        count = case.rollout.rewards.size
        order = np.random.default_rng(1).permutation(count)
    pairs, stats = gradients(case, order, loss)
    floor = FLOOR * max(np.abs(theirs).max() for _, theirs in pairs.values())
    for name, (ours, theirs) in pairs.items():
        assert ours.dtype == np.float32
        atol = TOLERANCE * np.abs(theirs).max() + floor
        np.testing.assert_allclose(ours, theirs, rtol=0, atol=atol, err_msg=name)
    return stats
