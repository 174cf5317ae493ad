"""Trouble around a run: environments that raise, two processes, full disks, odd arguments."""

import copy
import os
import pickle
import re
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import tiny_envs

import ppo_fast
from ppo_fast import TrainConfig, cli
from ppo_fast.training import evaluate
from ppo_fast.training.run_folder import sole_trainer

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

SMALL = {"num_envs": 2, "num_steps": 24, "minibatch_size": 48, "num_epochs": 1, "eval_episodes": 0}
EXAMPLES = Path(__file__).parents[1] / "examples"


def cartpole(out, **changes):
    return TrainConfig("CartPole-v1", out=out, total_steps=480, **(SMALL | changes))


def updates_saved(out):
    return torch.load(out / "checkpoint.pt", weights_only=True)["updates"]


# Environments that raise


@pytest.mark.parametrize("error", [ZeroDivisionError("of mine"), KeyError("x"), OSError("gone")])
@pytest.mark.parametrize("algorithm", ["ppo-clip", "reinforce"])
@pytest.mark.parametrize("after", [0, 2])
def test_an_environment_that_raises(error, algorithm, after, faulty, tmp_path):
    own = {"minibatch_size": 48, "num_epochs": 1} if algorithm == "ppo-clip" else {}
    config = TrainConfig(
        tiny_envs.FAULTY,
        algorithm=algorithm,
        out=tmp_path / "run",
        total_steps=480,
        num_envs=2,
        num_steps=24,
        eval_episodes=0,
        **own,
    )
    faulty.fault = ("error", after * 48 + 10, error)
    with pytest.raises(type(error)) as caught:
        ppo_fast.train(config)
    assert caught.value is error
    (note,) = error.__notes__
    del error.__notes__
    assert note == (
        f"{tiny_envs.FAULTY} could not play after {after} updates and {after * 48} steps; "
        f"the policy before that is saved in {config.out}"
    )
    assert updates_saved(config.out) == after
    faulty.fault = None
    if after:
        with pytest.warns(UserWarning, match="its episodes start anew"):
            result = ppo_fast.train(resume=config.out)
    else:
        result = ppo_fast.train(resume=config.out)
    assert result.metrics["steps"][-1] == 480


def test_a_callback_that_raises(tmp_path):
    class Pruned(Exception):
        pass

    def prune(row):
        if row["update"] == 3:
            raise Pruned

    config = cartpole(tmp_path / "run")
    with pytest.raises(Pruned):
        ppo_fast.train(config, on_update=prune)
    assert updates_saved(config.out) == 3
    assert ppo_fast.train(resume=config.out).metrics["steps"][-1] == 480


def test_an_error_of_an_environment_is_shown_with_its_place(faulty, tmp_path):
    faulty.fault = ("error", 10, ValueError("of mine"))
    with pytest.raises(ValueError, match="of mine") as caught:
        cli.main(["train", tiny_envs.FAULTY, "--out", str(tmp_path / "run")])
    assert "could not play" in caught.value.__notes__[0]


# Two processes


@pytest.mark.skipif(os.name != "posix", reason="folders are locked where there is fcntl")
def test_two_processes_cannot_train_in_one_folder(tmp_path):
    out = ppo_fast.train(cartpole(tmp_path / "run")).out
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with (
        sole_trainer(out),
        pytest.raises(BlockingIOError, match=f"^{out} is being trained by another process"),
    ):
        ppo_fast.train(resume=out)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    with pytest.raises(ValueError, match="has finished"):  # the lock has gone with its owner
        ppo_fast.train(resume=out)


def test_a_locked_folder_is_free_once_its_owner_was_killed(tmp_path):
    code = f"""
import pathlib, time
from ppo_fast.training.run_folder import sole_trainer
with sole_trainer(pathlib.Path({str(tmp_path)!r})):
    print("locked", flush=True)
    time.sleep(600)
"""
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert owner.stdout.readline() == "locked\n"
    if os.name == "posix":
        with pytest.raises(BlockingIOError), sole_trainer(tmp_path):
            pass
    owner.kill()
    owner.communicate()
    with sole_trainer(tmp_path):
        pass


