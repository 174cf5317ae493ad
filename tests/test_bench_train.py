"""`ppo-fast bench train`: whole runs of all contenders, what is printed and written."""

import json
from dataclasses import replace
from functools import partial

import pytest

import ppo_fast
from ppo_fast.bench.train import (
    CLEANRL,
    OURS,
    SB3,
    TORCH_ENGINE,
    TrainedRun,
    bench_train,
    compare_trainers,
    comparison_text,
    halfcheetah_config,
    rl_zoo_config,
    train_cleanrl,
    train_native,
    train_sb3,
    train_torch_engine,
)
from ppo_fast.cli import main

pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

import torch

TRAIN = "ppo_fast.bench.train"
SHORT = {"seeds": 1, "total_steps": 1, "halfcheetah_steps": 1, "preset_seeds": 0}
CONFIG = replace(rl_zoo_config(1, 1, total_steps=1), eval_episodes=2)


def pretended(rates, returns):
    """A trainer that takes no time; rates by threads, returns by seed."""
    return lambda config, threads: TrainedRun(rates[threads], returns[config.seed])


@pytest.fixture
def quick(monkeypatch):
    """Contenders that take no time."""
    returns = {1: 500.0, 2: 490.0}
    for name, rates in {
        "train_native": {1: 100.0, 2: 80.0},
        "train_torch_engine": {1: 40.0, 2: 30.0},
        "train_sb3": {1: 4.0, 2: 5.0},
        "train_cleanrl": {1: 8.0, 2: 4.0},
    }.items():
        monkeypatch.setattr(f"{TRAIN}.{name}", pretended(rates, returns))
    monkeypatch.setattr(f"{TRAIN}.find_spec", lambda name: name)


def test_bench_train(quick, capsys, tmp_path):
    cartpole, halfcheetah = bench_train(
        seeds=2,
        total_steps=1000,
        halfcheetah_steps=3000,
        peers={"twin": pretended({1: 100.0, 2: 1.0}, {1: 9.0, 2: 9.0})},
        preset_seeds=0,
        out=tmp_path / "new" / "train",
    )
    assert list(cartpole.runs) == [OURS, TORCH_ENGINE, SB3, CLEANRL, "twin"]
    assert list(halfcheetah.runs) == [OURS, TORCH_ENGINE, SB3]
    assert (cartpole.config.env_id, halfcheetah.config.env_id) == ("CartPole-v1", "HalfCheetah-v5")
    assert [cartpole.best_threads(name) for name in cartpole.runs] == [1, 1, 2, 1, 1]
    assert [cartpole.ratio(name) for name in cartpole.runs] == [1, 2.5, 20, 12.5, 1]
    assert cartpole.returns(SB3, 2) == [500, 490]
    printed = capsys.readouterr().out
    for words in (
        "CartPole-v1, rl-zoo's hyperparameters, 1,024 steps",
        "HalfCheetah-v5, stable-baselines3's hyperparameters, 4,096 steps",
        "ppo_fast / stable-baselines3, best threads each: 20.00x; greedy return 495.0 +- 7.1 and "
        "495.0 +- 7.1",
    ):
        assert words in printed
    report = json.loads((tmp_path / "new" / "train.json").read_text(encoding="utf-8"))
    assert report["machine"]["ppo_fast"] == ppo_fast.build_info()
    first, second = report["results"]
    assert (first["env_id"], first["steps"], first["seeds"]) == ("CartPole-v1", 1024, [1, 2])
    assert second["steps"] == 4096
    assert first["contenders"][SB3] == {
        "ours_over_it": 20,
        "by_threads": {
            "1": {"steps_per_second": [4, 4], "returns": [500, 490]},
            "2": {"steps_per_second": [5, 5], "returns": [500, 490]},
        },
    }


def test_contenders_take_turns_by_seed_and_threads():
    calls = []

    def trainer(name, config, threads):
        calls.append((name, config.seed, threads))
        return TrainedRun(1.0, 0.0)

    trainers = {name: partial(trainer, name) for name in (OURS, "peer")}
    result = compare_trainers(CONFIG, trainers, seeds=[1, 2])
    assert calls == [(name, seed, k) for seed in (1, 2) for k in (1, 2) for name in (OURS, "peer")]
    assert "greedy return 0.0 +- 0.0 and 0.0 +- 0.0" in comparison_text("nobody", result)


