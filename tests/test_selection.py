"""Evaluations while a run goes on, and the policy that scored best (eval_every)."""

import dataclasses
import json
import math
import time
from types import SimpleNamespace

import numpy as np
import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

from test_learner_engines import stopped  # noqa: E402 - after the checks
from test_training import differences, read_numbers  # noqa: E402

import ppo_fast  # noqa: E402
from ppo_fast import TrainConfig  # noqa: E402
from ppo_fast.cli import main  # noqa: E402
from ppo_fast.training import evaluate, selection  # noqa: E402
from ppo_fast.training.checkpoint import load_checkpoint  # noqa: E402
from ppo_fast.training.progress import Lines  # noqa: E402

SMALL = {
    "num_envs": 4,
    "num_steps": 32,
    "minibatch_size": 64,
    "total_steps": 5 * 128,
    "learning_rate": 1e-2,
    "eval_episodes": 3,
    "eval_every": 2,
    "seed": 3,
}


def config_of(out, **changes):
    return TrainConfig("CartPole-v1", out=out, **SMALL | changes)


def parameters(policy):
    return policy._learner.state()["model"]


def test_the_best_policy_is_kept(tmp_path):
    result = ppo_fast.train(config_of(tmp_path / "run"))
    scores = result.metrics["eval_return"]
    assert np.isnan(scores).tolist() == [True, False, True, False, False]  # and after the last one
    best = ppo_fast.load(result.out, best=True)
    summary = json.loads((result.out / "summary.json").read_text())
    assert summary["eval_best_return"] == np.nanmax(scores)
    # Policies of a run play from the same initial states, which are not those of the last score.
    assert evaluate(best, episodes=3, seed=SMALL["seed"] + 1).mean_return == np.nanmax(scores)
    again = evaluate(result.policy, episodes=3, seed=SMALL["seed"] + 1)
    assert again.mean_return == scores[-1]
    assert load_checkpoint(result.out, "best.pt")["updates"] == 1 + np.nanargmax(scores)


@pytest.fixture
def scores(monkeypatch):
    """Scores that evaluations are to have, and a list of the policies that get them."""
    given = []

    def score(policy, *, episodes, seed):
        given.append(policy)
        return SimpleNamespace(mean_return=next(ahead))

    ahead = iter([])
    monkeypatch.setattr(selection, "evaluate", score)

    def of(*numbers):
        nonlocal ahead
        ahead = iter(numbers)
        return given

    return of


@pytest.mark.parametrize(
    ("numbers", "best"), [((3.0, 7.0, 5.0), 1), ((7.0, 7.0, 7.0), 0), ((-9.0, -8.0, -7.0), 2)]
)
def test_the_first_of_the_best(numbers, best, scores, tmp_path):
    policies = scores(*numbers)
    config = config_of(tmp_path / "run", eval_every=2)
    result = ppo_fast.train(config)
    assert [x for x in result.metrics["eval_return"] if not math.isnan(x)] == list(numbers)
    kept = parameters(ppo_fast.load(config.out, best=True))
    are_equal = [
        all(torch.equal(x, kept[name]) for name, x in parameters(policy).items())
        for policy in policies
    ]
    assert are_equal == [k == best for k in range(3)]


def test_training_is_what_it_is_without(tmp_path):
    with_scores = ppo_fast.train(config_of(tmp_path / "a", eval_every=1)).metrics
    without = ppo_fast.train(config_of(tmp_path / "b", eval_every=None)).metrics
    assert with_scores.keys() - without.keys() == {"eval_return"}
    for name, column in without.items():
        if "second" not in name:
            np.testing.assert_array_equal(with_scores[name], column, err_msg=name)
    assert not (tmp_path / "b" / "best.pt").exists()
    assert json.loads((tmp_path / "b" / "summary.json").read_text())["eval_best_return"] is None


