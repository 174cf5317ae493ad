"""The lecture's ladder as data: each rung is a setting of the trainer and nothing else."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ppo_fast.config import TrainConfig
from ppo_fast.envs.arguments import did_you_mean


@dataclass(frozen=True)
class Rung:
    """One step of the ladder.

    Attributes:
        name: Its name on the command line, and of its folder.
        title: Its name in the plot.
        formula: What weighs the gradient of log pi(a_t | s_t), or takes its place.
        algorithm: `TrainConfig.algorithm`, whose preset the rung starts from.
        changes: Fields that the rung sets.
    """

    name: str
    title: str
    formula: str
    algorithm: str
    changes: dict[str, Any] = field(default_factory=dict)

    def config(self, env_id: str, **changes: Any) -> TrainConfig:
        """A run of this rung on an environment, with some more fields changed."""
        changes = self.changes | changes
        return TrainConfig.preset(env_id, algorithm=self.algorithm, **changes)


# r_t are rewards and R(tau) is their sum over an episode; b is the mean of what it is subtracted
# from, A_t the advantage, r_t(theta) the importance weight pi(a_t | s_t) / pi_old(a_t | s_t).
RUNGS = (
    Rung(
        "policy-gradient",
        "policy gradient",
        "R(tau)",
        "reinforce",
        {"credit": "trajectory", "baseline": "none", "gamma": 1.0},
    ),
    Rung(
        "baseline",
        "tip 1: baseline",
        "R(tau) - b",
        "reinforce",
        {"credit": "trajectory", "baseline": "mean", "gamma": 1.0},
    ),
    Rung(
        "credit",
        "tip 2: suitable credit",
        "sum_{t'>=t} r_t' - b",
        "reinforce",
        {"credit": "reward_to_go", "baseline": "mean", "gamma": 1.0},
    ),
    Rung(
        "discount",
        "discount",
        "sum_{t'>=t} gamma^(t'-t) r_t' - b",
        "reinforce",
        {"credit": "reward_to_go", "baseline": "mean"},
    ),
    Rung("critic", "critic (A2C)", "A_t", "a2c"),
    Rung("importance", "importance weights", "r_t(theta) A_t", "ppo-unclipped"),
    Rung("trpo", "constraint (TRPO)", "r_t(theta) A_t, KL < delta", "trpo"),
    Rung("kl-penalty", "penalty (PPO)", "r_t(theta) A_t - beta KL", "ppo-kl"),
    Rung("clip", "clip (PPO2)", "min(r_t(theta) A_t, clip(r_t(theta)) A_t)", "ppo-clip"),
)


def find_rungs(names: Iterable[str] | None = None) -> tuple[Rung, ...]:
    """The named rungs in ladder order; None for all.

    Raises
    ------
    ValueError
        For a name that is not on the ladder, with near matches.
    """
    known = {rung.name: rung for rung in RUNGS}
    wanted = set(known if names is None else names)
    for name in sorted(wanted - known.keys()):
        hint = did_you_mean(name, known, f"there are {', '.join(known)}")
        raise ValueError(f"unknown rung {name!r}; {hint}")
    if not wanted:
        raise ValueError(f"no rung is given; there are {', '.join(known)}")
    return tuple(rung for rung in RUNGS if rung.name in wanted)
