"""The ladder: what it trains and leaves, how it stops and goes on, and what a failure does to it.

Rungs of these tests are settings of ppo-clip, so that they test the ladder, not its algorithms.
"""

import csv
import dataclasses
import importlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from typing import get_args, get_type_hints

import numpy as np
import pytest

from ppo_fast import TrainConfig

pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")
pytest.importorskip("tyro")

from ppo_fast.cli import main
from ppo_fast.training import rungs as rungs_module
from ppo_fast.training.fleet import FleetRun, one_thread, train_fleet
from ppo_fast.training.ladder import ladder
from ppo_fast.training.metrics import TIME_COLUMNS
from ppo_fast.training.plots import plot_ladder
from ppo_fast.training.rungs import RUNGS, Rung, find_rungs
from ppo_fast.training.tables import markdown_table, mean_cell

ENV = "CartPole-v1"
# Hardly learns: a good policy would take long to evaluate.
QUICK = {"num_envs": 8, "num_steps": 64, "num_epochs": 1, "learning_rate": 1e-5}
RUNG_CHANGES = {
    "near": QUICK | {"gamma": 0.8},
    "far": QUICK | {"gamma": 0.99},
}
SOME_RUNGS = tuple(
    Rung(name, f"the {name} rung", f"weight of {name}", "ppo-clip", changes)
    for name, changes in RUNG_CHANGES.items()
)


@pytest.fixture(autouse=True)
def some_rungs(monkeypatch):
    monkeypatch.setattr(rungs_module, "RUNGS", SOME_RUNGS)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A ladder of two rungs and two seeds, from the command line."""
    out = tmp_path_factory.mktemp("ladder") / "out"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(rungs_module, "RUNGS", SOME_RUNGS)
        arguments = ["--seeds", "2", "--total-steps", "1500", "--jobs", "2", "--out", str(out)]
        assert main(["ladder", ENV, *arguments]) == 0
    return out


def metrics_of(run):
    """Columns of metrics.csv, read with nothing of ours."""
    with (run / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    return {name: np.array([float(row[name]) for row in rows]) for name in rows[0]}


def summary_of(run):
    return json.loads((run / "summary.json").read_text())


def runs_of(out, rung, seeds=2):
    return [out / rung / f"s{seed}" for seed in range(1, seeds + 1)]


def cells(markdown):
    """The table in a text as lists of cells, without the header."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


# The real table


def test_the_ladder_has_the_lectures_order():
    assert [rung.name for rung in RUNGS] == [
        "policy-gradient",
        "baseline",
        "credit",
        "discount",
        "critic",
        "importance",
        "trpo",
        "kl-penalty",
        "clip",
    ]
    assert len({rung.title for rung in RUNGS}) == len({rung.formula for rung in RUNGS}) == 9
    assert not any("|" in rung.formula for rung in RUNGS)  # which would end a cell of the table


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
def test_every_rung_is_a_setting_of_the_trainer(rung):
    if rung.algorithm not in get_args(get_type_hints(TrainConfig)["algorithm"]):
        pytest.skip(f"there is no {rung.algorithm} yet")
    config = rung.config(ENV, seed=7)
    assert (config.algorithm, config.seed) == (rung.algorithm, 7)
    preset = TrainConfig.preset(ENV, algorithm=rung.algorithm, seed=7)
    assert config == dataclasses.replace(preset, **rung.changes)


def test_find_rungs(monkeypatch):
    monkeypatch.setattr(rungs_module, "RUNGS", RUNGS)
    assert find_rungs() == RUNGS
    assert [rung.name for rung in find_rungs(["clip", "credit", "clip"])] == ["credit", "clip"]
    with pytest.raises(ValueError, match=r"^unknown rung 'clop'; did you mean clip\?$"):
        find_rungs(["clop"])


# What a ladder leaves