def test_evaluations_take_no_time_of_training(monkeypatch, tmp_path):
    def slow(policy, **_):
        time.sleep(1.0)
        return SimpleNamespace(mean_return=1.0)

    monkeypatch.setattr(selection, "evaluate", slow)
    metrics = ppo_fast.train(config_of(tmp_path / "run", eval_every=4)).metrics
    assert 0 < metrics["seconds"][-1] < 1.0


def test_a_stopped_run_goes_on_with_the_same_bits(tmp_path):
    half, whole = config_of(tmp_path / "half"), config_of(tmp_path / "whole")
    stopped(half, 3)
    ppo_fast.train(resume=half.out)
    ppo_fast.train(whole)
    np.testing.assert_equal(read_numbers(half.out), read_numbers(whole.out))
    contents = []
    for name in ("checkpoint.pt", "best.pt"):
        a, b = (load_checkpoint(config.out, name) for config in (half, whole))
        for content in (a, b):
            del content["config"], content["seconds"]
        contents.append(differences(a, b))
    assert contents == [[], []]


def test_on_update_sees_the_score_and_may_end_the_run(scores, tmp_path):
    scores(1.0, 2.0, 3.0, 4.0, 5.0)
    config = config_of(tmp_path / "run", eval_every=1)
    result = ppo_fast.train(config, on_update=lambda row: row["eval_return"] < 3)
    assert result.metrics["eval_return"].tolist() == [1, 2, 3]


def test_a_checkpoint_from_before_has_no_best(tmp_path):
    config = config_of(tmp_path / "run", eval_every=None)
    stopped(config, 2)
    content = torch.load(config.out / "checkpoint.pt", weights_only=True)
    del content["selection"]
    torch.save(content, config.out / "checkpoint.pt")
    assert ppo_fast.train(resume=config.out).metrics["update"].tolist() == [1, 2, 3, 4, 5]


def test_the_command(scores, tmp_path, capsys):
    scores(4.0, 9.0)
    out = str(tmp_path / "run")
    words = "train CartPole-v1 --total-steps 4096 --eval-every 1 --eval-episodes 3 --out"
    assert main([*words.split(), out]) == 0
    assert "evaluated 9.0" in capsys.readouterr().out
    assert main(["eval", out, "--best", "--episodes", "3"]) == 0
    best = capsys.readouterr().out
    policy = ppo_fast.load(out, best=True)
    assert f"mean return {evaluate(policy, episodes=3).mean_return:.1f} +-" in best


def test_lines_show_the_last_score(tmp_path, capsys):
    names = ("steps_per_second", "kl", "effective_sample_size", "entropy", "explained_variance")
    names += ("env_seconds", "policy_seconds", "update_seconds", "mean_return")
    lines = Lines(config_of(tmp_path), seconds=0.0)
    for score in (math.nan, 5.0, math.nan):
        lines.update(dict.fromkeys(names, 1.0) | {"steps": 128, "eval_return": score})
    shown = ["evaluated 5.0" in line for line in capsys.readouterr().out.splitlines()]
    assert shown == [False, True, True]


def test_no_best_policy(tmp_path, capsys):
    config = config_of(tmp_path / "run", eval_every=None, eval_episodes=0)
    ppo_fast.train(config)
    message = r"run holds no best.pt; it is kept by a run with eval_every$"
    with pytest.raises(FileNotFoundError, match=message):
        ppo_fast.load(config.out, best=True)
    assert main(["eval", str(config.out), "--best"]) != 0
    assert "it is kept by a run with eval_every" in capsys.readouterr().err
    with pytest.raises(FileNotFoundError, match="give the folder of a training run"):
        ppo_fast.load(tmp_path, best=True)


def test_settings(tmp_path):
    with pytest.raises(ValueError, match="eval_every must be at least 1, got 0"):
        config_of(tmp_path, eval_every=0)
    with pytest.raises(TypeError, match=r"eval_every must be an integer, got 0\.5"):
        config_of(tmp_path, eval_every=0.5)
    with pytest.raises(ValueError, match="eval_every needs eval_episodes, got 0 of them"):
        config_of(tmp_path, eval_episodes=0)
    assert dataclasses.replace(config_of(tmp_path), eval_every=None).eval_every is None
