"""Functions with the arguments of libraries that are not installed, against plain loops.

The loops are written from what each library says and does, element by element, in float64.
"""

import inspect
import logging
import math
import re
import subprocess
import sys
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip("torch")
import torch
from advantage_torch_cases import as_tuple

import ppo_fast.cuda
from ppo_fast import integrations
from ppo_fast.integrations import (
    nemo_rl,
    openrlhf,
    pufferlib,
    rl_games,
    rllib,
    sample_factory,
    trl,
    verl,
)
from ppo_fast.integrations.loading import load

FACTORS = [(0.99, 0.95), (1.0, 1.0), (1.0, 0.9), (0.9, 0.0), (0.0, 0.5)]
SHAPES = [(1, 1), (3, 7), (5, 40), (2, 300)]
CLOSE = {"rtol": 1e-5, "atol": 1e-5}


def normal(*shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed + 10)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def flags(*shape, share=0.3, seed=0):
    generator = torch.Generator().manual_seed(seed + 20)
    return torch.rand(shape, generator=generator) < share


def check(result, expected, **options):
    torch.testing.assert_close(
        result, torch.as_tensor(expected).to(result.dtype), **CLOSE, **options
    )


def check_untouched(function, *arguments, **keywords):
    """The result of a call which must not write its arguments."""
    tensors = [x for x in (*arguments, *keywords.values()) if isinstance(x, torch.Tensor)]
    copies = [x.clone() for x in tensors]
    result = function(*arguments, **keywords)
    assert all(torch.equal(a, b) for a, b in zip(tensors, copies, strict=True))
    return result


# Token masks


def skipped(rewards, values, mask, gamma, lam):
    """Advantages where only tokens of the mask exist; 0 elsewhere."""
    result = np.zeros(rewards.shape)
    for b in range(len(rewards)):
        following = advantage = 0.0
        for t in reversed(range(rewards.shape[1])):
            if mask[b, t]:
                delta = float(rewards[b, t]) + gamma * following - float(values[b, t])
                result[b, t] = advantage = delta + gamma * float(lam[b]) * advantage
                following = float(values[b, t])
    return result


def unmasked(rewards, values, gamma, lam):
    """Advantages where every column is a step and nothing follows the last one."""
    result = np.zeros(rewards.shape)
    for b in range(len(rewards)):
        following = advantage = 0.0
        for t in reversed(range(rewards.shape[1])):
            delta = float(rewards[b, t]) + gamma * following - float(values[b, t])
            result[b, t] = advantage = delta + gamma * lam * advantage
            following = float(values[b, t])
    return result


def whitened(advantages, mask):
    counted = advantages[mask]
    mean = counted.mean()
    variance = ((counted - mean) ** 2).sum() / (len(counted) - 1)
    return np.where(mask, (advantages - mean) / math.sqrt(variance + 1e-8), 0.0)


def tokens(shape, seed=0, mask_dtype=torch.int64):
    rewards, values = normal(*shape, seed=seed), normal(*shape, seed=seed + 1)
    mask = ~flags(*shape, seed=seed)
    mask[0, -1] = False  # padding after the end
    mask[-1, 0] = mask[-1, -1] = True
    return rewards, values, mask.to(mask_dtype)


@pytest.mark.parametrize("mask_dtype", [torch.int64, torch.bool, torch.float32])
@pytest.mark.parametrize("shape", SHAPES[1:])
def test_verl(shape, mask_dtype):
    for seed, (gamma, lam) in enumerate(FACTORS):
        rewards, values, mask = tokens(shape, seed, mask_dtype)
        advantages, returns = check_untouched(
            verl.compute_gae_advantage_return,
            token_level_rewards=rewards,
            values=values,
            response_mask=mask,
            gamma=gamma,
            lam=lam,
        )
        valid = mask.bool().numpy()
        plain = skipped(rewards, values, valid, gamma, [lam] * shape[0])
        check(advantages, whitened(plain, valid))
        check(returns, plain + values.numpy())  # of advantages that are not whitened
        # The mask, and that alone, decides: what stands outside it is not read.
        rewards[~mask.bool()] = values[~mask.bool()] = math.nan
        again = verl.compute_gae_advantage_return(rewards, values, mask, gamma, lam)
        assert torch.equal(again[0], advantages)
        assert torch.equal(again[1][mask.bool()], returns[mask.bool()])


