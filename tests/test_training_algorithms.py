"""Whole runs of every algorithm: metrics, policies, going on after a kill, and learning."""

import dataclasses
import json
import os
import random
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
import tiny_envs

import ppo_fast
from ppo_fast import TrainConfig
from ppo_fast.algorithms import ALGORITHMS

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

from test_training import (  # noqa: E402
    CHECKPOINT,
    assert_same_run,
    has_rows,
    kill,
    read_csv,
    wait_until,
)

COLUMNS = {
    "update",
    "steps",
    "episodes",
    "mean_return",
    "mean_length",
    "seconds",
    "steps_per_second",
    "env_seconds",
    "policy_seconds",
    "update_seconds",
    "policy_loss",
    "value_loss",
    "kl",
    "entropy",
    "effective_sample_size",
    "explained_variance",
    "learning_rate",
}
# Not numbers before an episode has ended, or where no KL is in the loss.
MAY_BE_NAN = {"mean_return", "mean_length", "explained_variance"}


def config_of(env_id, algorithm, out, **changes):
    settings = {
        "num_envs": 4,
        "num_steps": 32,
        "num_epochs": 2,
        "minibatch_size": 64,
        "total_steps": 384,
        "hidden_sizes": (16,),
        "eval_episodes": 1,
        "learning_rate": 1e-3,
    }
    return TrainConfig(env_id, algorithm=algorithm, out=out, **(settings | changes))


def train_and_check(config):
    """A run, its metrics finite, its policy loaded and asked."""
    result = ppo_fast.train(config)
    metrics = result.metrics
    assert set(metrics) >= COLUMNS
    for name in COLUMNS - MAY_BE_NAN:
        assert np.isfinite(metrics[name]).all(), name
    assert (metrics["kl"] >= -1e-7).all()
    assert (metrics["effective_sample_size"] > 0).all()
    assert (metrics["effective_sample_size"] <= 1 + 1e-6).all()
    assert metrics["steps"][-1] >= config.total_steps
    assert np.isfinite(result.evaluation.returns).all()
    env = gymnasium.make(config.env_id)
    obs = np.stack([env.observation_space.sample() for _ in range(5)])
    policy = ppo_fast.load(result.out)
    for deterministic in (True, False):
        actions = policy.predict(obs, deterministic=deterministic)
        expected = result.policy.predict(obs, deterministic=deterministic)
        np.testing.assert_array_equal(actions, expected)
        assert all(env.action_space.contains(np.asarray(action)) for action in actions)
    env.close()
    return result


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_every_algorithm_on_cartpole(algorithm, tmp_path):
    result = train_and_check(config_of("CartPole-v1", algorithm, tmp_path / "run"))
    metrics = result.metrics
    if algorithm == "reinforce":
        assert (np.diff(metrics["steps"], prepend=0) >= 128).all()
    else:
        np.testing.assert_array_equal(metrics["steps"], [128, 256, 384])
    own = {"ppo-kl": {"beta"}, "ppo-clip": {"clip_range"}, "trpo": {"step_size"}}
    assert own.get(algorithm, set()) <= set(metrics)


@pytest.mark.parametrize("continuous", ["gaussian", "gsde", "squashed"])
@pytest.mark.parametrize("algorithm", ["ppo-clip", "a2c", "trpo", "reinforce", "ppo-kl"])
def test_continuous_actions(algorithm, continuous, tmp_path):
    config = config_of("Pendulum-v1", algorithm, tmp_path / "run", continuous=continuous)
    metrics = train_and_check(config).metrics
    if algorithm == "reinforce":  # four whole episodes of 200 steps
        np.testing.assert_array_equal(metrics["steps"], [800])
        np.testing.assert_array_equal(metrics["mean_length"], 200)


@pytest.mark.parametrize("continuous", ["gaussian", "squashed"])
def test_std_of_the_state(continuous, tmp_path):
    train_and_check(
        config_of(
            "Pendulum-v1",
            "ppo-clip",
            tmp_path / "run",
            continuous=continuous,
            state_dependent_std=True,
            shared_trunk=True,
            activation="elu",
        )
    )


