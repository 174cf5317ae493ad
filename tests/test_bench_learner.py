"""`ppo-fast bench learner`: what it checks, times, prints and writes."""

import json
from dataclasses import replace

import numpy as np
import pytest

import ppo_fast
from ppo_fast.bench.learner import (
    EAGER,
    EAGER_SHARED,
    OURS,
    OURS_SHARED,
    SB3,
    TORCH_ENGINE,
    bench_learner,
)

pytest.importorskip("torch")

import torch

from ppo_fast.bench import updates
from ppo_fast.learners import GradientStep

QUICK = {"seconds": 0.001, "minibatches": 2, "compiled": False}


def test_bench_learner(monkeypatch, capsys, tmp_path):
    pytest.importorskip("matplotlib")
    monkeypatch.setattr("ppo_fast.bench.learner._EAGER_SHARED_FROM", 40)
    threads = torch.get_num_threads()
    steps, rollouts = bench_learner(
        **QUICK,
        batches=(5, 40),
        sizes=(3,),
        updaters={"twin": updates.plain_torch},
        out=tmp_path / "new" / "learner",
    )
    assert torch.get_num_threads() == threads
    assert [result.batch for result in steps] == [5, 40]
    assert [EAGER_SHARED in result.seconds for result in steps] == [False, True]
    for result in steps:
        assert {OURS, OURS_SHARED, TORCH_ENGINE, EAGER, "twin"} <= result.seconds.keys()
        assert all(seconds > 0 for seconds in result.seconds.values())
        assert result.ratio(OURS) == 1
        assert result.flops == result.batch * 52_352
        assert result.matrix_rate == steps[0].matrix_rate > 0
    (rollout,) = rollouts
    assert rollout.num_envs == 3
    assert list(rollout.rates) == [OURS, OURS_SHARED, TORCH_ENGINE]
    printed = capsys.readouterr().out
    for words in ("gradient step, batch 40", "of matrix rate", "torch.mm of 1,024", "3 envs"):
        assert words in printed
    report = json.loads((tmp_path / "new" / "learner.json").read_text(encoding="utf-8"))
    assert report["machine"]["torch_threads"] == 1
    assert report["machine"]["ppo_fast"] == ppo_fast.build_info()
    first, _, last = report["results"]
    assert (first["part"], first["batch"]) == ("update", 5)
    assert first["contenders"]["twin"]["ratio"] == steps[0].ratio("twin")
    share = first["contenders"][OURS]["share_of_matrix_rate"]
    assert share == steps[0].flops / steps[0].seconds[OURS] / steps[0].matrix_rate
    assert first["matrix_rate"]["of"].startswith("torch.mm")
    assert (last["part"], last["steps_per_second"]) == ("rollout", rollout.rates)
    assert (tmp_path / "new" / "learner.png").read_bytes().startswith(b"\x89PNG")


def test_stable_baselines3_takes_part_where_it_is_installed(monkeypatch, capsys):
    pytest.importorskip("stable_baselines3")
    (result,), _ = bench_learner(**QUICK, batches=(6,), sizes=())
    assert SB3 in result.seconds
    monkeypatch.setattr("ppo_fast.bench.learner.find_spec", lambda name: None)
    (result,), _ = bench_learner(**QUICK, batches=(6,), sizes=())
    assert SB3 not in result.seconds
    assert "stable-baselines3 is not installed and left out" in capsys.readouterr().out


def test_a_compiler_that_fails_is_left_out(monkeypatch, capsys):
    def compile_nothing(function, **options):
        raise RuntimeError("no compiler\nat all")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    (result,), _ = bench_learner(**QUICK | {"compiled": True}, batches=(6,), sizes=())
    assert "torch.compile" not in result.seconds
    assert "is left out: no compiler\n" in capsys.readouterr().out


def changed_step(**changes):
    """Plain torch that takes other steps than it is told to."""

    def make(samples):
        updater = updates.plain_torch(samples)
        return replace(
            updater, epoch=lambda rows, step: updater.epoch(rows, replace(step, **changes))
        )

    return make


def changed_samples(samples):
    return updates.plain_torch(replace(samples, advantages=samples.advantages**3))


@pytest.mark.parametrize(
    ("updater", "message"),
    [
        (changed_samples, "wrong gradient, tensor 0 off by"),
        (changed_step(learning_rate=1.1e-3), "wrong parameters after one step, tensor"),
        (changed_step(max_grad_norm=None), "wrong parameters after a limited step, tensor"),
    ],
)
def test_a_wrong_step_is_refused(updater, message):
    with pytest.raises(AssertionError, match=f"batch 32: peer gave {message}"):
        bench_learner(**QUICK, batches=(32,), sizes=(), updaters={"peer": updater})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda actions, logp: np.subtract(1, actions, out=actions), "took other actions in"),
        (lambda actions, logp: np.add(logp, 1e-3, out=logp), "wrong log-probabilities, off by 1"),
    ],
)
def test_a_wrong_rollout_is_refused(monkeypatch, change, message):
    from ppo_fast.learners.native import NativeLearner

    play = NativeLearner.play

    def wrong(self, rollout, stepper, *, first_step):
        done = play(self, rollout, stepper, first_step=first_step)
        change(rollout.actions, rollout.logp)
        return done

    monkeypatch.setattr(NativeLearner, "play", wrong)
    with pytest.raises(AssertionError, match=f"4 environments: ppo_fast .*{message}"):
        bench_learner(**QUICK, batches=(), sizes=(4,))


def test_floating_point_operations_of_a_step():
    hidden, policy, value = 64 * 64, 64 * 2, 64
    forward = 4 * 64 + hidden + policy + 4 * 64 + hidden + value
    to_inputs = hidden + policy + hidden + value
    assert updates.flops_per_sample() == 2 * (2 * forward + to_inputs)


def test_a_contender_on_other_threads_leaves_the_number_alone():
    updater = updates.on_threads(updates.plain_torch, 2)(updates.make_samples(4))
    before = torch.get_num_threads()
    updater.epoch(np.arange(4), GradientStep(2, learning_rate=1e-3, max_grad_norm=None))
    assert torch.get_num_threads() == before