def test_runs_of_a_ladder(finished):
    for rung, changes in RUNG_CHANGES.items():
        for seed, run in enumerate(runs_of(finished, rung), 1):
            expected = TrainConfig.preset(
                ENV,
                **changes,
                seed=seed,
                total_steps=1500,
                target_return=None,
                num_threads=1,
                out=run,
            )
            config = TrainConfig.from_json(json.loads((run / "config.json").read_text()))
            assert config == expected
            assert metrics_of(run)["steps"][-1] == 1536  # whole rollouts
            assert summary_of(run)["eval_episodes"] == 100
            assert (run / "checkpoint.pt").is_file()


def test_a_run_of_a_ladder_is_an_ordinary_run(finished, tmp_path):
    # The same bits as one that was trained here and alone.
    run = finished / "far" / "s2"
    fields = json.loads((run / "config.json").read_text())
    result = importlib.import_module("ppo_fast.training").train(
        dataclasses.replace(TrainConfig.from_json(fields), out=tmp_path / "run")
    )
    ours = metrics_of(run)
    for name, column in result.metrics.items():
        if name not in TIME_COLUMNS:
            np.testing.assert_array_equal(ours[name], column)


def test_table(finished):
    text = (finished / "ladder.md").read_text()
    rows = cells(text)
    assert [row[:2] for row in rows] == [
        ["near", "`weight of near`"],
        ["far", "`weight of far`"],
    ]
    for rung, row in zip(RUNG_CHANGES, rows, strict=True):
        runs = runs_of(finished, rung)
        data = [metrics_of(run) for run in runs]

        def both(values, digits=1):
            return f"{np.mean(values):.{digits}f} +- {np.std(values, ddof=1):.{digits}f}"

        def mean(values, digits):
            return f"{np.mean(values):.{digits}f}"

        # Every step of CartPole gives 1: the sum of returns is that of the lengths of episodes.
        whole = [d["return_sum"][-1] / d["episodes"][-1] for d in data]
        assert row[2:] == [
            both([d["mean_return"][-1] for d in data]),
            both(whole),
            mean([summary_of(run)["eval_mean_return"] for run in runs], 1),
            mean([d["kl"].mean() for d in data], 4),
            mean([d["effective_sample_size"].mean() for d in data], 3),
            mean([d["seconds"][-1] for d in data], 1),
        ]
    assert "Seeds 1 to 2, 1,500 steps each." in text
    assert "![](ladder.png)" in text


def test_csv(finished):
    with (finished / "ladder.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["rung"], row["seed"]) for row in rows] == [
        ("near", "1"),
        ("near", "2"),
        ("far", "1"),
        ("far", "2"),
    ]
    for row in rows:
        run = finished / row["rung"] / f"s{row['seed']}"
        data = metrics_of(run)
        assert float(row["steps"]) == 1536
        assert float(row["episodes"]) == data["episodes"][-1]
        assert float(row["final_return"]) == data["mean_return"][-1]
        assert float(row["mean_return"]) == data["return_sum"][-1] / data["episodes"][-1]
        assert float(row["eval_mean_return"]) == summary_of(run)["eval_mean_return"]
        assert float(row["kl"]) == pytest.approx(data["kl"].mean(), rel=1e-12)
        assert float(row["seconds"]) == data["seconds"][-1]


@pytest.fixture
def drawn(monkeypatch):
    """The figures that are saved while a test runs."""
    figures = []
    figure_class = importlib.import_module("matplotlib.figure").Figure
    savefig = figure_class.savefig

    def spy(figure, *arguments, **settings):
        figures.append(figure)
        return savefig(figure, *arguments, **settings)

    monkeypatch.setattr(figure_class, "savefig", spy)
    return figures


