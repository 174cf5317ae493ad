"""What the presets reach: every one trained with several seeds and evaluated greedily."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from ppo_fast.bench.published import SOURCES, published_cell
from ppo_fast.bench.report import write_report
from ppo_fast.config import TrainConfig
from ppo_fast.envs.arguments import did_you_mean
from ppo_fast.envs.make import make_single, original_id
from ppo_fast.presets import presets

EPISODES = 100
_BEGIN = "<!-- presets: begin -->"
_END = "<!-- presets: end -->"

Preset = tuple[str, str]


@dataclass(frozen=True)
class PresetScore:
    """What a preset reached, seed by seed.

    Attributes:
        env_id, algorithm: The preset.
        seeds: Its seeds.
        returns: Mean return of the greedy episodes after training.
        steps: Environment steps until the end, or until the preset's target was reached.
        seconds: Of training, while other runs used the machine, too.
    """

    env_id: str
    algorithm: str
    seeds: tuple[int, ...]
    returns: tuple[float, ...]
    steps: tuple[int, ...]
    seconds: tuple[float, ...]


def choose_presets(only: str | None = None, algorithm: str | None = None) -> list[Preset]:
    """The presets of an environment and of an algorithm; None for all.

    Raises
    ------
    ValueError
        If there is none, with near matches.
    """
    known_presets = presets()
    for what, word, position in (("preset for", only, 0), ("preset with", algorithm, 1)):
        known = sorted({preset[position] for preset in known_presets})
        if word is not None and word not in known:
            hint = did_you_mean(word, known, f"there are {', '.join(known)}")
            raise ValueError(f"there is no {what} {word!r}; {hint}")
    chosen = [
        (env_id, name)
        for env_id, name in known_presets
        if only in (None, env_id) and algorithm in (None, name)
    ]
    if not chosen:
        raise ValueError(f"there is no preset for {only!r} with {algorithm!r}")
    return chosen


def bench_presets(
    *,
    only: str | None,
    algorithm: str | None,
    seeds: int,
    jobs: int | None,
    runs: Path,
    out: Path | None,
    document: Path | None,
) -> dict[str, str]:
    """Train presets with seeds 1 to `seeds`, print their scores, and write them.

    The same call goes on where it was stopped: finished runs in `runs` are kept.

    Parameters
    ----------
    only, algorithm
        An environment and an algorithm; None for all.
    seeds
        How many.
    jobs
        Runs at a time; None for one per processor.
    runs
        Folder of the runs, <runs>/<env>-<algorithm>/s<seed>.
    out
        Where to write the scores as .json, unless a run fails; None for nowhere.
    document
        Markdown file whose table is written anew, unless a run fails; None for none.

    Returns
    -------
    dict
        Run -> error, of those that failed.

    Raises
    ------
    ValueError
        If there is no such preset, `runs` holds runs of other settings, or `document` has no place
        for the table.
    """
    if document is not None:
        if only is not None or algorithm is not None:
            raise ValueError("--document gets the whole table: not with --only or --algorithm")
        _split(document)
    from ppo_fast.training.fleet import FleetRun, train_fleet

    chosen = [preset for preset in choose_presets(only, algorithm) if _can_be_made(*preset)]
    fleet = {
        preset: [
            FleetRun(f"{' '.join(preset)} seed {seed}", _config(*preset, seed, runs))
            for seed in range(1, seeds + 1)
        ]
        for preset in chosen
    }
    everything = [run for group in fleet.values() for run in group]
    failures = train_fleet(everything, jobs=jobs, progress=True)
    scores = [
        _score(*preset, [run.out for run in group])
        for preset, group in fleet.items()
        if not any(run.name in failures for run in group)
    ]
    table = score_table(scores)
    print(f"\n{table}")
    if not failures:
        if out is not None:
            write_report(
                out,
                benchmark="presets",
                unit="mean return of greedy episodes on Gymnasium's environment",
                packages=("torch", "numpy", "gymnasium"),
                results=[asdict(score) for score in scores],
            )
        if document is not None:
            write_table(document, table)
    return failures


def interquartile_mean(values: Sequence[float]) -> float:
    """The mean without the lowest and the highest quarter, rounded down to whole values."""
    cut = len(values) // 4
    return float(np.mean(np.sort(values)[cut : len(values) - cut]))


def score_table(scores: Sequence[PresetScore]) -> str:
    """A Markdown row per preset, and below them what the sources of published scores are."""
    from ppo_fast.training.tables import markdown_table, mean_cell

    header = ["environment", "algorithm", "steps", "each seed"]
    header += ["mean", "IQM", "min", "seconds", "published (steps)"]
    rows = [
        [
            score.env_id,
            score.algorithm,
            _range(score.steps),
            ", ".join(f"{value:.1f}" for value in score.returns),
            mean_cell(score.returns, 1),
            f"{interquartile_mean(score.returns):,.1f}",
            f"{min(score.returns):,.1f}",
            mean_cell(score.seconds, 1),
            published_cell(score.env_id, score.algorithm),
        ]
        for score in scores
    ]
    cells = " ".join(row[-1] for row in rows)
    notes = [f"- {name}: {words}." for name, words in SOURCES.items() if f"({name}" in cells]
    return "\n".join([markdown_table(header, rows, "llrlrrrrl"), *notes, ""])


def write_table(document: Path, table: str) -> None:
    """Put the table between the markers of a Markdown file; ValueError if it has none."""
    before, after = _split(document)
    document.write_text(f"{before}{_BEGIN}\n{table}{_END}{after}", encoding="utf-8")
    print(f"{document}: table written")


def _split(document: Path) -> tuple[str, str]:
    """What stands before and after the markers."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(_BEGIN)
    _, end, after = rest.partition(_END)
    if not begin or not end:
        raise ValueError(f"{document} has no place for the table: {_BEGIN} and {_END}")
    return before, after


def _config(env_id: str, algorithm: str, seed: int, runs: Path) -> TrainConfig:
    from ppo_fast.training.fleet import one_thread

    config = TrainConfig.preset(env_id, algorithm=algorithm, seed=seed, eval_episodes=EPISODES)
    return replace(one_thread(config), out=runs / f"{env_id}-{algorithm}" / f"s{seed}")


def _can_be_made(env_id: str, algorithm: str) -> bool:
    """Whether the environment's own packages are installed; says so if they are not."""
    try:
        make_single(original_id(env_id)).close()
    except ValueError as error:
        print(f"{env_id} {algorithm}: left out; {' '.join(str(error).split())}")
        return False
    return True


def _score(env_id: str, algorithm: str, folders: Sequence[Path]) -> PresetScore:
    from ppo_fast.training.run_folder import read_json

    summaries = [read_json(folder / "summary.json") for folder in folders]
    return PresetScore(
        env_id=env_id,
        algorithm=algorithm,
        seeds=tuple(summary["seed"] for summary in summaries),
        returns=tuple(summary["eval_mean_return"] for summary in summaries),
        steps=tuple(summary["total_steps"] for summary in summaries),
        seconds=tuple(summary["wall_seconds"] for summary in summaries),
    )


def _range(values: Sequence[int]) -> str:
    """One number where all are equal, else the lowest and the highest."""
    lowest, highest = min(values), max(values)
    return f"{lowest:,}" if lowest == highest else f"{lowest:,} to {highest:,}"
