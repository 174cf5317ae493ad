"""`ppo-fast bench presets`: what it trains, computes, prints and writes."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

import ppo_fast
from ppo_fast import TrainConfig, presets
from ppo_fast.bench.presets import (
    PresetScore,
    choose_presets,
    interquartile_mean,
    score_table,
    write_table,
)
from ppo_fast.bench.published import PUBLISHED, SOURCES, published_cell

pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")
pytest.importorskip("tyro")

from ppo_fast.cli import main

ENV = "CartPole-v1"
QUICK = {"total_steps": 512, "num_envs": 4, "num_steps": 64, "num_epochs": 1}
MARKERS = "before\n<!-- presets: begin -->\nold\n<!-- presets: end -->\nafter\n"


@pytest.fixture
def quick_presets(monkeypatch):
    """Presets that take no time, of which one is for an environment that cannot be made."""
    quick = {(ENV, "ppo-clip"): QUICK, ("Nowhere-v0", "ppo-clip"): QUICK}
    monkeypatch.setattr(presets, "_PRESETS", quick)


def summaries(runs):
    return [json.loads((run / "summary.json").read_text()) for run in runs]


def test_bench_presets(quick_presets, tmp_path, monkeypatch, capsys):
    document = tmp_path / "results.md"
    document.write_text(MARKERS)
    files = ["--runs", tmp_path / "runs", "--out", tmp_path / "new" / "presets"]
    files += ["--document", document]
    command = ["bench", "presets", "--seeds", "3", "--jobs", "2", *map(str, files)]
    assert main(command) == 0
    output = capsys.readouterr().out
    assert "Nowhere-v0 ppo-clip: left out; unknown environment 'Nowhere-v0'" in output

    runs = [tmp_path / "runs" / f"{ENV}-ppo-clip" / f"s{seed}" for seed in (1, 2, 3)]
    expected = TrainConfig(ENV, **QUICK, seed=2, num_threads=1, out=runs[1])
    assert ppo_fast.load(runs[1]).config == expected
    returns = [summary["eval_mean_return"] for summary in summaries(runs)]
    report = json.loads((tmp_path / "new" / "presets.json").read_text())
    assert report["benchmark"] == "presets"
    assert report["machine"]["ppo_fast"] == ppo_fast.build_info()
    assert report["results"] == [
        {
            "env_id": ENV,
            "algorithm": "ppo-clip",
            "seeds": [1, 2, 3],
            "returns": returns,
            "steps": [512, 512, 512],
            "seconds": [summary["wall_seconds"] for summary in summaries(runs)],
        }
    ]
    text = document.read_text()
    assert text.startswith("before\n<!-- presets: begin -->\n| environment ")
    assert text.endswith("\n<!-- presets: end -->\nafter\n")
    assert "old" not in text
    (row,) = [line for line in text.splitlines() if line.startswith(f"| {ENV}")]
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:7] == [
        ENV,
        "ppo-clip",
        "512",
        ", ".join(f"{value:.1f}" for value in returns),
        f"{np.mean(returns):.1f}",
        f"{np.mean(returns):.1f}",  # of three seeds, nothing is left out
        f"{min(returns):.1f}",
    ]
    assert "500 (rl-zoo3, 100,000)" in cells[8]
    assert row in output

    # Once more: everything is there already. And a part of it, by the names that it has.
    assert main(command) == 0
    assert "3 of 3 runs are finished already" in capsys.readouterr().out
    assert document.read_text() == text
    part = ["--only", ENV, "--algorithm", "ppo-clip", "--seeds", "1"]
    assert main(["bench", "presets", *part, "--runs", str(tmp_path / "runs")]) == 0
    assert f"{returns[0]:.1f}" in capsys.readouterr().out

    # Where a run fails, the others are printed and nothing is written.
    monkeypatch.setitem(presets._PRESETS, ("MountainCar-v0", "ppo-clip"), QUICK)
    failure = {"MountainCar-v0 ppo-clip seed 2": "no luck"}
    with monkeypatch.context() as patch:
        patch.setattr("ppo_fast.training.fleet.train_fleet", lambda *_, **settings: failure)
        assert main(command) == 1
    output, error = capsys.readouterr()
    assert error == "ppo-fast bench presets: MountainCar-v0 ppo-clip seed 2 failed: no luck\n"
    assert row in output
    assert "| MountainCar" not in output
    assert document.read_text() == text

    # A preset that has changed does not pass for the old one.
    presets._PRESETS[ENV, "ppo-clip"] = QUICK | {"gamma": 0.5}
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "s1 holds a run with gamma 0.99 instead of 0.5; remove it or" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "options", "message"),
    [
        (MARKERS, ["--only", ENV], "--document gets the whole table: not with --only or"),
        ("no markers\n", [], "has no place for the table: <!-- presets: begin --> and"),
    ],
)
def test_wrong_documents(quick_presets, text, options, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    document = tmp_path / "results.md"
    document.write_text(text)
    assert main(["bench", "presets", *options, "--document", str(document)]) == 1
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert document.read_text() == text
    assert not (tmp_path / "runs").exists()


def test_choose_presets(monkeypatch):
    pairs = [("A-v0", "ppo-clip"), ("A-v0", "trpo"), ("B-v0", "ppo-clip")]
    monkeypatch.setattr(presets, "_PRESETS", {pair: {} for pair in pairs})
    assert choose_presets() == pairs
    assert choose_presets("A-v0") == pairs[:2]
    assert choose_presets(algorithm="ppo-clip") == [pairs[0], pairs[2]]
    with pytest.raises(ValueError, match="there is no preset for 'B-v0' with 'trpo'"):
        choose_presets("B-v0", "trpo")


@pytest.mark.parametrize(
    ("values", "expected"),
    [([3.0], 3.0), ([1.0, 2.0, 9.0], 4.0), ([9.0, 1.0, 2.0, 3.0, -5.0], 2.0)],
)
def test_interquartile_mean(values, expected):
    assert interquartile_mean(values) == expected


def test_interquartile_mean_is_scipys_trimmed_mean():
    stats = pytest.importorskip("scipy.stats")
    for count in range(1, 12):
        values = np.random.default_rng(count).normal(size=count).tolist()
        assert interquartile_mean(values) == pytest.approx(stats.trim_mean(values, 0.25))


def test_table_names_its_sources():
    score = PresetScore("Pendulum-v1", "a2c", (1, 2), (-150.0, -170.0), (500, 1000), (1.0, 2.0))
    text = score_table([score])
    assert "| 500 to 1,000 | -150.0, -170.0 | -160.0 | -160.0 | -170.0 |" in text
    assert "-163 (rl-zoo3)" in text
    assert [line.partition(":")[0] for line in text.splitlines()[3:] if line] == ["- rl-zoo3"]


def test_published_scores():
    assert published_cell("Unknown-v0", "ppo-clip") == "-"
    assert published_cell("MountainCar-v0", "ppo-clip").count("; ") == 2
    for entries in PUBLISHED.values():
        assert {entry.source for entry in entries} <= SOURCES.keys()
        assert not any("|" in entry.score for entry in entries)


def test_the_document_of_results_has_a_place_for_the_table(tmp_path):
    document = Path(__file__).parents[1] / "docs" / "results.md"
    shutil.copy(document, tmp_path)
    write_table(tmp_path / "results.md", "the table\n")
    assert "begin -->\nthe table\n<!-- presets: end -->" in (tmp_path / "results.md").read_text()