def test_what_is_not_installed_is_left_out(quick, monkeypatch, capsys):
    monkeypatch.setattr(f"{TRAIN}.find_spec", lambda name: None)
    (result,) = bench_train(**SHORT)
    assert SB3 not in result.runs
    printed = capsys.readouterr().out
    assert "stable-baselines3 is not installed and left out" in printed
    assert "mujoco is not installed and HalfCheetah-v5 left out" in printed
    bench_train(**SHORT | {"halfcheetah_steps": 0})
    assert "HalfCheetah" not in capsys.readouterr().out


@pytest.mark.parametrize("trainer", [train_native, train_torch_engine, train_sb3, train_cleanrl])
def test_a_trainer_trains(trainer):
    if trainer is train_sb3:
        pytest.importorskip("stable_baselines3")
    threads = torch.get_num_threads()
    run = trainer(CONFIG, 2)
    assert run.steps_per_second > 0
    assert 1 <= run.eval_mean_return <= 500
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize("trainer", [train_native, train_sb3])
def test_a_trainer_trains_halfcheetah(trainer, tmp_path, monkeypatch):
    pytest.importorskip("mujoco")
    monkeypatch.chdir(tmp_path)  # where MuJoCo may leave a log of warnings
    if trainer is train_sb3:
        pytest.importorskip("stable_baselines3")
    config = replace(halfcheetah_config(1), num_steps=64, num_epochs=1, eval_episodes=1)
    assert trainer(config, 1).steps_per_second > 0


def test_the_cleanrl_loop_learns():
    config = replace(CONFIG, total_steps=10_000, eval_episodes=10)
    assert train_cleanrl(config, 1).eval_mean_return > 100


def test_halfcheetah_has_the_defaults_of_stable_baselines3():
    sb3 = pytest.importorskip("stable_baselines3")
    import inspect

    theirs = {k: p.default for k, p in inspect.signature(sb3.PPO).parameters.items()}
    config = halfcheetah_config(1)
    names = {
        "learning_rate": "learning_rate",
        "n_steps": "num_steps",
        "batch_size": "minibatch_size",
        "n_epochs": "num_epochs",
        "gamma": "gamma",
        "gae_lambda": "gae_lambda",
        "clip_range": "clip_range",
        "clip_range_vf": "clip_range_values",
        "ent_coef": "entropy_coef",
        "vf_coef": "value_coef",
        "max_grad_norm": "max_grad_norm",
        "target_kl": "target_kl",
    }
    assert {k: theirs[k] for k in names} == {k: getattr(config, v) for k, v in names.items()}


def test_bench_preset(quick, monkeypatch, tmp_path, capsys):
    preset = {"total_steps": 512, "num_envs": 4, "num_steps": 64, "num_epochs": 1}
    monkeypatch.setattr("ppo_fast.presets._PRESETS", {("CartPole-v1", "ppo-clip"): preset})
    bench_train(**SHORT | {"preset_seeds": 2}, out=tmp_path / "train")
    lines = capsys.readouterr().out.splitlines()
    first = lines.index("CartPole-v1, preset") + 2
    assert [line.split()[:2] for line in lines[first : first + 2]] == [["1", "512"], ["2", "512"]]
    assert lines[first + 2].startswith("median: ")
    record = json.loads((tmp_path / "train.json").read_text(encoding="utf-8"))["results"][-1]
    assert (record["env_id"], record["preset"]) == ("CartPole-v1", "ppo-clip")
    assert (record["seeds"], record["steps"]) == ([1, 2], [512, 512])
    assert all(seconds > 0 for seconds in record["seconds"])
    shown = [line.split()[2:] for line in lines[first : first + 2]]
    both = zip(record["seconds"], record["returns"], strict=True)
    assert shown == [[f"{seconds:.2f}", f"{score:.1f}"] for seconds, score in both]


def test_bench_train_by_command(quick, tmp_path):
    pytest.importorskip("tyro")
    options = {**SHORT, "seeds": 2, "total_steps": 300}
    words = [f"--{name.replace('_', '-')}={value}" for name, value in options.items()]
    assert main(["bench", "train", *words, "--out", str(tmp_path / "train")]) == 0
    cartpole, halfcheetah = json.loads((tmp_path / "train.json").read_text())["results"]
    assert (cartpole["seeds"], cartpole["steps"], halfcheetah["steps"]) == ([1, 2], 512, 2048)
