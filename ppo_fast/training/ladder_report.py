"""What a ladder found: figures of each run, the table over seeds, the files that hold them."""

import csv
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path

from ppo_fast.training.metrics import Row, columns, read_metrics
from ppo_fast.training.plots import plot_ladder
from ppo_fast.training.run_folder import read_json
from ppo_fast.training.rungs import Rung
from ppo_fast.training.tables import markdown_table, mean_cell

_NOTES = """\
All figures are means over seeds, `+-` is the standard deviation between them. `final return` is the
mean of the last 100 training episodes, `whole run` that of all, `greedy` that of greedy episodes on
Gymnasium's environment. `KL` and `ESS` are means over updates: how far an update moved the policy,
and which share of its samples the importance weights leave (effective sample size). `seconds` are
of training, while the other runs used the machine, too. `-` stands where no run has finished.

`weight` is what weighs the gradient of log pi(a_t given s_t). r_t are rewards, R(tau) their sum
over an episode, b the mean of what it is subtracted from, A_t the advantage, r_t(theta) the
importance weight.
"""


@dataclass(frozen=True)
class RunFigures:
    """A row of ladder.csv; NaN for returns of which there are none."""

    rung: str
    seed: int
    steps: int
    episodes: int
    final_return: float
    mean_return: float
    eval_mean_return: float
    kl: float
    effective_sample_size: float
    seconds: float


def run_figures(rung: str, rows: list[Row], summary: dict[str, float]) -> RunFigures:
    """The figures of a finished run from its metrics.csv and summary.json."""
    data = columns(rows)

    def mean(name: str) -> float:
        return float(data[name].mean())

    last = rows[-1]
    episodes = int(last["episodes"])
    return RunFigures(
        rung=rung,
        seed=int(summary["seed"]),
        steps=int(last["steps"]),
        episodes=episodes,
        final_return=last["mean_return"],
        mean_return=last["return_sum"] / episodes if episodes else float("nan"),
        eval_mean_return=summary["eval_mean_return"],
        kl=mean("kl"),
        effective_sample_size=mean("effective_sample_size"),
        seconds=last["seconds"],
    )


def ladder_table(rungs: Sequence[Rung], figures: Sequence[RunFigures]) -> str:
    """A Markdown row per rung."""
    rows = []
    for rung in rungs:
        runs = [run for run in figures if run.rung == rung.name]
        rows.append(
            [
                rung.name,
                f"`{rung.formula}`",
                mean_cell([run.final_return for run in runs], 1, spread=True),
                mean_cell([run.mean_return for run in runs], 1, spread=True),
                mean_cell([run.eval_mean_return for run in runs], 1),
                mean_cell([run.kl for run in runs], 4),
                mean_cell([run.effective_sample_size for run in runs], 3),
                mean_cell([run.seconds for run in runs], 1),
            ]
        )
    header = ["rung", "weight", "final return", "whole run", "greedy", "KL", "ESS", "seconds"]
    return markdown_table(header, rows, "llrrrrrr")


def write_ladder(
    out: Path, env_id: str, rungs: Sequence[Rung], folders: Sequence[tuple[Rung, Path]], words: str
) -> str:
    """Write ladder.csv, ladder.md and ladder.png from the folders of finished runs.

    `words` say what was run, in whole lines. Returns the table.
    """
    figures = []
    curves: dict[str, list[list[Row]]] = {}
    for rung, folder in folders:
        rows = read_metrics(folder)
        figures.append(run_figures(rung.name, rows, read_json(folder / "summary.json")))
        curves.setdefault(rung.title, []).append(rows)
    with (out / "ladder.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(RunFigures)])
        writer.writeheader()
        writer.writerows(map(asdict, figures))
    table = ladder_table(rungs, figures)
    text = f"# {env_id}: the ladder\n\n{words}\n{table}\n{_NOTES}\n![](ladder.png)\n"
    (out / "ladder.md").write_text(text, encoding="utf-8")
    plot_ladder(out / "ladder.png", env_id, curves)
    return table