def test_verl_worked_by_hand():
    # One observation token in the middle: 0 and 2 are neighbours.
    rewards, values = torch.tensor([[0.0, 7.0, 1.0]]), torch.tensor([[2.0, 9.0, 4.0]])
    mask = torch.tensor([[1, 0, 1]])
    advantages, returns = verl.compute_gae_advantage_return(rewards, values, mask, 0.5, 0.5)
    # A_2 = 1 - 4 = -3; A_0 = 0 + 0.5 * 4 - 2 + 0.25 * -3 = -0.75
    check(returns, [[1.25, 9.0, 1.0]])
    half = 1.125 / math.sqrt(2 * 1.125**2)
    check(advantages, [[half, 0.0, -half]])


def test_verl_takes_tensors_that_require_grad_and_numbers_in_tensors():
    rewards, values, mask = tokens((3, 7))
    expected = verl.compute_gae_advantage_return(rewards, values, mask, 0.9, 0.8)
    gamma, lam = torch.tensor(0.9, dtype=torch.float64), torch.tensor(0.8, dtype=torch.float64)
    result = verl.compute_gae_advantage_return(rewards, values.requires_grad_(), mask, gamma, lam)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))
    assert not result[0].requires_grad


def test_verl_and_trl_need_two_tokens():
    rewards, values, mask = tokens((1, 3))
    mask[:] = torch.tensor([0, 1, 0])
    with pytest.raises(ValueError, match="mask must have at least 2 tokens set, got 1"):
        verl.compute_gae_advantage_return(rewards, values, mask, 0.9, 0.9)
    with pytest.raises(ValueError, match="mask must have at least 2 tokens set, got 0"):
        trl.compute_gae(rewards, values, torch.ones(1, 3, dtype=torch.bool), 0.9, 0.9)


@pytest.mark.parametrize("shape", SHAPES[1:])
def test_trl(shape):
    for seed, (gamma, lam) in enumerate(FACTORS):
        rewards, values = normal(*shape, seed=seed), normal(*shape, seed=seed + 1)
        lengths = torch.arange(shape[0]) + 2
        padding = torch.arange(shape[1]) > lengths[:, None]
        values[padding] = 0
        advantages, returns = check_untouched(trl.compute_gae, rewards, values, padding, gamma, lam)
        # Rewards of padding reach what stands before it.
        plain = unmasked(rewards, values, gamma, lam)
        check(returns, plain + values.numpy())
        check(advantages, whitened(plain, ~padding.numpy()))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("mask_dtype", [torch.bool, torch.int64, None])
def test_openrlhf_advantages(shape, mask_dtype):
    for seed, (gamma, lam) in enumerate(FACTORS):
        rewards, values, mask = tokens(shape, seed, mask_dtype or torch.bool)
        if mask_dtype is None:
            mask = torch.ones(shape)
        advantages, returns = check_untouched(
            openrlhf.get_advantages_and_returns,
            values,
            rewards,
            None if mask_dtype is None else mask,
            gamma,
            lam,
        )
        valid = mask.bool()
        plain = unmasked(rewards * valid, values * valid, gamma, lam)
        expected = np.where(valid, plain, 0)
        check(advantages, expected)
        check(returns, expected + values.numpy())


def test_openrlhf_decays_where_verl_skips():
    rewards, values = torch.tensor([[0.0, 7.0, 8.0]]), torch.tensor([[1.0, 9.0, 4.0]])
    mask = torch.tensor([[True, False, True]])
    advantages, _ = openrlhf.get_advantages_and_returns(values, rewards, mask, 0.5, 0.5)
    # A_2 = 8 - 4 = 4; A_1 = 0 + 0.5 * 4 - 0 + 0.25 * 4 = 3; A_0 = 0 + 0.5 * 0 - 1 + 0.25 * 3
    check(advantages, [[-0.25, 0.0, 4.0]])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("masked", [False, True])
