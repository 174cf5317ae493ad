"""ladder: every rung on one environment, with the same seeds and budget, and what came of it."""

import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ppo_fast.config import TrainConfig
from ppo_fast.envs import require_known
from ppo_fast.training.fleet import FleetInterrupted, FleetRun, one_thread, train_fleet
from ppo_fast.training.ladder_report import write_ladder
from ppo_fast.training.run_folder import env_stem
from ppo_fast.training.rungs import Rung, find_rungs

EVAL_EPISODES = 100


@dataclass(frozen=True)
class LadderResult:
    """What a ladder leaves.

    Attributes:
        out: Its folder, with ladder.png, ladder.md and ladder.csv if a run has finished.
        table: Markdown, a row per rung; None if no run has finished.
        failures: Run -> error, of those that failed.
    """

    out: Path
    table: str | None
    failures: dict[str, str]


class LadderInterrupted(KeyboardInterrupt):
    """The ladder was stopped by Ctrl-C (or SIGTERM); its runs are saved."""


def ladder(
    env_id: str,
    *,
    rungs: Sequence[str] | None = None,
    seeds: int = 3,
    total_steps: int | None = None,
    jobs: int | None = None,
    out: str | os.PathLike[str] | None = None,
    progress: bool = False,
) -> LadderResult:
    """Train rungs of the ladder, each with seeds 1 to `seeds`, in processes side by side.

    The same call with the same `out` goes on: finished runs are kept, stopped ones resumed.

    Parameters
    ----------
    env_id
        The environment.
    rungs
        Names of `ppo_fast.training.rungs.RUNGS`; None for all.
    seeds
        How many seeds.
    total_steps
        Environment steps of each run, of which none stops early; None for those of the preset of
        ppo-clip.
    jobs
        Runs at a time; None for one per processor.
    out
        Folder; None for runs/ladder-<env>. A run is <out>/<rung>/s<seed>, an ordinary run folder.
    progress
        Show how it goes.

    Raises
    ------
    ValueError
        For an unknown environment or rung, numbers below 1, or runs of other settings in `out`.
    LadderInterrupted
        On Ctrl-C or SIGTERM; says how to go on.
    """
    for name, value in (("seeds", seeds), ("total_steps", total_steps), ("jobs", jobs)):
        if value is not None and value < 1:
            raise ValueError(f"ladder: {name} must be at least 1, got {value}")
    require_known(env_id)
    chosen = find_rungs(rungs)
    if total_steps is None:
        total_steps = TrainConfig.preset(env_id).total_steps
    folder = Path("runs") / f"ladder-{env_stem(env_id)}" if out is None else Path(out)
    runs = [
        (rung, _run(rung, env_id, seed, total_steps, folder))
        for rung in chosen
        for seed in range(1, seeds + 1)
    ]
    # Seed by seed, so that a ladder that is stopped early has something of every rung.
    order = sorted((run for _, run in runs), key=lambda run: run.config.seed)
    try:
        failures = train_fleet(order, jobs=jobs, progress=progress)
    except FleetInterrupted as stop:
        command = ["ppo-fast", "ladder", env_id, "--rungs", ",".join(rung.name for rung in chosen)]
        command += ["--seeds", str(seeds), "--total-steps", str(total_steps)]
        command += ["--out", str(folder)]
        raise LadderInterrupted(
            f"stopped with {stop.finished} of {stop.total} runs finished; "
            f"go on with: {shlex.join(command)}"
        ) from None
    finished = [(rung, run.out) for rung, run in runs if run.name not in failures]
    table = None
    if finished:
        words = [f"Seeds 1 to {seeds}, {total_steps:,} steps each.\n"]
        words += [f"- {name} failed: {error}\n" for name, error in failures.items()]
        table = write_ladder(folder, env_id, chosen, finished, "\n".join(words))
    return LadderResult(folder, table, failures)


def _run(rung: Rung, env_id: str, seed: int, total_steps: int, out: Path) -> FleetRun:
    config = rung.config(
        env_id,
        seed=seed,
        total_steps=total_steps,
        target_return=None,
        eval_episodes=EVAL_EPISODES,
    )
    config = replace(one_thread(config), out=out / rung.name / f"s{seed}")
    return FleetRun(f"{rung.name} seed {seed}", config)
