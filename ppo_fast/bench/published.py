"""Scores that others published, to stand beside ours. None of them was measured by us."""

from dataclasses import dataclass

_CLEANRL = "CleanRL"
_BASELINES = "OpenAI baselines, run by CleanRL"
_RL_ZOO = "rl-zoo3"
_RLOX = "stable-baselines3, run by rlox"

# What stands behind a name in the table.
SOURCES = {
    _CLEANRL: "CleanRL's documentation, benchmark of `ppo.py`: final training return, 3 seeds",
    _BASELINES: "the same page, OpenAI baselines' ppo2: final training return, 3 seeds",
    _RL_ZOO: "rl-baselines3-zoo's benchmark.md: one run each, deterministic evaluation, +- over "
    "episodes; its LunarLander is v2",
    _RLOX: "rlox's convergence-results.md, rl-zoo's hyperparameters: interquartile mean of 5 seeds "
    "with its 95% interval, 30 deterministic episodes",
}


@dataclass(frozen=True)
class Published:
    """A score, as its source prints it, after so many steps (None where it does not say)."""

    source: str
    steps: int | None
    score: str


PUBLISHED: dict[tuple[str, str], tuple[Published, ...]] = {
    ("CartPole-v1", "ppo-clip"): (
        Published(_CLEANRL, 500_000, "490.0 +- 6.1"),
        Published(_BASELINES, 500_000, "497.5 +- 4.0"),
        Published(_RL_ZOO, 100_000, "500"),
        Published(_RLOX, None, "438 [390, 500]"),
    ),
    ("CartPole-v1", "trpo"): (Published(_RL_ZOO, None, "500"),),
    ("CartPole-v1", "a2c"): (Published(_RL_ZOO, None, "500"),),
    ("Acrobot-v1", "ppo-clip"): (
        Published(_CLEANRL, 500_000, "-86.4 +- 1.3"),
        Published(_BASELINES, 500_000, "-81.8 +- 5.6"),
        Published(_RL_ZOO, 1_000_000, "-73.5 +- 18"),
        Published(_RLOX, None, "-83.7 [-97, -77]"),
    ),
    ("Acrobot-v1", "trpo"): (Published(_RL_ZOO, None, "-83.1"),),
    ("Acrobot-v1", "a2c"): (Published(_RL_ZOO, None, "-83.4"),),
    ("Pendulum-v1", "ppo-clip"): (Published(_RL_ZOO, 100_000, "-172.2 +- 104"),),
    ("Pendulum-v1", "trpo"): (Published(_RL_ZOO, None, "-174.6"),),
    ("Pendulum-v1", "a2c"): (Published(_RL_ZOO, None, "-163"),),
    ("MountainCar-v0", "ppo-clip"): (
        Published(_CLEANRL, 500_000, "-200"),
        Published(_BASELINES, 500_000, "-200"),
        Published(_RL_ZOO, 1_000_000, "-110.4"),
    ),
    ("MountainCarContinuous-v0", "ppo-clip"): (Published(_RL_ZOO, 20_000, "88.3 +- 2.6"),),
    ("MountainCarContinuous-v0", "trpo"): (Published(_RL_ZOO, None, "92.5"),),
    ("LunarLander-v3", "ppo-clip"): (Published(_RL_ZOO, 1_000_000, "242.1 +- 31.8"),),
    ("LunarLander-v3", "trpo"): (Published(_RL_ZOO, None, "133"),),
    ("LunarLander-v3", "a2c"): (Published(_RL_ZOO, None, "155.8"),),
}


def published_cell(env_id: str, algorithm: str) -> str:
    """The scores in a line, e.g. `500 (rl-zoo3, 100,000)`; "-" where there are none."""
    cells = []
    for entry in PUBLISHED.get((env_id, algorithm), ()):
        steps = "" if entry.steps is None else f", {entry.steps:,}"
        cells.append(f"{entry.score} ({entry.source}{steps})")
    return "; ".join(cells) or "-"