def test_openrlhf_returns(shape, masked):
    for seed, (gamma, _) in enumerate(FACTORS):
        rewards, _, mask = tokens(shape, seed)
        mask = mask if masked else None
        returns = check_untouched(openrlhf.get_cumulative_returns, rewards, mask, gamma)
        counted = rewards if mask is None else rewards * mask
        expected = np.zeros(shape)
        for b in range(shape[0]):
            total = 0.0
            for t in reversed(range(shape[1])):
                expected[b, t] = total = float(counted[b, t]) + gamma * total
        check(returns, expected)
        half = openrlhf.get_cumulative_returns(rewards.bfloat16(), mask, gamma)
        assert half.dtype == torch.bfloat16


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("each", [False, True])
def test_nemo_rl(shape, each):
    for seed, (gamma, lam) in enumerate(FACTORS):
        rewards, values, mask = tokens(shape, seed)
        lams = torch.linspace(0.5, 1.0, shape[0], dtype=torch.float64)
        lams = lams if each else torch.full((shape[0],), lam)
        advantages, returns = check_untouched(
            nemo_rl.compute_gae, rewards, values, mask, gamma, lams if each else lam
        )
        plain = skipped(rewards, values, mask, gamma, lams)
        check(advantages, plain)
        check(returns, plain + values.numpy())


def test_tokens_in_bfloat16():
    rewards, values, mask = tokens((3, 7))
    half = values.bfloat16()
    for result in (
        verl.compute_gae_advantage_return(rewards, half, mask, 0.9, 0.9),
        openrlhf.get_advantages_and_returns(half, rewards, mask, 0.9, 0.9),
        nemo_rl.compute_gae(rewards, half, mask, 0.9, torch.full((3,), 0.9)),
        trl.compute_gae(rewards, half, mask == 0, 0.9, 0.9),
    ):
        assert [x.dtype for x in result] == [torch.float32] * 2


# Episodes


def episode_targets(values, rewards, terminateds, bootstrap_value, gamma, lam):
    result = np.zeros(len(values))
    following, advantage = bootstrap_value, 0.0
    for t in reversed(range(len(values))):
        going_on = 0.0 if terminateds[t] else 1.0
        delta = float(rewards[t]) + gamma * following * going_on - float(values[t])
        advantage = delta + gamma * lam * going_on * advantage
        result[t] = advantage + float(values[t])
        following = float(values[t])
    return result


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("flag_dtype", [bool, np.float32])
def test_rllib_value_targets(dtype, flag_dtype):
    rng = np.random.default_rng(0)
    for gamma, lam in FACTORS:
        lens, bootstraps, columns, expected = [], [], [[], [], []], []
        for length in (5, 1, 0, 40, 1, 7, 300):
            values = rng.normal(size=length).astype(dtype)
            rewards = rng.normal(size=length)  # in float64: episodes keep what the env returned
            terminateds = (rng.random(length) < 0.05).astype(flag_dtype)
            bootstrap = rng.normal()
            if length % 2:
                terminateds[-1], bootstrap = 1, 0.0
            arguments = (values, rewards, terminateds, bootstrap, gamma, lam)
            targets = rllib.compute_value_targets_with_bootstrap(*arguments)
            assert targets.dtype == dtype
            expected.append(episode_targets(*arguments))
            np.testing.assert_allclose(targets, expected[-1], **CLOSE)
            lens.append(length)
            bootstraps.append(bootstrap)
            for column, array in zip(columns, (values, rewards, terminateds), strict=True):
                column.append(array)
        packed = [np.concatenate(column) for column in columns]
        targets = rllib.compute_value_targets_batched(*packed, lens, bootstraps, gamma, lam)
        assert targets.dtype == dtype
        np.testing.assert_allclose(targets, np.concatenate(expected), **CLOSE)


def test_rllib_without_episodes():
    none = np.zeros(0, np.float32)
    assert rllib.compute_value_targets_batched(none, none, none, [], [], 0.9, 0.9).shape == (0,)


def vtrace_in_a_loop(target, behaviour, discounts, rewards, values, bootstrap, rho_bar, pg_bar):
    steps, batch = rewards.shape
    vs, pg = np.zeros((steps, batch)), np.zeros((steps, batch))
    for b in range(batch):
        following = following_vs = float(bootstrap[b])
        for t in reversed(range(steps)):
            rho = math.exp(float(target[t, b]) - float(behaviour[t, b]))
            discount, value = float(discounts[t, b]), float(values[t, b])
            delta = min(rho, rho_bar) * (float(rewards[t, b]) + discount * following - value)
            vs[t, b] = value + delta + discount * min(rho, 1.0) * (following_vs - following)
            pg_error = float(rewards[t, b]) + discount * following_vs - value
            pg[t, b] = min(rho, pg_bar) * pg_error
            following, following_vs = value, vs[t, b]
    return vs, pg