def test_plot(finished, tmp_path, drawn):
    image = importlib.import_module("matplotlib.image")
    pixels = image.imread(finished / "ladder.png")
    assert pixels.shape[0] > 400
    assert pixels.shape[1] > 800
    assert len(np.unique(pixels.reshape(-1, pixels.shape[2]), axis=0)) > 20

    read_metrics = importlib.import_module("ppo_fast.training.metrics").read_metrics
    curves = {
        rung.title: [read_metrics(run) for run in runs_of(finished, rung.name)]
        for rung in SOME_RUNGS
    }
    plot_ladder(tmp_path / "plot.png", ENV, curves)
    assert (tmp_path / "plot.png").read_bytes() == (finished / "ladder.png").read_bytes()
    (figure,) = drawn
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels == ["the near rung", "the far rung", "solved"]
    (axes,) = figure.axes
    for rung, line in zip(RUNG_CHANGES, axes.lines, strict=False):
        data = [metrics_of(run) for run in runs_of(finished, rung)]
        returns = np.mean([d["mean_return"] for d in data], axis=0)
        known = ~np.isnan(returns)
        np.testing.assert_array_equal(line.get_xdata(), data[0]["steps"][known])
        np.testing.assert_allclose(line.get_ydata(), returns[known])


def test_plot_of_runs_that_differ_in_steps_and_of_nine_rungs(tmp_path, drawn):
    def rows(steps, returns):
        return [
            {"steps": s, "mean_return": r, "update": k}
            for k, (s, r) in enumerate(zip(steps, returns, strict=True))
        ]

    nan = float("nan")
    uneven = [rows([10, 20, 40], [nan, 2.0, 4.0]), rows([10, 30, 40], [1.0, 5.0, 6.0])]
    curves = {"uneven": uneven} | {f"rung {k}": [rows([10, 40], [k, k])] for k in range(8)}
    curves["without an episode"] = [rows([10, 40], [nan, nan])]
    plot_ladder(tmp_path / "plot.png", "Pendulum-v1", curves)
    (figure,) = drawn
    assert [text.get_text() for text in figure.legends[0].get_texts()] == list(curves)
    lines = figure.axes[0].lines
    assert lines[0].get_xdata().tolist() == [20, 30, 40]
    assert lines[0].get_ydata().tolist() == [(2 + 3) / 2, (3 + 5) / 2, (4 + 6) / 2]
    assert lines[9].get_xdata().tolist() == []
    assert len({line.get_color() for line in lines[:9]}) == 9


def test_markdown_table():
    text = markdown_table(["rung", "n"], [["a", "1"], ["b", "222"]], "lr")
    assert text == "| rung |   n |\n| ---- | --: |\n| a    |   1 |\n| b    | 222 |\n"


def test_mean_cell():
    assert mean_cell([1.0, 3.0], 1) == "2.0"
    assert mean_cell([1000.0, 3000.0], 0, spread=True) == "2,000 +- 1,414"
    assert mean_cell([1.5], 1, spread=True) == "1.5"
    assert mean_cell([], 1) == mean_cell([float("nan"), 1.0], 1) == "-"


# Going on


def contents(out):
    return {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}


def test_finished_runs_are_kept(finished, tmp_path, capsys):
    out = tmp_path / "out"
    shutil.copytree(finished, out)
    (out / "ladder.png").unlink()
    before = contents(out)
    shutil.rmtree(out / "near" / "s2")
    # Killed before the first update: there is nothing but the config.
    kept = out / "near" / "s2" / "config.json"
    kept.parent.mkdir()
    kept.write_bytes(before[kept])
    result = ladder(ENV, seeds=2, total_steps=1500, out=out, progress=True)
    assert result.failures == {}
    assert result.out == out
    assert result.table in (out / "ladder.md").read_text()
    after = contents(out)
    assert out / "ladder.png" in after
    # Only the run that was missing was trained.
    new = {path.relative_to(out).parts[:2] for path in before.keys() ^ after.keys()}
    assert new == {("near", "s2"), ("ladder.png",)}
    for path in before.keys() & after.keys():
        if path.parts[-3:-1] != ("near", "s2") and path.suffix not in (".md", ".csv"):
            assert before[path] == after[path]
    assert capsys.readouterr().out.startswith("3 of 4 runs are finished already\nnear seed 2: ")