@pytest.mark.parametrize("kind", ["choices", "bits"])
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_several_choices_at_once(algorithm, kind, tiny, tmp_path):
    # The environment itself refuses what its space does not hold.
    result = train_and_check(config_of(tiny[kind], algorithm, tmp_path / "run"))
    np.testing.assert_array_equal(result.metrics["mean_length"], tiny_envs.LENGTH)
    assert result.policy.predict(np.zeros(3)).shape == (3,)


@pytest.mark.parametrize(("kind", "by_chance"), [("choices", 13 / 36), ("bits", 0.5)])
def test_several_choices_are_learned(kind, by_chance, tiny, tmp_path):
    # Right by chance with probability 1/3, 1/2 and 1/4, or 1/2 each.
    config = config_of(
        tiny[kind],
        "ppo-clip",
        tmp_path / "run",
        num_envs=8,
        num_steps=48,
        num_epochs=6,
        learning_rate=2e-2,
        gamma=0.0,
        entropy_coef=0.0,
        total_steps=384 * 12,
        eval_episodes=5,
    )
    result = ppo_fast.train(config)
    assert result.metrics["mean_return"][0] == pytest.approx(12 * by_chance, abs=1)
    assert result.evaluation.mean_return > 11.5


def test_steps_of_reinforce_are_those_of_its_episodes(tmp_path):
    config = config_of("CartPole-v1", "reinforce", tmp_path / "run", total_steps=1500)
    metrics = ppo_fast.train(config).metrics
    for steps, episodes, length in zip(
        metrics["steps"], metrics["episodes"], metrics["mean_length"], strict=True
    ):
        if episodes <= 100:  # the window of the mean
            assert steps == pytest.approx(episodes * length)
    assert (np.diff(metrics["steps"]) != 128).any()
    assert metrics["steps"][-2] < 1500 <= metrics["steps"][-1]
    # The learning rate falls by what was learned from.
    remaining = 1 - np.concatenate([[0], metrics["steps"][:-1]]) / 1536
    np.testing.assert_allclose(metrics["learning_rate"], 1e-3 * remaining)


def test_episodes_without_end(foreign_env, monkeypatch, tmp_path):
    import ppo_fast.rollout as module

    monkeypatch.setattr(module, "_LONGEST_EPISODE", 300)
    with pytest.raises(RuntimeError, match="an episode did not end within 300 steps"):
        ppo_fast.train(config_of(foreign_env, "reinforce", tmp_path / "run"))


def test_squashed_actions_need_bounds(tmp_path):
    class Free(gymnasium.Env):
        observation_space = gymnasium.spaces.Box(-1, 1, (2,))
        action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))

    gymnasium.register("tiny/free-v0", Free)
    try:
        with pytest.raises(ValueError, match=r"actions without bounds.*choose continuous=gaussian"):
            ppo_fast.train(
                config_of("tiny/free-v0", "ppo-clip", tmp_path / "run", continuous="squashed")
            )
    finally:
        del gymnasium.registry["tiny/free-v0"]
    assert list(tmp_path.iterdir()) == []


# Going on


# Starts a run, or goes on with one.
RUN = """
import json, sys, ppo_fast

config = ppo_fast.TrainConfig.from_json(json.loads(sys.argv[1]))
if (config.out / "checkpoint.pt").exists():
    ppo_fast.train(resume=config.out)
else:
    ppo_fast.train(config)
"""
NORMALIZED = {"normalize_obs": True, "normalize_rewards": True}
NATIVE = {"engine": "native"}
TORCH = {"engine": "torch"}


def kill_at_a_random_moment(config, rng):
    """Go on with a run in a process of its own, which dies after some updates; returns how many.

    It is saved after every update, so some of them lie behind the checkpoint. The last wait ends
    anywhere in a rollout, an update, or while a file is written.
    """
    before = len(read_csv(config.out)) if (config.out / CHECKPOINT).exists() else 0
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(config.to_json())],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    more = rng.randint(3, 20)
    wait_until(
        lambda: has_rows(config.out, before + more) and (config.out / CHECKPOINT).exists(), process
    )
    time.sleep(rng.uniform(0, 0.05))
    kill(process)
    return torch.load(config.out / CHECKPOINT, weights_only=True)["updates"]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