@pytest.mark.parametrize(("rho_bar", "pg_bar"), [(1.0, 1.0), (0.7, 2.0), (None, None)])
@pytest.mark.parametrize("shape", [(1, 1), (20, 3), (50, 17)])
def test_rllib_vtrace(shape, rho_bar, pg_bar):
    for gamma in (0.99, 1.0, 0.0):
        target, behaviour, rewards, values = (normal(*shape, seed=k) for k in range(4))
        discounts = gamma * (~flags(*shape, share=0.1)).float()
        bootstrap = normal(shape[1], seed=9)
        vs, pg_advantages = check_untouched(
            rllib.vtrace_torch,
            target_action_log_probs=target,
            behaviour_action_log_probs=behaviour,
            discounts=discounts,
            rewards=rewards,
            values=values,
            bootstrap_values=bootstrap,
            clip_rho_threshold=rho_bar,
            clip_pg_rho_threshold=None if pg_bar is None else torch.tensor(pg_bar),
        )
        limits = (math.inf if x is None else x for x in (rho_bar, pg_bar))
        arrays = (target, behaviour, discounts, rewards, values, bootstrap)
        expected = vtrace_in_a_loop(*arrays, *limits)
        torch.testing.assert_close(vs, torch.tensor(expected[0]).float(), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(
            pg_advantages, torch.tensor(expected[1]).float(), rtol=1e-4, atol=1e-4
        )


def test_rllib_vtrace_detaches_and_refuses_discounts_of_two_gammas():
    names = ("target_action_log_probs", "behaviour_action_log_probs", "rewards", "values")
    arguments = {name: normal(5, 2, seed=k).requires_grad_() for k, name in enumerate(names)}
    arguments |= {"discounts": torch.full((5, 2), 0.9), "bootstrap_values": normal(2)}
    assert not any(x.requires_grad for x in rllib.vtrace_torch(**arguments))
    arguments["discounts"][0, 0] = 0.8
    with pytest.raises(ValueError, match="discounts must be 0 or one gamma"):
        rllib.vtrace_torch(**arguments)


def sample_factory_loop(rewards, dones, values, valids, gamma, lam):
    result = np.zeros(rewards.shape)
    for b in range(rewards.shape[0]):
        advantage = 0.0
        for t in reversed(range(rewards.shape[1])):
            valid, going_on = float(valids[b, t]), 0.0 if dones[b, t] else 1.0
            delta = (float(rewards[b, t]) - float(values[b, t])) * valid
            delta += going_on * gamma * float(values[b, t + 1]) * float(valids[b, t + 1])
            coefficient = gamma * lam if valid else 1.0
            result[b, t] = advantage = delta + coefficient * advantage * going_on
    return result


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("invalid", [0.0, 0.3])
@pytest.mark.parametrize("flag_dtype", [torch.bool, torch.float32])
def test_sample_factory(shape, invalid, flag_dtype):
    for seed, (gamma, lam) in enumerate(FACTORS):
        rewards, values = normal(*shape, seed=seed), normal(shape[0], shape[1] + 1, seed=seed + 1)
        dones = flags(*shape, share=0.1, seed=seed).to(flag_dtype)
        valids = ~flags(shape[0], shape[1] + 1, share=invalid, seed=seed + 2)
        advantages = check_untouched(
            sample_factory.gae_advantages, rewards, dones, values, valids.to(flag_dtype), gamma, lam
        )
        expected = sample_factory_loop(rewards, dones, values, valids, gamma, lam)
        if gamma * lam == 0:  # of invalid steps nothing is promised then
            counted = valids[:, :-1]
            advantages, expected = advantages[counted], expected[counted.numpy()]
        check(advantages, expected)


@pytest.mark.parametrize("value_size", [1, 2])
@pytest.mark.parametrize("shape", [(1, 1), (16, 5), (64, 33)])
def test_rl_games(shape, value_size):
    steps, envs = shape
    for seed, (gamma, tau) in enumerate(FACTORS):
        rewards, values = (normal(steps, envs, value_size, seed=seed + k) for k in range(2))
        dones, last_dones = flags(steps, envs, seed=seed).float(), flags(envs, seed=seed).float()
        last_values = normal(envs, value_size, seed=seed + 2)
        result = check_untouched(
            rl_games.compute_gae, rewards, values, dones, last_values, last_dones, gamma, tau
        )
        expected = np.zeros(rewards.shape)
        for n in range(envs):
            for k in range(value_size):
                advantage = 0.0
                for t in reversed(range(steps)):
                    last = t == steps - 1
                    following = last_values[n, k] if last else values[t + 1, n, k]
                    going_on = 1.0 - float(last_dones[n] if last else dones[t + 1, n])
                    delta = float(rewards[t, n, k]) - float(values[t, n, k])
                    delta += gamma * float(following) * going_on
                    advantage = delta + gamma * tau * going_on * advantage
                    expected[t, n, k] = advantage
        check(result, expected)
        single = rewards.transpose(0, 1).contiguous().transpose(0, 1)  # rl_games swaps axes
        again = rl_games.compute_gae(single, values, dones, last_values, last_dones, gamma, tau)
        assert torch.equal(again, result)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("ratios", ["ones", "random"])
@pytest.mark.parametrize(("rho_clip", "c_clip"), [(1.0, 1.0), (0.8, 1.3)])
def test_pufferlib(shape, ratios, rho_clip, c_clip):
    rows, horizon = shape
    for seed, (gamma, lam) in enumerate(FACTORS):
        values, rewards = (normal(*shape, seed=seed + k) for k in range(2))
        terminals = flags(*shape, share=0.1, seed=seed).float()
        ratio = torch.ones(shape) if ratios == "ones" else normal(*shape, seed=3).exp()
        advantages = torch.full(shape, 7.0)
        result = check_untouched(
            lambda *inputs, to=advantages, factors=(gamma, lam): pufferlib.compute_puff_advantage(
                *inputs, to, *factors, rho_clip, c_clip
            ),
            values,
            rewards,
            terminals,
            ratio,
        )
        assert result is advantages
        expected = np.zeros(shape)
        for b in range(rows):
            carried = 0.0
            for t in reversed(range(horizon - 1)):
                weight, going_on = float(ratio[b, t]), 1.0 - float(terminals[b, t + 1])
                error = float(rewards[b, t + 1]) - float(values[b, t])
                error += gamma * float(values[b, t + 1]) * going_on
                carried *= gamma * lam * min(weight, c_clip) * going_on
                carried += min(weight, rho_clip) * error
                expected[b, t] = carried
        check(result, expected)


# On a GPU, or on the CPU in its place (conftest.py: `device`)


def calls_of_all_functions():
    """Name -> a function that takes tensors, and its arguments."""
    rewards, values, mask = tokens((3, 40))
    lams = torch.linspace(0.5, 1.0, 3, dtype=torch.float64)
    valids, factors = ~flags(3, 41, share=0.2), (0.9, 0.8)
    episodes = (rewards, flags(3, 40, share=0.1), normal(3, 41, seed=3))
    games = (normal(40, 3, 2), normal(40, 3, 2, seed=1), flags(40, 3).float())
    last = (normal(3, 2, seed=2), flags(3).float())
    logps = {"target_action_log_probs": rewards, "behaviour_action_log_probs": values}
    logps |= {"rewards": normal(3, 40, seed=4), "values": normal(3, 40, seed=5)}
    logps |= {"discounts": 0.9 * mask.float(), "bootstrap_values": normal(40)}
    return {
        "verl": (verl.compute_gae_advantage_return, (rewards, values, mask, *factors)),
        "openrlhf": (openrlhf.get_advantages_and_returns, (values, rewards, mask, *factors)),
        "openrlhf-all": (openrlhf.get_advantages_and_returns, (values, rewards, None, *factors)),
        "openrlhf-returns": (openrlhf.get_cumulative_returns, (rewards.bfloat16(), mask, 0.9)),
        "nemo_rl": (nemo_rl.compute_gae, (rewards, values, mask, *factors)),
        "nemo_rl-each": (nemo_rl.compute_gae, (rewards, values, mask, 0.9, lams)),
        "trl": (trl.compute_gae, (rewards, values.bfloat16(), mask == 0, *factors)),
        "rl_games": (rl_games.compute_gae, (*games, *last, *factors)),
        "sample_factory": (sample_factory.gae_advantages, (*episodes, valids, *factors)),
        "sample_factory-all": (
            sample_factory.gae_advantages,
            (*episodes, torch.ones_like(valids), *factors),
        ),
        "pufferlib": (
            pufferlib.compute_puff_advantage,
            (values, rewards, mask.float(), values.exp(), torch.zeros(3, 40), *factors, 1.0, 1.0),
        ),
        "rllib": (rllib.vtrace_torch, logps),
    }


CALLS = calls_of_all_functions()


def copied_to(device, x):
    return x.to(device, copy=True) if isinstance(x, torch.Tensor) else x


@pytest.mark.parametrize("name", CALLS)
def test_tensors_on_a_gpu_stay_there(name, device, on_cpu, monkeypatch):
    function, arguments = CALLS[name]
    if not isinstance(arguments, dict):
        names = inspect.signature(function).parameters
        arguments = dict(zip(names, arguments, strict=True))
    expected = on_cpu(lambda: function(**arguments))
    used, usable = [], ppo_fast.cuda.usable
    monkeypatch.setattr(ppo_fast.cuda, "usable", lambda: used.append(name) or usable())
    results = function(**{key: copied_to(device, x) for key, x in arguments.items()})
    assert used
    for ours, other in zip(*map(as_tuple, (results, expected)), strict=True):
        assert ours.device.type == device
        assert ours.dtype == other.dtype
        torch.testing.assert_close(ours.cpu(), other, **CLOSE)


# Patching


def stub(monkeypatch, name, **attributes):
    """A module of that name, with its packages, which `import` will find."""
    parts = name.split(".")
    for k in range(1, len(parts) + 1):
        part = ".".join(parts[:k])
        if part not in sys.modules:
            monkeypatch.setitem(sys.modules, part, ModuleType(part))
    for attribute, value in attributes.items():
        setattr(sys.modules[name], attribute, value)
    return sys.modules[name]


def their_own(*args, **kwargs):
    raise AssertionError("the original was called")


def patched(library):
    patch = integrations.patch(library)
    assert all(vars(t.owner)[t.attribute] is t.replacement for t in patch.targets)
    return patch


def assert_undone(patch):
    patch.undo()
    assert all(vars(t.owner)[t.attribute] is their_own for t in patch.targets)


@pytest.mark.parametrize(
    ("library", "module", "function"),
    [
        ("verl", "verl.trainer.ppo.core_algos", "compute_gae_advantage_return"),
        ("sample_factory", "sample_factory.algo.learning.learner", "gae_advantages"),
        ("pufferlib", "pufferlib.pufferl", "compute_puff_advantage"),
    ],
)
def test_patch_of_a_function(library, module, function, monkeypatch):
    theirs = stub(monkeypatch, module, **{function: their_own})
    patch = patched(library)
    assert getattr(theirs, function) is getattr(getattr(integrations, library), function)
    assert f"{module}.{function} -> ppo_fast.integrations.{library}.{function}" in str(patch)
    assert_undone(patch)


def test_patch_of_openrlhf(monkeypatch):
    maker = type(
        "RemoteExperienceMaker",
        (),
        {"get_advantages_and_returns": their_own, "get_cumulative_returns": their_own},
    )
    module = "openrlhf.trainer.ppo_utils.experience_maker"
    stub(monkeypatch, module, RemoteExperienceMaker=maker)
    patch = patched("openrlhf")
    rewards, values, mask = tokens((3, 7))
    result = maker().get_advantages_and_returns(values, rewards, mask, 0.9, 0.8)
    expected = openrlhf.get_advantages_and_returns(values, rewards, mask, 0.9, 0.8)
    assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))
    returns = maker().get_cumulative_returns(rewards, mask, 0.9)
    assert torch.equal(returns, openrlhf.get_cumulative_returns(rewards, mask, 0.9))
    assert_undone(patch)