def test_runs_of_other_settings_are_refused(finished, capsys):
    before = contents(finished)
    arguments = ["--seeds", "3", "--total-steps", "2000", "--out", str(finished)]
    assert main(["ladder", ENV, *arguments]) == 1
    error = capsys.readouterr().err
    assert re.fullmatch(
        r"ppo-fast ladder: \S+/near/s1 holds a run with total_steps 1500 instead of 2000; "
        r"remove it or choose another folder\n",
        error,
    )
    assert contents(finished) == before


def test_a_folder_of_something_else_is_refused(tmp_path):
    notes = tmp_path / "near" / "s1" / "notes.txt"
    notes.parent.mkdir(parents=True)
    notes.write_text("mine")
    with pytest.raises(ValueError, match=r"near/s1 exists and holds no run; remove it or choose"):
        ladder(ENV, seeds=1, total_steps=500, out=tmp_path)
    assert list(contents(tmp_path)) == [notes]


@pytest.mark.parametrize("name", ["seeds", "total_steps", "jobs"])
def test_numbers_below_one_are_refused(name, tmp_path):
    with pytest.raises(ValueError, match=f"^ladder: {name} must be at least 1, got 0$"):
        ladder(ENV, **{name: 0}, out=tmp_path)
    assert list(tmp_path.iterdir()) == []


# Long enough (about 2 s) that a signal finds them at work; the native engine would be done.
LONG = {
    name: changes | {"num_envs": 16, "engine": "torch"} for name, changes in RUNG_CHANGES.items()
}
LONG_RUNGS = tuple(Rung(name, name, name, "ppo-clip", changes) for name, changes in LONG.items())
SCRIPT = f"""
import sys
from ppo_fast.cli import main
from ppo_fast.training import rungs

changes = {LONG!r}
rungs.RUNGS = tuple(rungs.Rung(name, name, name, "ppo-clip", changes[name]) for name in changes)
sys.exit(main(["ladder", {ENV!r}, *sys.argv[1:]]))
"""