def test_columns_keep_their_order_in_a_resumed_run(tmp_path):
    def stop(row):
        if row["update"] == 4:
            raise KeyboardInterrupt

    whole = ppo_fast.train(cartpole(tmp_path / "whole"))
    config = cartpole(tmp_path / "run", checkpoint_seconds=0)
    with pytest.raises(KeyboardInterrupt):
        ppo_fast.train(config, on_update=stop)
    ppo_fast.train(resume=config.out)
    first, second = (
        (out / "metrics.csv").read_text().splitlines()[0] for out in (whole.out, config.out)
    )
    assert first == second


# Policies elsewhere


@pytest.mark.parametrize("engine", ["native", "torch"])
def test_policies_can_be_pickled_and_copied(engine, tmp_path):
    policy = ppo_fast.train(cartpole(tmp_path / "run", engine=engine)).policy
    obs = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    policy.predict(obs, deterministic=False)
    copies = [pickle.loads(pickle.dumps(policy)), copy.deepcopy(policy)]
    for deterministic in (True, False):
        expected = policy.predict(obs, deterministic=deterministic)
        for other in copies:
            np.testing.assert_array_equal(other.predict(obs, deterministic=deterministic), expected)
    assert copies[0].config == policy.config


def _train_seed(arguments):
    out, seed = arguments
    return ppo_fast.train(cartpole(out, seed=seed))


def test_seeds_in_a_pool_of_processes(tmp_path):
    tasks = [(tmp_path / str(seed), seed) for seed in (1, 2)]
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(_train_seed, tasks))
    obs = np.zeros((3, 4), np.float32)
    for result, (out, seed) in zip(results, tasks, strict=True):
        assert (result.out, result.config.seed) == (out, seed)
        np.testing.assert_array_equal(result.policy.predict(obs), ppo_fast.load(out).predict(obs))


def test_a_run_on_a_header_is_found_from_elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(EXAMPLES)
    result = ppo_fast.train(
        TrainConfig("gridworld.h", out=tmp_path / "run", total_steps=480, **SMALL)
    )
    assert Path(result.config.env_id) == EXAMPLES / "gridworld.h"
    monkeypatch.chdir(tmp_path)
    assert cli.main(["eval", "run", "--episodes", "2"]) == 0
    with pytest.raises(ValueError, match=r"gridworld\.h draws no pictures; leave out the video$"):
        evaluate(result.policy, episodes=1, video_folder=tmp_path)


# Full disks and odd arguments


@pytest.mark.skipif(os.name != "posix", reason="limits the size of files")
def test_a_checkpoint_that_cannot_be_written(tmp_path):
    out = ppo_fast.train(cartpole(tmp_path / "run")).out
    before = (out / "checkpoint.pt").read_bytes()
    code = f"""
import pathlib, resource, torch
from ppo_fast.training.checkpoint import save_checkpoint
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
save_checkpoint(pathlib.Path({str(out)!r}), {{"x": torch.zeros(100_000)}})
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    words = re.escape(f"OSError: {out / 'checkpoint.pt'} cannot be written (is the disk full?): ")
    assert re.search(words, done.stderr)
    assert (out / "checkpoint.pt").read_bytes() == before
    assert not (out / "checkpoint.tmp").exists()


def test_a_name_is_no_config():
    with pytest.raises(TypeError, match=r"config must be a TrainConfig, got 'CartPole-v1'; Train"):
        ppo_fast.train("CartPole-v1")


@pytest.mark.parametrize(
    ("option", "value"),
    [("continuous", "squashed"), ("log_std", -1.0), ("noise_steps", 9)],
)
def test_options_of_continuous_actions_are_refused_for_others(option, value, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ValueError, match=f"^{option} is an option for continuous actions, got"):
        ppo_fast.train(cartpole(out, **{option: value}))
    assert not out.exists()


@pytest.mark.parametrize("none", ["none", "None", "NONE"])
def test_none_in_any_case(none, tmp_path):
    out = tmp_path / "run"
    options = ["--total-steps", "480", "--eval-episodes", "0", "--out", str(out)]
    own = ["--max-grad-norm", none, f"--target-return={none}", "--normalize-advantages", none]
    assert cli.main(["train", "CartPole-v1", *options, *own]) == 0
    config = ppo_fast.load(out).config
    assert (config.max_grad_norm, config.target_return) == (None, None)
    assert config.normalize_advantages == "none"