def test_patch_of_nemo_rl(monkeypatch):
    estimator = type(
        "GeneralizedAdvantageEstimator",
        (),
        {"_compute_gae": their_own, "gae_gamma": 0.9, "gae_lambda": 0.8},
    )
    stub(
        monkeypatch,
        "nemo_rl.algorithms.advantage_estimator",
        GeneralizedAdvantageEstimator=estimator,
    )
    patch = patched("nemo_rl")
    rewards, values, mask = tokens((3, 7))
    for keywords, lam in (({}, 0.8), ({"gae_lambda": 0.5}, 0.5), ({"gae_lambda": 0.0}, 0.0)):
        result = estimator()._compute_gae(rewards, values, mask, **keywords)
        expected = nemo_rl.compute_gae(rewards, values, mask, 0.9, lam)
        assert all(torch.equal(a, b) for a, b in zip(result, expected, strict=True))
    assert_undone(patch)


def test_patch_of_rl_games(monkeypatch):
    base = type("A2CBase", (), {"discount_values": their_own, "gamma": 0.9, "tau": 0.8})
    stub(monkeypatch, "rl_games.common.a2c_common", A2CBase=base)
    patch = patched("rl_games")
    rewards, values, last_values = normal(8, 3, 1), normal(8, 3, 1, seed=1), normal(3, 1)
    dones, last_dones = flags(8, 3).float(), flags(3).float()
    result = base().discount_values(last_dones, last_values, dones, values, rewards)
    expected = rl_games.compute_gae(rewards, values, dones, last_values, last_dones, 0.9, 0.8)
    assert torch.equal(result, expected)
    assert_undone(patch)