def start(out, rungs="near,far"):
    return subprocess.Popen(
        [
            *(sys.executable, "-c", SCRIPT, "--rungs", rungs, "--seeds", "1"),
            *("--total-steps", "100000", "--jobs", "2", "--out", str(out)),
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # As in a terminal, where Ctrl-C is for all processes of a command.
        start_new_session=True,
    )


def wait_until(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def wait_for_runs(out, process):
    """Wait until every run is under way."""
    runs = [out / "near" / "s1", out / "far" / "s1"]
    wait_until(lambda: all((run / "checkpoint.pt").exists() for run in runs), process)
    time.sleep(0.3)  # a few updates
    return runs


def updates_of(run):
    checkpoint = importlib.import_module("ppo_fast.training.checkpoint")
    return checkpoint.load_checkpoint(run)["updates"]


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_a_stopped_ladder_goes_on(tmp_path, monkeypatch):
    out = tmp_path / "the out"
    process = start(out)
    runs = wait_for_runs(out, process)
    os.killpg(process.pid, signal.SIGINT)
    output, error = process.communicate(timeout=60)
    assert process.returncode == 130, error
    assert error == (
        "ppo-fast ladder: stopped with 0 of 2 runs finished; go on with: ppo-fast ladder "
        f"CartPole-v1 --rungs near,far --seeds 1 --total-steps 100000 --out '{out}'\n"
    )
    assert "stopping the runs; once more stops at once, without saving\n" in output
    assert re.search(r"^near seed 1: [\d,]+ steps, return \S+, stopped$", output, re.MULTILINE)
    stopped_at = [updates_of(run) for run in runs]
    assert all(0 < updates < 98 for updates in stopped_at)
    assert not any((run / "summary.json").exists() for run in runs)
    assert not (out / "ladder.png").exists()

    # It goes on with a part as well; when it is killed, its worker saves and ends.
    run = runs[0]
    process = start(out, rungs="near")
    wait_until(lambda: len(list(run.glob("events*"))) == 2, process)
    time.sleep(0.3)
    process.kill()
    process.communicate()
    deadline = time.monotonic() + 60
    while updates_of(run) == stopped_at[0]:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert stopped_at[0] < updates_of(run) < 98

    # And to its end.
    monkeypatch.setattr(rungs_module, "RUNGS", LONG_RUNGS)
    assert ladder(ENV, seeds=1, total_steps=100_000, jobs=1, out=out).failures == {}
    for run in runs:
        np.testing.assert_array_equal(metrics_of(run)["update"], np.arange(1, 99))
    assert (out / "ladder.png").is_file()


# Failing


def fleet_run(name, out, **changes):
    fields = QUICK | {"total_steps": 512, "eval_episodes": 0} | changes
    return FleetRun(name, one_thread(TrainConfig(**({"env_id": ENV} | fields), out=out / name)))


def test_a_failing_run_is_reported_and_the_others_finish(tmp_path, monkeypatch, capsys):
    wild = Rung("wild", "wild", "wild", "ppo-clip", QUICK | {"learning_rate": 1e30})
    monkeypatch.setattr(rungs_module, "RUNGS", (SOME_RUNGS[0], wild, SOME_RUNGS[1]))
    out = tmp_path / "out"
    arguments = ["--seeds", "1", "--total-steps", "1500", "--jobs", "1", "--out", str(out)]
    assert main(["ladder", ENV, *arguments]) == 1
    output, error = capsys.readouterr()
    diverged = (
        r"training diverged after \d+ updates and \d+ steps \(.*\); lower learning_rate; "
        rf"the policy before that is saved in {out}/wild/s1"
    )
    trace = out / "wild" / "s1-error.txt"
    assert re.fullmatch(
        rf"ppo-fast ladder: wild seed 1 failed: {diverged}; traceback in {trace}\n", error
    )
    assert re.search(rf"^wild seed 1: .*failed: {diverged}", output, re.MULTILINE)
    assert trace.read_text().startswith("Traceback")
    text = (out / "ladder.md").read_text()
    assert re.search(rf"^- wild seed 1 failed: {diverged}", text, re.MULTILINE)
    rows = cells(text)
    assert [row[0] for row in rows] == ["near", "wild", "far"]
    assert rows[1][2:] == ["-"] * 6
    assert "-" not in rows[0][2:] + rows[2][2:]
    assert (out / "ladder.png").is_file()


def test_nothing_is_written_if_all_runs_fail(tmp_path, monkeypatch, capsys):
    def fail(runs, **settings):
        return {run.name: "no luck" for run in runs}

    monkeypatch.setattr("ppo_fast.training.ladder.train_fleet", fail)
    assert main(["ladder", ENV, "--seeds", "1", "--out", str(tmp_path / "out")]) == 1
    assert capsys.readouterr() == (
        "",
        "ppo-fast ladder: near seed 1 failed: no luck\n"
        "ppo-fast ladder: far seed 1 failed: no luck\n",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_a_crashing_process_fails_its_run_only(tmp_path, monkeypatch):
    # An environment that kills its process, as a fault in native code would.
    (tmp_path / "crashing.py").write_text(
        "import gymnasium, os, signal\n"
        "class Crashing(gymnasium.Env):\n"
        "    def __init__(self):\n"
        "        print('an environment that talks')\n"
        "        os.write(2, b'last words\\n')\n"
        "        os.kill(os.getpid(), signal.SIGKILL)\n"
        "gymnasium.register('Crashing-v0', Crashing)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    runs = [
        fleet_run("crash", tmp_path, env_id="crashing:Crashing-v0"),
        fleet_run("fine", tmp_path),
    ]
    failures = train_fleet(runs, jobs=1)
    assert failures == {"crash": "its process ended by signal 9: last words"}
    assert (tmp_path / "fine" / "summary.json").is_file()
