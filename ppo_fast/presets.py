"""Tuned settings per environment and algorithm; the scores they reach are in README.md."""

from typing import Any

_PRESETS: dict[tuple[str, str], dict[str, Any]] = {
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
}


def preset_fields(env_id: str, algorithm: str) -> dict[str, Any]:
    """Fields of TrainConfig that differ from the defaults; empty for an unknown pair."""
    return dict(_PRESETS.get((env_id.removeprefix("ppo_fast/"), algorithm), {}))