@pytest.mark.parametrize(
    "function", ["compute_value_targets_with_bootstrap", "compute_value_targets_batched"]
)
def test_patch_of_rllib(function, monkeypatch):
    connector = stub(
        monkeypatch,
        "ray.rllib.connectors.learner.general_advantage_estimation",
        **{function: their_own},
    )
    learners = [
        stub(monkeypatch, f"ray.rllib.algorithms.{name}", vtrace_torch=their_own)
        for name in ("impala.torch.impala_torch_learner", "appo.torch.appo_torch_learner")
    ]
    patch = patched("rllib")
    assert len(patch.targets) == 3
    assert getattr(connector, function) is getattr(rllib, function)
    assert all(learner.vtrace_torch is rllib.vtrace_torch for learner in learners)
    assert_undone(patch)


def test_patch_of_trl_says_how():
    with pytest.raises(ValueError, match=r"nothing to patch; PPOTrainer.train .*trl.compute_gae"):
        integrations.patch("trl")


@pytest.mark.parametrize(
    ("library", "how"),
    [
        ("nemo_rl", "pip install git+https://github.com/NVIDIA-NeMo/RL"),
        ("openrlhf", "pip install openrlhf"),
        ("pufferlib", "pip install pufferlib"),
        ("rl_games", "pip install rl-games"),
        ("rllib", 'pip install "ray[rllib]"'),
        ("sample_factory", "pip install sample-factory"),
        ("skrl", "pip install skrl"),
        ("verl", "pip install verl"),
    ],
)
def test_missing_library(library, how, monkeypatch):
    name = "ray" if library == "rllib" else library
    for module in [m for m in sys.modules if m.split(".")[0] == name]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, name, None)  # as if it were not installed
    with pytest.raises(ModuleNotFoundError, match=re.escape(f": {how}")):
        getattr(integrations, library).targets()


