"""Tuned settings per environment and algorithm; docs/results.md has the scores they reach."""

from typing import Any

# What an algorithm wants on any environment, where it has no settings for that one.
_ALGORITHMS: dict[str, dict[str, Any]] = {
    "reinforce": {"num_envs": 8, "num_steps": 64, "learning_rate": 1e-2, "entropy_coef": 0.0},
    "a2c": {
        "num_envs": 8,
        "num_steps": 16,
        "learning_rate": 3e-3,
        "gae_lambda": 0.9,
        "entropy_coef": 0.0,
        "normalize_advantages": "none",
    },
    "trpo": {"num_envs": 16, "num_steps": 64, "num_epochs": 8, "learning_rate": 2e-3},
}

# Steps are whole rollouts within a round budget: 499,712 = 122 x 4,096.
_PRESETS: dict[tuple[str, str], dict[str, Any]] = {
    ("CartPole-v1", "reinforce"): {"total_steps": 200_000},
    ("CartPole-v1", "a2c"): {
        "total_steps": 200_000,
        "num_steps": 32,
        "learning_rate": 5e-3,
        "gamma": 0.98,
        "gae_lambda": 1.0,
    },
    ("CartPole-v1", "ppo-unclipped"): {
        "total_steps": 200_000,
        "num_envs": 32,
        "num_steps": 64,
        "learning_rate": 5e-4,
        "entropy_coef": 0.0,
    },
    ("CartPole-v1", "trpo"): {"total_steps": 200_000, "gamma": 0.98},
    ("CartPole-v1", "ppo-kl"): {
        "total_steps": 200_000,
        "num_envs": 32,
        "num_steps": 64,
        "learning_rate": 2e-3,
        "gamma": 0.98,
        "entropy_coef": 0.0,
    },
    ("CartPole-v1", "ppo-clip"): {
        "total_steps": 200_000,
        "num_envs": 32,
        "num_steps": 64,
        "num_epochs": 4,
        "minibatch_size": 256,
        "learning_rate": 4e-3,
        "gamma": 0.99,
        "gae_lambda": 0.9,
        "entropy_coef": 0.0,
        "target_return": 475.0,
    },
    ("Acrobot-v1", "ppo-clip"): {
        "total_steps": 499_712,
        "num_envs": 32,
        "num_steps": 128,
        "num_epochs": 4,
        "minibatch_size": 256,
        "learning_rate": 2e-3,
        "gae_lambda": 0.94,
    },
    ("Pendulum-v1", "ppo-clip"): {
        "total_steps": 299_008,
        "num_envs": 16,
        "num_steps": 128,
        "num_epochs": 10,
        "minibatch_size": 128,
        "learning_rate": 1e-3,
        "gamma": 0.9,
        "gae_lambda": 0.9,
        "entropy_coef": 0.0,
        "continuous": "gsde",
    },
    ("MountainCar-v0", "ppo-clip"): {
        "total_steps": 999_424,
        "num_envs": 32,
        "num_steps": 256,
        "num_epochs": 10,
        "minibatch_size": 512,
        "learning_rate": 1e-3,
        "gae_lambda": 0.98,
        "normalize_obs": True,
        "normalize_rewards": True,
    },
    ("MountainCarContinuous-v0", "ppo-clip"): {
        "total_steps": 299_008,
        "num_envs": 16,
        "num_steps": 256,
        "num_epochs": 10,
        "minibatch_size": 256,
        "learning_rate": 1e-3,
        "gamma": 0.9999,
        "gae_lambda": 0.9,
        "entropy_coef": 0.0,
        "normalize_obs": True,
        "normalize_rewards": True,
        "continuous": "gsde",
        "noise_steps": 64,
    },
    ("LunarLander-v3", "ppo-clip"): {
        "total_steps": 999_424,
        "num_envs": 16,
        "num_steps": 512,
        "num_epochs": 4,
        "minibatch_size": 256,
        "learning_rate": 1e-3,
        "gamma": 0.999,
        "gae_lambda": 0.98,
        "normalize_rewards": True,
    },
}


def preset_fields(env_id: str, algorithm: str) -> dict[str, Any]:
    """Fields of TrainConfig that differ from the defaults: what the algorithm wants in general, and
    what was tuned for the environment.
    """
    tuned = _PRESETS.get((env_id.removeprefix("ppo_fast/"), algorithm), {})
    return _ALGORITHMS.get(algorithm, {}) | tuned


def presets() -> list[tuple[str, str]]:
    """All (environment, algorithm) that settings were tuned for."""
    return list(_PRESETS)