@pytest.mark.parametrize(
    ("algorithm", "env_id", "changes"),
    [
        ("reinforce", "CartPole-v1", NORMALIZED),
        ("a2c", "CartPole-v1", NORMALIZED | NATIVE),
        ("a2c", "CartPole-v1", TORCH),
        ("ppo-unclipped", "CartPole-v1", NATIVE),
        ("ppo-clip", "CartPole-v1", NATIVE),
        ("ppo-clip", "CartPole-v1", TORCH),
        ("ppo-kl", "CartPole-v1", {"anneal_entropy_coef": True} | NATIVE),
        ("ppo-kl", "CartPole-v1", {"anneal_entropy_coef": True} | TORCH),
        ("trpo", "Pendulum-v1", NORMALIZED),
        ("ppo-kl", "Pendulum-v1", {"continuous": "gsde", "kl_rule": "distributed"}),
        ("ppo-clip", "Pendulum-v1", NORMALIZED | NATIVE),
        ("ppo-clip", "Pendulum-v1", {"continuous": "squashed"} | NORMALIZED | TORCH),
        ("ppo-clip", "Hopper-v5", NORMALIZED | NATIVE),
        ("a2c", "Hopper-v5", TORCH | {"num_envs": 1, "num_steps": 128}),
    ],
)
def test_a_killed_run_goes_on_with_the_same_bits(algorithm, env_id, changes, tmp_path):
    if env_id == "Hopper-v5":
        pytest.importorskip("mujoco")
    out = tmp_path / "killed"
    # The native engine is over sooner, and has more moments to be killed at.
    updates, kills = (200, 3) if changes.get("engine") == "native" else (70, 1)
    config = config_of(
        env_id, algorithm, out, total_steps=128 * updates, eval_episodes=0, seed=2, **changes
    )
    saving = dataclasses.replace(config, checkpoint_seconds=0.0)
    rng = random.Random(f"{algorithm} {env_id} {changes}")
    saved = [kill_at_a_random_moment(saving, rng) for _ in range(kills)]
    assert saved[0] > 0
    assert saved == sorted(saved)
    assert not (out / "summary.json").exists()
    ppo_fast.train(resume=out)
    whole = ppo_fast.train(dataclasses.replace(config, out=tmp_path / "whole"))
    assert_same_run(out, whole.out, ignore=["checkpoint_seconds"])
    assert len(read_csv(out)) > saved[-1]
    if algorithm == "ppo-kl":
        assert len(set(whole.metrics["beta"])) > 2


# Learning


BARS = {
    "reinforce": 350,
    "a2c": 400,
    "ppo-unclipped": 300,
    "trpo": 475,
    "ppo-kl": 475,
    "ppo-clip": 475,
}


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_presets_reach_their_bars_on_cartpole(algorithm, tmp_path):
    scores = []
    for seed in range(1, 6):
        config = TrainConfig.preset(
            "CartPole-v1",
            algorithm=algorithm,
            seed=seed,
            total_steps=200_000,
            out=tmp_path / str(seed),
        )
        evaluation = ppo_fast.train(config).evaluation
        assert len(evaluation.returns) == 100
        scores.append(evaluation.mean_return)
    assert np.mean(scores) >= BARS[algorithm], scores


def return_over_the_run(config):
    """Mean return of all training episodes."""
    metrics = ppo_fast.train(config).metrics
    return metrics["return_sum"][-1] / metrics["episodes"][-1]


@pytest.mark.slow
def test_credit_for_what_came_after_learns_faster(tmp_path):
    means = {}
    slow, fast, default = (
        ("trajectory", "none"),
        ("reward_to_go", "none"),
        ("reward_to_go", "critic"),
    )
    for credit, baseline in (slow, fast, default):
        runs = []
        for seed in range(1, 6):
            config = TrainConfig.preset(
                "CartPole-v1",
                algorithm="reinforce",
                credit=credit,
                baseline=baseline,
                seed=seed,
                total_steps=200_000,
                target_return=None,
                eval_episodes=0,
                out=tmp_path / f"{credit}-{baseline}-{seed}",
            )
            runs.append(return_over_the_run(config))
        means[credit, baseline] = np.mean(runs)
    assert means[slow] < means[fast]  # by the credit alone
    assert means[slow] < means[default]