def test_load_tells_a_missing_library_from_a_broken_one(monkeypatch, tmp_path):
    (tmp_path / "broken_library.py").write_text("import ppo_fast_no_such_module")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(ModuleNotFoundError, match="No module named 'ppo_fast_no_such_module'"):
        load("broken_library", "x")
    with pytest.raises(ModuleNotFoundError, match="no module ppo_fast_no_such: pip install x"):
        load("ppo_fast_no_such.module", "x")


def test_every_library_has_targets_or_says_how():
    for library in integrations.LIBRARIES:
        if library in ("rsl_rl", "sb3", "sb3_contrib", "tianshou", "torchrl"):
            continue  # need their library; each has a test module
        module = getattr(integrations, library)
        assert callable(getattr(module, "targets", None)) != isinstance(
            getattr(module, "HOW", None), str
        )


def test_nothing_is_imported_before_it_is_asked_for():
    code = (
        "import sys, ppo_fast.integrations as i; assert 'torch' not in sys.modules; i.skrl; i.verl;"
        "assert not {'skrl', 'verl', 'torchrl'} & set(sys.modules); assert 'torch' in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_patch_is_logged(monkeypatch, caplog):
    stub(monkeypatch, "pufferlib.pufferl", compute_puff_advantage=their_own)
    with caplog.at_level(logging.INFO, "ppo_fast"), integrations.patch("pufferlib"):
        pass
    assert "pufferlib.pufferl.compute_puff_advantage" in caplog.text
