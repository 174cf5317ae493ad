"""Whole training runs: what they leave behind, how they repeat, stop, go on and are loaded."""

import csv
import dataclasses
import gc
import importlib
import json
import math
import os
import pickle
import re
import shutil
import signal
import struct
import subprocess
import sys
import threading
import time
import warnings
import zipfile
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import tiny_envs
from algorithm_cases import discrete, obs_rows

import ppo_fast
from ppo_fast import TrainConfig
from ppo_fast.bench.train import rl_zoo_config
from ppo_fast.training.torch_threads import torch_threads

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

ENV = "CartPole-v1"
SMALL = {
    "total_steps": 4096,
    "num_envs": 8,
    "num_steps": 64,
    "num_epochs": 2,
    "learning_rate": 2e-3,
    "eval_episodes": 3,
}
# Long enough (about 3 s) that a signal finds it at work.
LONG = SMALL | {"total_steps": 81_920, "eval_episodes": 0, "seed": 5}
CHECKPOINT = "checkpoint.pt"


def small(out, **changes):
    return TrainConfig(ENV, out=out, **(SMALL | changes))


def metrics_module():
    return importlib.import_module("ppo_fast.training.metrics")


def read_csv(folder):
    """Rows of metrics.csv as text, without the columns that depend on the clock."""
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    times = metrics_module().TIME_COLUMNS
    return [{name: text for name, text in row.items() if name not in times} for row in rows]


def read_numbers(folder):
    """`read_csv` as numbers; their texts round-trip, so equal numbers are equal bits."""
    return [[(name, float(text)) for name, text in row.items()] for row in read_csv(folder)]


def read_checkpoint(folder):
    content = torch.load(folder / CHECKPOINT, weights_only=True)
    # What may differ between two runs of one seed.
    del content["seconds"], content["config"]["out"]
    return content


def differences(a, b, path="checkpoint"):
    """Paths at which two nested contents differ, down to the bit."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        same = a.dtype == b.dtype and a.numpy().tobytes() == b.numpy().tobytes()
        return [] if same else [path]
    if isinstance(a, dict) and isinstance(b, dict) and a.keys() == b.keys():
        return [d for key in a for d in differences(a[key], b[key], f"{path}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for k in range(len(a)) for d in differences(a[k], b[k], f"{path}.{k}")]
    return [] if a == b else [path]


def assert_same_run(ours, theirs, ignore=()):
    """Equal metrics (times left out), parameters, optimiser, environments: bit for bit."""
    np.testing.assert_equal(read_numbers(ours), read_numbers(theirs))
    a, b = read_checkpoint(ours), read_checkpoint(theirs)
    for name in ignore:
        del a["config"][name], b["config"][name]
    assert differences(a, b) == []


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A small finished run; tests copy its folder before they change it."""
    return ppo_fast.train(small(tmp_path_factory.mktemp("runs") / "finished"))


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory):
    """Folder of the long run, trained in one go."""
    out = tmp_path_factory.mktemp("runs") / "uninterrupted"
    return ppo_fast.train(small(out, **LONG)).out


# What a run leaves


def test_folder_of_a_run(finished):
    events = list(finished.out.glob("events.out.tfevents.*"))
    assert len(events) == 1
    assert {path.name for path in finished.out.iterdir()} == {
        "config.json",
        "metrics.csv",
        "learning_curve.png",
        "summary.json",
        CHECKPOINT,
        events[0].name,
    }


def test_config_file_makes_the_config_again(finished):
    fields = json.loads((finished.out / "config.json").read_text())
    assert TrainConfig.from_json(fields) == finished.config
    assert finished.config == small(finished.out)


def test_summary(finished):
    summary = json.loads((finished.out / "summary.json").read_text())
    evaluation = finished.evaluation
    seconds = finished.metrics["seconds"][-1]
    assert summary == {
        "env_id": ENV,
        "algorithm": "ppo-clip",
        "engine": "native",
        "seed": 0,
        "total_steps": 4096,
        "wall_seconds": seconds,
        "steps_per_second": 4096 / seconds,
        "eval_mean_return": evaluation.mean_return,
        "eval_std_return": evaluation.std_return,
        "eval_episodes": 3,
        "eval_cut": 0,
        "eval_best_return": None,
        "solved": False,
    }
    assert evaluation.mean_return == evaluation.returns.mean()
    assert evaluation.returns.shape == evaluation.lengths.shape == (3,)


def test_metrics(finished):
    metrics = finished.metrics
    with (finished.out / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 8  # 4096 steps / (8 environments * 64 steps)
    for name, column in metrics.items():
        np.testing.assert_array_equal(column, [float(row[name]) for row in rows])
    np.testing.assert_array_equal(metrics["update"], np.arange(1, 9))
    np.testing.assert_array_equal(metrics["steps"], 512 * np.arange(1, 9))
    np.testing.assert_allclose(metrics["learning_rate"], 2e-3 * (1 - np.arange(8) / 8))
    np.testing.assert_array_equal(metrics["epochs"], 2)
    assert (np.diff(metrics["episodes"]) > 0).all()
    assert (np.diff(metrics["seconds"]) > 0).all()
    np.testing.assert_allclose(metrics["steps_per_second"], metrics["steps"] / metrics["seconds"])
    # A reward of CartPole is 1 per step.
    np.testing.assert_array_equal(metrics["mean_return"], metrics["mean_length"])
    # The mean of the last 100 episodes is that of all while there are no more.
    few = metrics["episodes"] <= 100
    assert few.any()
    means = metrics["return_sum"][few] / metrics["episodes"][few]
    np.testing.assert_allclose(metrics["mean_return"][few], means)
    # All steps but those of the 8 episodes under way are in the sum.
    under_way = metrics["steps"] - metrics["return_sum"]
    assert ((under_way >= 0) & (under_way < 8 * 500)).all()


def read_events(folder):
    """Tag -> [(step, value)] of all scalars that TensorBoard shows."""
    accumulators = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    events = accumulators.EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {
        tag: [(event.step, event.value) for event in events.Scalars(tag)]
        for tag in events.Tags()["scalars"]
    }


def assert_events_equal_metrics(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    events = read_events(folder)
    assert events.keys() == rows[0].keys() - {"update", "steps"}
    for tag, points in events.items():
        assert [step for step, _ in points] == [int(float(row["steps"])) for row in rows], tag
        expected = np.array([float(row[tag]) for row in rows], np.float32)
        np.testing.assert_array_equal(np.array([v for _, v in points], np.float32), expected)


def test_tensorboard_events_equal_the_metrics(finished):
    assert_events_equal_metrics(finished.out)


def test_learning_curve_is_a_picture(finished):
    data = (finished.out / "learning_curve.png").read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", data[16:24])  # of the IHDR chunk
    assert 400 <= height < width <= 2000
    assert 5_000 < len(data) < 500_000


def test_without_evaluation(tmp_path):
    result = ppo_fast.train(small(tmp_path / "run", total_steps=512, eval_episodes=0))
    assert result.evaluation is None
    summary = json.loads((result.out / "summary.json").read_text())
    assert summary["eval_episodes"] == 0
    for name in ("eval_mean_return", "eval_std_return", "solved"):
        assert summary[name] is None


def test_default_folders(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = []
    for _ in range(3):
        result = ppo_fast.train(small(None, total_steps=512, eval_episodes=0, seed=4))
        names.append(result.out.as_posix())
        assert result.config.out == result.out
    stem = "runs/CartPole-v1-ppo-clip-s4"
    assert names == [stem, f"{stem}-2", f"{stem}-3"]
    namespaced = dataclasses.replace(
        small(None, total_steps=512, eval_episodes=0), env_id="ppo_fast/CartPole-v1"
    )
    assert ppo_fast.train(namespaced).out.as_posix() == "runs/ppo_fast-CartPole-v1-ppo-clip-s0"


def test_existing_folder_is_not_touched(tmp_path):
    out = tmp_path / "run"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"exists; choose another --out$"):
        ppo_fast.train(small(out))
    assert [path.name for path in out.iterdir()] == ["notes.txt"]


def test_train_wants_a_config_or_a_folder(tmp_path):
    for arguments in ({}, {"config": small(tmp_path / "a"), "resume": tmp_path / "b"}):
        with pytest.raises(TypeError, match="give either a config or resume=<folder>"):
            ppo_fast.train(**arguments)
    assert list(tmp_path.iterdir()) == []


def test_torch_threads_are_given_back(tmp_path):
    before = torch.get_num_threads()
    ppo_fast.train(small(tmp_path / "run", total_steps=512, torch_threads=before + 1))
    assert torch.get_num_threads() == before


def test_on_update_gets_every_row(tmp_path):
    rows = []
    result = ppo_fast.train(small(tmp_path / "run", total_steps=1536), on_update=rows.append)
    assert [row["update"] for row in rows] == [1, 2, 3]
    for name, column in result.metrics.items():
        np.testing.assert_array_equal(column, [row[name] for row in rows])


def test_target_return_stops_early(tmp_path):
    out = tmp_path / "run"
    result = ppo_fast.train(small(out, total_steps=100_000, target_return=15.0, eval_episodes=0))
    metrics = result.metrics
    assert metrics["steps"][-1] < 100_000
    assert metrics["episodes"][-1] >= 100
    assert metrics["mean_return"][-1] >= 15
    # Not before the window of 100 episodes is full, however good these are.
    assert ((metrics["episodes"][:-1] < 100) | (metrics["mean_return"][:-1] < 15)).all()
    with pytest.raises(ValueError, match=r"has finished its [\d,]+ steps; to go on, give it more"):
        ppo_fast.train(resume=out)


# Repeating a run


def test_same_seed_same_bits_on_any_number_of_threads(finished, tmp_path):
    for num_threads in (1, 2):
        out = tmp_path / str(num_threads)
        again = ppo_fast.train(small(out, num_threads=num_threads))
        assert_same_run(out, finished.out, ignore=["num_threads"])
        assert read_csv(out) == read_csv(finished.out)
        np.testing.assert_array_equal(again.evaluation.returns, finished.evaluation.returns)


def test_same_metrics_when_threads_share_the_environments(tmp_path):
    # 130 environments are three tiles, so that two threads have something to share.
    rows = []
    for num_threads in (1, 2):
        out = tmp_path / str(num_threads)
        ppo_fast.train(small(out, num_envs=130, total_steps=2000, num_threads=num_threads))
        rows.append(read_csv(out))
    assert rows[0] == rows[1]


def test_state_of_the_process_does_not_matter(finished, tmp_path):
    torch.manual_seed(123)
    np.random.seed(123)  # noqa: NPY002 - the legacy generator is what must have no influence
    random_state = torch.get_rng_state()
    ppo_fast.train(small(tmp_path / "run"))
    assert_same_run(tmp_path / "run", finished.out)
    assert torch.equal(torch.get_rng_state(), random_state)


@pytest.mark.parametrize("threads", [1, 2])
def test_ambient_torch_threads_do_not_matter(threads, finished, tmp_path):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        ppo_fast.train(small(tmp_path / "run"))
    finally:
        torch.set_num_threads(before)
    assert_same_run(tmp_path / "run", finished.out)


def test_divergence_is_named(tmp_path):
    with pytest.raises(RuntimeError, match=r"training diverged after \d+ updates .*learning_rate"):
        ppo_fast.train(small(tmp_path / "run", learning_rate=1e30))


FAULTY = {
    "num_envs": 2,
    "num_steps": 24,
    "minibatch_size": 24,
    "num_epochs": 2,
    "total_steps": 480,
    "anneal_lr": False,
    "eval_episodes": 0,
}


def assert_saved_after(updates, out, words, config, faulty):
    """The run failed with these words, and left what the same run was after so many updates."""
    assert words.endswith(f"; the policy before that is saved in {out}")
    assert read_checkpoint(out)["updates"] == len(read_csv(out)) == updates
    faulty.fault, faulty.calls = None, 0
    if updates:
        steps = updates * config.batch_size
        whole = ppo_fast.train(
            dataclasses.replace(config, total_steps=steps, out=out.with_name("whole"))
        )
        ours, theirs = read_checkpoint(out), read_checkpoint(whole.out)
        for name in ("learner", "algorithm", "rewards", "episodes", "draws", "steps"):
            assert differences(ours[name], theirs[name], name) == []
    assert ppo_fast.load(out).predict(np.zeros(3)) in (0, 1)
    # And goes on once the environment is mended, from the start of an episode.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the state of tiny/faulty-v0 was not saved")
        assert ppo_fast.train(resume=out).metrics["steps"][-1] >= config.total_steps


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize(
    ("what", "call", "step"),
    [
        ("rewards", 102, 102),  # environment 1 in its third step of the third rollout of 48
        ("observations", 102, 102),
        ("observations", 2 * 12 * 6, 2 * 12 * 6),  # the last one of an episode that is cut there
        ("rewards", 4, 4),  # before the first update
    ],
)
@pytest.mark.parametrize("algorithm", ["ppo-clip", "reinforce"])
def test_environments_that_give_what_is_not_finite(
    algorithm, what, call, step, value, faulty, tmp_path
):
    settings = FAULTY | {"normalize_rewards": True}
    config = TrainConfig("tiny/faulty-v0", algorithm=algorithm, out=tmp_path / "run", **settings)
    faulty.fault = (what, call, value)
    with pytest.raises(RuntimeError) as error:
        ppo_fast.train(config)
    assert str(error.value).startswith(
        f"tiny/faulty-v0 gave {what} that are not finite: {value} from environment 1 at step "
        f"{step} of the run; "
    )
    assert_saved_after((call - 1) // 48, config.out, str(error.value), config, faulty)


def test_an_exploding_loss(faulty, tmp_path):
    config = TrainConfig("tiny/faulty-v0", out=tmp_path / "run", **FAULTY)
    faulty.fault = ("rewards", 102, 1e30)  # its square is infinite in float32
    with pytest.raises(RuntimeError) as error:
        ppo_fast.train(config)
    assert str(error.value).startswith(
        "training diverged after 2 updates and 96 steps (policy_loss "
    )
    assert "value_loss inf); lower learning_rate; " in str(error.value)
    assert_saved_after(2, config.out, str(error.value), config, faulty)


def test_a_policy_that_diverges_is_saved_as_it_was_before(tmp_path):
    # The first epochs of the update are made, and taken back.
    config = small(tmp_path / "run", learning_rate=1e30)
    with pytest.raises(RuntimeError, match="training diverged after 0 updates and 0 steps"):
        ppo_fast.train(config)
    first = read_checkpoint(config.out)["learner"]["model"]
    with torch_threads(config.torch_threads):  # on which the bits of an initialisation depend
        fresh = ppo_fast.learners.make_learner(config, obs_rows(4), discrete()).state()["model"]
    assert differences(dict(first), dict(fresh)) == []


def test_an_infinite_kl_is_divergence(tmp_path):
    # The loss and the parameters are still finite here: only the policies are infinitely far apart.
    config = small(tmp_path / "run", learning_rate=1e3, total_steps=1024)
    with pytest.raises(RuntimeError, match=r"training diverged .*the kl of the update is inf"):
        ppo_fast.train(dataclasses.replace(config, env_id="Pendulum-v1"))


def test_another_seed_differs(finished, tmp_path):
    ppo_fast.train(small(tmp_path / "run", seed=1))
    ours, theirs = read_checkpoint(tmp_path / "run"), read_checkpoint(finished.out)
    assert "checkpoint.learner.model.actor.hidden.0.weight" in differences(ours, theirs)
    assert read_csv(tmp_path / "run")[0] != read_csv(finished.out)[0]


# Stopping and going on


def start_long_run(out, *options):
    """The long run as a process of its own."""
    flags = [f"--{name.replace('_', '-')}={value}" for name, value in LONG.items()]
    # No preset: a config of these tests is what the flags and the defaults say.
    defaults = TrainConfig(ENV, **LONG)
    preset = TrainConfig.preset(ENV)
    for field in dataclasses.fields(TrainConfig):
        name = field.name
        if name not in LONG and getattr(preset, name) != getattr(defaults, name):
            flags.append(f"--{name.replace('_', '-')}={getattr(defaults, name)}")
    return start("train", ENV, *flags, "--out", str(out), *options)


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-m", "ppo_fast.cli", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_until(condition, process):
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.01)


def has_rows(folder, count=10):
    path = folder / "metrics.csv"
    return path.is_file() and path.read_bytes().count(b"\n") > count


def long_run_at_work(out):
    """The long run, started and in the middle of its updates."""
    process = start_long_run(out)
    wait_until(lambda: has_rows(out), process)
    return process


def kill(process):
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_a_stopped_run_goes_on_with_the_same_bits(name, uninterrupted, tmp_path):
    out = tmp_path / "run"
    number = getattr(signal, name)
    before = signal.getsignal(number)
    if before == signal.SIG_IGN:  # of nohup, which a run is to heed, and would inherit
        signal.signal(number, signal.SIG_DFL)
    try:
        process = long_run_at_work(out)
    finally:
        signal.signal(number, before)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    rows = read_csv(out)
    steps = int(rows[-1]["steps"])
    assert 0 < steps < LONG["total_steps"]
    assert error == (
        f"ppo-fast train: stopped after {steps:,} steps; "
        f"go on with: ppo-fast train --resume {out}\n"
    )
    assert not (out / "summary.json").exists()
    assert (out / "learning_curve.png").is_file()
    # A stopped run is a policy already.
    assert ppo_fast.load(out).predict(np.zeros(4)) in (0, 1)

    result = ppo_fast.train(resume=out)
    assert_same_run(out, uninterrupted)
    assert_events_equal_metrics(out)
    assert result.config.out == result.out == out
    assert result.metrics["steps"][-1] == LONG["total_steps"]
    assert (np.diff(result.metrics["seconds"]) > 0).all()
    assert (out / "summary.json").is_file()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_metrics_of_a_resumed_run_read_the_same(uninterrupted, tmp_path):
    # Not only equal numbers: whoever reads the file finds integers where there were integers.
    out = tmp_path / "run"
    process = long_run_at_work(out)
    process.send_signal(signal.SIGINT)
    process.communicate(timeout=60)
    ppo_fast.train(resume=out)
    assert read_csv(out) == read_csv(uninterrupted)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_a_killed_run_goes_on_from_its_checkpoint(uninterrupted, tmp_path):
    out = tmp_path / "run"
    process = start_long_run(out, "--checkpoint-seconds", "0")
    wait_until(lambda: has_rows(out) and (out / CHECKPOINT).exists(), process)
    kill(process)
    updates = torch.load(out / CHECKPOINT, weights_only=True)["updates"]
    assert 0 < updates < LONG["total_steps"] // 512
    ppo_fast.train(resume=out)
    assert_same_run(out, uninterrupted, ignore=["checkpoint_seconds"])
    assert not (out / "checkpoint.tmp").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_a_run_killed_after_it_was_resumed_goes_on(uninterrupted, tmp_path):
    out = tmp_path / "run"
    first = long_run_at_work(out)
    first.send_signal(signal.SIGINT)
    first.communicate(timeout=60)
    # Killed as soon as it is at work, before it saves anything itself.
    second = start("train", "--resume", str(out))
    wait_until(lambda: len(list(out.glob("events.out.tfevents.*"))) == 2, second)
    kill(second)
    ppo_fast.train(resume=out)
    assert_same_run(out, uninterrupted)


def interrupt_myself(*_):
    os.kill(os.getpid(), signal.SIGINT)


def train_interrupted(config):
    """Train until a signal stops it; returns the error's folder and steps.

    A thread that waits for the moment would not do: while kernels give the GIL away and take it
    back every few microseconds, it may not get it for a second.
    """

    def interrupt(row):
        if row["update"] == 10:
            interrupt_myself()

    try:
        ppo_fast.train(config, on_update=interrupt)
    except ppo_fast.training.Interrupted as error:
        return error.out, error.steps
    raise AssertionError("the run was not interrupted")


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_interrupted_in_a_program(uninterrupted, tmp_path):
    handlers = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    threads = torch.get_num_threads()
    out, steps = train_interrupted(small(tmp_path / "run", **LONG))
    assert out == tmp_path / "run"
    assert steps == 512 * len(read_csv(out)) > 0
    # The program gets back what it had.
    assert handlers == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    assert torch.get_num_threads() == threads
    ppo_fast.train(resume=out)
    assert_same_run(out, uninterrupted)


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_an_interrupted_run_leaves_nothing_open(tmp_path):
    gc.collect()
    threads = threading.active_count()
    train_interrupted(small(tmp_path / "run", **LONG))
    # A file that is still open warns when it is collected, and warnings are errors here.
    gc.collect()
    assert threading.active_count() == threads


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_resume_where_environments_cannot_be_saved(foreign_env, tmp_path, capsys):
    # Episodes start anew, the rest goes on, and the run says so.
    note = f"the state of {foreign_env} was not saved: its episodes start anew"
    config = TrainConfig(
        foreign_env,
        out=tmp_path / "run",
        num_envs=2,
        num_steps=16,
        minibatch_size=32,
        num_epochs=1,
        total_steps=6400,
        eval_episodes=0,
    )
    out, steps = train_interrupted(config)
    before = read_numbers(out)
    assert steps < 6400
    again = shutil.copytree(out, tmp_path / "again")
    with pytest.warns(UserWarning, match=f"^{note}$"):
        result = ppo_fast.train(resume=out)
    ppo_fast.train(resume=again, progress=True)
    assert capsys.readouterr().out.startswith(f"{note}\n")
    assert result.metrics["steps"].tolist() == list(range(32, 6401, 32))
    np.testing.assert_equal(read_numbers(out)[: len(before)], before)


class Savable(tiny_envs.Faulty):
    """An environment that can be saved, as long as nothing is wrong with that."""

    state = None
    refuses = False

    def get_training_state(self):
        return {"steps": self._steps} if Savable.state is None else Savable.state

    def set_training_state(self, state):
        if Savable.refuses:
            raise KeyError("tempo")
        self._steps = int(state["steps"])


@pytest.fixture
def savable():
    tiny_envs.register()
    gymnasium.register("tiny/savable-v0", Savable)
    Savable.fault, Savable.state, Savable.refuses = None, None, False
    yield TrainConfig("tiny/savable-v0", **FAULTY)
    del gymnasium.registry["tiny/savable-v0"]
    tiny_envs.unregister()


def test_an_environment_of_ones_own_goes_on(savable, tmp_path):
    config = dataclasses.replace(savable, total_steps=48_000, normalize_obs=True)
    out, _ = train_interrupted(dataclasses.replace(config, out=tmp_path / "stopped"))
    ppo_fast.train(resume=out)
    whole = ppo_fast.train(dataclasses.replace(config, out=tmp_path / "whole"))
    assert_same_run(out, whole.out)


def test_a_wrong_state_is_told_at_once(savable, tmp_path):
    Savable.state = [1, 2]
    config = dataclasses.replace(savable, out=tmp_path / "run")
    with pytest.raises(TypeError, match=r"get_training_state must give a dict of .*, got list$"):
        ppo_fast.train(config)
    assert read_checkpoint(config.out)["updates"] == 0


def test_a_state_that_cannot_be_restored(savable, tmp_path):
    config = dataclasses.replace(savable, total_steps=48_000, out=tmp_path / "run")
    out, _ = train_interrupted(config)
    Savable.refuses = True
    words = (
        r"the state of tiny/savable-v0 cannot be restored \(KeyError: 'tempo'\): "
        "its episodes start anew"
    )
    with pytest.warns(UserWarning, match=words):
        result = ppo_fast.train(resume=out)
    assert result.metrics["steps"][-1] == 48_000


def test_resume_of_a_finished_run(finished):
    before = {path.name: path.read_bytes() for path in finished.out.iterdir()}
    with pytest.raises(
        ValueError, match=r"finished its 4,096 steps; to go on, give it more total_steps$"
    ):
        ppo_fast.train(resume=finished.out)
    assert {path.name: path.read_bytes() for path in finished.out.iterdir()} == before


@pytest.mark.parametrize("changes", [{}, {"normalize_rewards": True, "normalize_obs": True}])
def test_a_finished_run_with_more_steps_is_one_of_so_many(changes, tmp_path):
    changes = changes | {"anneal_lr": False}
    run = ppo_fast.train(small(tmp_path / "run", **changes))
    longer = ppo_fast.train(resume=run.out, total_steps=8192)
    whole = ppo_fast.train(small(tmp_path / "whole", **changes, total_steps=8192))
    assert_same_run(run.out, whole.out)
    assert longer.config.total_steps == 8192
    assert longer.evaluation.returns.tolist() == whole.evaluation.returns.tolist()
    assert json.loads((run.out / "summary.json").read_text())["total_steps"] == 8192


def test_what_is_annealed_goes_on_as_if_the_run_had_been_so_long(tmp_path):
    run = ppo_fast.train(small(tmp_path / "run"))
    metrics = ppo_fast.train(resume=run.out, total_steps=8192).metrics
    shares = metrics["learning_rate"] / SMALL["learning_rate"]
    first = 1 - np.arange(8) / 8
    np.testing.assert_allclose(shares, [*first, *(1 - np.arange(8, 16) / 16)], rtol=1e-12)


def test_a_solved_run_with_more_steps_goes_on(tmp_path):
    config = small(tmp_path / "run", target_return=0, total_steps=81_920)
    solved = ppo_fast.train(config)
    steps = int(solved.metrics["steps"][-1])
    assert steps < 81_920
    longer = ppo_fast.train(resume=solved.out, total_steps=steps + 1024)
    assert longer.metrics["steps"][-1] == steps + 1024


def test_a_solved_run_with_the_steps_that_it_was_to_have_goes_on(tmp_path):
    config = small(tmp_path / "run", target_return=0, total_steps=8192)
    steps = ppo_fast.train(config).metrics["steps"][-1]
    assert steps < 8192

    def stop(row):
        raise OSError("enough")

    with pytest.raises(OSError, match="enough"):
        ppo_fast.train(resume=config.out, total_steps=8192, on_update=stop)
    assert not (config.out / "summary.json").exists()
    assert read_checkpoint(config.out)["steps"] > steps
    assert ppo_fast.train(resume=config.out).metrics["steps"][-1] == 8192
    assert json.loads((config.out / "summary.json").read_text())["total_steps"] == 8192


def test_a_run_whose_longer_half_was_stopped_can_be_completed(finished, tmp_path):
    out = tmp_path / "run"
    shutil.copytree(finished.out, out)

    def stop(row):
        raise OSError("enough")

    with pytest.raises(OSError, match="enough"):
        ppo_fast.train(resume=out, total_steps=8192, on_update=stop)
    assert not (out / "summary.json").exists()
    assert ppo_fast.train(resume=out).metrics["steps"][-1] == 8192


def test_fewer_steps_than_a_run_has_are_refused(finished):
    before = {path.name: path.read_bytes() for path in finished.out.iterdir()}
    with pytest.raises(
        ValueError, match=r"total_steps must be more than the 4,096 steps that .*, got 4096$"
    ):
        ppo_fast.train(resume=finished.out, total_steps=4096)
    with pytest.raises(TypeError, match=r"total_steps belongs to resume; a new run has config\."):
        ppo_fast.train(finished.config, total_steps=8192)
    assert {path.name: path.read_bytes() for path in finished.out.iterdir()} == before


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_run_stopped_while_it_is_evaluated_can_be_completed(number, tmp_path):
    out = tmp_path / "run"
    process = start_long_run(out, "--total-steps=512", "--eval-episodes=2000")
    picture = out / "learning_curve.png"
    # Evaluation begins when the picture is whole.
    wait_until(lambda: picture.exists() and b"IEND" in picture.read_bytes(), process)
    process.send_signal(number)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.startswith("ppo-fast train: stopped after 512 steps; go on with: ")
    assert not (out / "summary.json").exists()
    ppo_fast.train(resume=out)
    assert json.loads((out / "summary.json").read_text())["eval_episodes"] == 2000


def test_a_callback_that_exits_leaves_the_run_saved(tmp_path):
    out = tmp_path / "run"

    def leave(row):
        if row["update"] == 3:
            sys.exit(3)

    with pytest.raises(SystemExit):
        ppo_fast.train(small(out), on_update=leave)
    assert read_checkpoint(out)["updates"] == 3


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_an_answer_that_cannot_be_written_is_an_error():
    environment = {k: x for k, x in os.environ.items() if k != "PYTHONUNBUFFERED"}
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "ppo_fast", "info"],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
    assert done.returncode == 1
    assert re.fullmatch(r"ppo-fast info: the output was lost: .*No space left.*\n", done.stderr)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a full disk")
def test_output_that_cannot_be_written_ends_no_run(tmp_path):
    command = [sys.executable, "-m", "ppo_fast", "train", ENV, "--total-steps=512"]
    command += ["--eval-episodes=1", f"--out={tmp_path / 'run'}"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "run" / "summary.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_a_run_stopped_in_its_last_update_can_be_completed(tmp_path):
    out = tmp_path / "run"
    fields = LONG | {"total_steps": 512, "eval_episodes": 0}
    with pytest.raises(ppo_fast.training.Interrupted, match="after 512 steps; go on with: "):
        ppo_fast.train(small(out, **fields), on_update=interrupt_myself)
    assert not (out / "summary.json").exists()
    ppo_fast.train(resume=out)
    assert (out / "summary.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_a_signal_that_comes_too_late_is_not_lost(tmp_path, monkeypatch):
    # The run is finished, but a program that has more to do ends.
    trainer = importlib.import_module("ppo_fast.training.trainer")
    write_json = trainer.write_json

    def write_slowly(path, content):
        if path.name == "summary.json":
            interrupt_myself()
        write_json(path, content)

    monkeypatch.setattr(trainer, "write_json", write_slowly)
    out = tmp_path / "run"
    with pytest.raises(KeyboardInterrupt, match="told to stop when the run was finished: ") as info:
        ppo_fast.train(small(out, **LONG | {"total_steps": 512, "eval_episodes": 0}))
    assert info.type is KeyboardInterrupt
    assert (out / "summary.json").exists()


@pytest.mark.skipif(os.name != "posix", reason="signals are sent to a process")
def test_a_run_whose_output_is_closed_is_saved(uninterrupted, tmp_path):
    # Ctrl-C ends the reader of a pipe as well, before or after the run says that it stops.
    out = tmp_path / "run"
    process = long_run_at_work(out)
    process.stdout.close()
    process.send_signal(signal.SIGINT)
    error = process.stderr.read()
    process.stderr.close()
    assert process.wait() == 130
    assert re.fullmatch(r"ppo-fast train: stopped after [\d,]+ steps; go on with: .*\n", error)
    ppo_fast.train(resume=out)
    assert_same_run(out, uninterrupted)


# Checkpoints that are damaged or not ours


def truncate(path):
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2])


def cut_the_last_byte(path):
    path.write_bytes(path.read_bytes()[:-1])


def empty(path):
    path.write_bytes(b"")


def write_text(path):
    path.write_text("not a checkpoint\n" * 100)


def zero_a_block(path):
    # As a file system may leave a file after a crash.
    data = bytearray(path.read_bytes())
    data[:4096] = bytes(4096)
    path.write_bytes(data)


def flip_a_bit_of_the_weights(path):
    model = torch.load(path, weights_only=True)["learner"]["model"]
    data = bytearray(path.read_bytes())
    data[data.index(model["actor.hidden.0.weight"].numpy().tobytes()) + 100] ^= 1
    path.write_bytes(data)


def save_a_model(path):
    torch.save(torch.nn.Linear(2, 2).state_dict(), path)


def save_a_tensor(path):
    torch.save(torch.zeros(3), path)


def save_a_list(path):
    torch.save(["ppo-fast checkpoint", 1], path)


def leave_out(key):
    def damage(path):
        content = torch.load(path, weights_only=True)
        del content[key]
        torch.save(content, path)

    damage.__name__ = f"leave_out_{key}"
    return damage


DAMAGES = [
    truncate,
    cut_the_last_byte,
    empty,
    write_text,
    zero_a_block,
    flip_a_bit_of_the_weights,
    save_a_model,
    save_a_tensor,
    save_a_list,
    leave_out("config"),
    leave_out("updates"),
    leave_out("learner"),
]


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of a run's folder."""
    return Path(shutil.copytree(finished.out, tmp_path / "copy"))


def openers(folder):
    return {
        "load": lambda: ppo_fast.load(folder),
        "resume": lambda: ppo_fast.train(resume=folder),
    }


@pytest.mark.parametrize("how", ["load", "resume"])
@pytest.mark.parametrize("damage", DAMAGES, ids=lambda damage: damage.__name__)
def test_damaged_checkpoint(copied, damage, how):
    damage(copied / CHECKPOINT)
    before = (copied / "metrics.csv").read_bytes()
    with pytest.raises(ValueError, match=r"checkpoint\.pt .*(cannot be read|no ppo-fast)") as error:
        openers(copied)[how]()
    assert len(str(error.value).splitlines()) == 1
    assert (copied / "metrics.csv").read_bytes() == before


def test_random_bytes_are_no_checkpoint(tmp_path):
    rng = np.random.default_rng(0)
    for size in range(300):
        # The second kind looks like a pickle at first.
        for start_of_file in (b"", b"\x80\x02"):
            (tmp_path / CHECKPOINT).write_bytes(start_of_file + rng.bytes(size))
            with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read"):
                ppo_fast.load(tmp_path)


@pytest.mark.parametrize("how", ["load", "resume"])
@pytest.mark.parametrize("zipped", [True, False])
def test_code_in_a_checkpoint_is_not_run(copied, how, zipped):
    marker = copied / "was here"
    # A pickle of a call: eval("open(...)").
    code = f"cbuiltins\neval\n(Vopen({os.fspath(marker)!r}, 'w').close()\ntR.".encode()
    pickle.loads(code)
    assert marker.exists()
    marker.unlink()

    path = copied / CHECKPOINT
    if zipped:
        with zipfile.ZipFile(path) as old:
            records = {name: old.read(name) for name in old.namelist()}
        (name,) = (name for name in records if name.endswith("data.pkl"))
        with zipfile.ZipFile(path, "w") as new:
            for record, data in (records | {name: code}).items():
                new.writestr(record, data)
    else:
        path.write_bytes(code)
    with pytest.raises(ValueError, match=r"checkpoint\.pt cannot be read"):
        openers(copied)[how]()
    assert not marker.exists()


@pytest.mark.parametrize("how", ["load", "resume"])
def test_checkpoint_of_a_newer_version(copied, how):
    path = copied / CHECKPOINT
    torch.save(torch.load(path, weights_only=True) | {"version": 3}, path)
    with pytest.raises(
        ValueError, match=r"checkpoint\.pt is a checkpoint of version 3; this is version 2$"
    ):
        openers(copied)[how]()


@pytest.mark.parametrize("how", ["load", "resume"])
def test_checkpoint_with_settings_that_we_do_not_know(copied, how):
    path = copied / CHECKPOINT
    content = torch.load(path, weights_only=True)
    content["config"]["colour"] = "red"
    torch.save(content, path)
    with pytest.raises(ValueError, match=r"not the fields of a TrainConfig: .*colour"):
        openers(copied)[how]()


@pytest.mark.parametrize("how", ["load", "resume"])
def test_no_checkpoint(tmp_path, how):
    for folder in (tmp_path, tmp_path / "nothing"):
        with pytest.raises(FileNotFoundError, match=r"holds no checkpoint\.pt; give the folder of"):
            openers(folder)[how]()


# Policies


def test_predict(finished):
    policy = ppo_fast.load(finished.out)
    assert policy.config == finished.config
    obs = np.random.default_rng(0).normal(size=(200, 4))
    batch = policy.predict(obs)
    assert batch.dtype == np.int64
    assert batch.shape == (200,)
    assert set(batch.tolist()) == {0, 1}
    for row, action in zip(obs[:20], batch, strict=False):
        single = policy.predict(row)
        assert single.shape == ()
        assert single.dtype == np.int64
        assert single == action
    # Deterministic: calls in between change nothing, nor do dtype, layout or the kind of sequence.
    for same in (obs, obs.astype(np.float32), np.asfortranarray(obs), obs.tolist()):
        np.testing.assert_array_equal(policy.predict(same), batch)
    np.testing.assert_array_equal(finished.policy.predict(obs), batch)
    assert policy.predict(np.zeros((0, 4))).shape == (0,)


def test_drawn_actions_repeat(finished):
    obs = np.random.default_rng(0).normal(size=(100, 4)) / 10
    first = ppo_fast.load(finished.out)
    draws = [first.predict(obs, deterministic=False) for _ in range(3)]
    assert (draws[0] != draws[1]).any()
    second = ppo_fast.load(finished.out)
    for k, expected in enumerate(draws):
        second.predict(obs[:k])  # a deterministic call is no draw
        np.testing.assert_array_equal(second.predict(obs, deterministic=False), expected)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_predict_refuses_what_is_not_finite(finished, value):
    message = rf"^predict: obs must be finite, got {value} in row 0, column 2$"
    with pytest.raises(ValueError, match=message):
        finished.policy.predict([0, 0, value, 0])
    obs = np.zeros((3, 4))
    obs[1, 3] = value
    with pytest.raises(ValueError, match=r"in row 1, column 3$"):
        finished.policy.predict(obs, deterministic=False)


@pytest.mark.parametrize("shape", [(), (3,), (5,), (2, 3), (1, 2, 4), (0,)])
def test_predict_refuses_other_shapes(finished, shape):
    with pytest.raises(ValueError, match=r"^predict: obs must have shape \(4,\) or \(N, 4\), got"):
        finished.policy.predict(np.zeros(shape))


# Evaluation


def play_by_hand(policy, seed):
    """Return and length of a greedy episode, played with nothing but Gymnasium."""
    env = gymnasium.make(ENV)
    obs, _ = env.reset(seed=seed)
    total, length, done = 0.0, 0, False
    while not done:
        obs, reward, terminated, truncated, _ = env.step(policy.predict(obs))
        total += float(reward)
        length += 1
        done = terminated or truncated
    env.close()
    return total, length


def episode_seeds(seed, episodes):
    """Seeds of the episodes, as `evaluate` documents: made of `seed` and the episode's number."""
    return np.random.SeedSequence([seed, 0x6576616C]).generate_state(episodes).tolist()


@pytest.mark.parametrize("seed", [0, 3])
def test_evaluate_equals_a_plain_loop(finished, seed):
    evaluation = ppo_fast.training.evaluate(finished.policy, episodes=13, seed=seed)
    expected = [play_by_hand(finished.policy, k) for k in episode_seeds(seed, 13)]
    np.testing.assert_array_equal(evaluation.returns, [total for total, _ in expected])
    np.testing.assert_array_equal(evaluation.lengths, [length for _, length in expected])
    assert len(set(evaluation.returns.tolist())) > 3
    assert evaluation.solved is False


def test_greedy_evaluation_does_not_depend_on_the_number_side_by_side(finished, monkeypatch):
    module = importlib.import_module("ppo_fast.training.evaluate")
    results = []
    for parallel in (1, 3, 100):
        monkeypatch.setattr(module, "_PARALLEL", parallel)
        results.append(module.evaluate(ppo_fast.load(finished.out), episodes=12).returns.tolist())
    assert results[0] == results[1] == results[2]


def test_more_episodes_begin_with_the_same_ones(finished):
    few = ppo_fast.training.evaluate(finished.policy, episodes=4, seed=1)
    many = ppo_fast.training.evaluate(finished.policy, episodes=12, seed=1)
    np.testing.assert_array_equal(many.returns[:4], few.returns)


def test_evaluate_refuses_no_episodes(finished):
    with pytest.raises(ValueError, match="episodes must be at least 1, got 0"):
        ppo_fast.training.evaluate(finished.policy, episodes=0)


# Other environments


def train_elsewhere(env_id, num_envs, out):
    config = TrainConfig(
        env_id,
        out=out,
        num_envs=num_envs,
        num_steps=64,
        minibatch_size=64,
        total_steps=512,
        eval_episodes=1,
    )
    return ppo_fast.train(config)


@pytest.mark.parametrize("num_envs", [1, 3])
def test_training_on_an_environment_of_gymnasium(num_envs, foreign_env, tmp_path):
    result = train_elsewhere(foreign_env, num_envs, tmp_path / "run")
    assert result.metrics["steps"][-1] == math.ceil(512 / (64 * num_envs)) * 64 * num_envs
    assert result.evaluation.returns.shape == (1,)
    for name, column in result.metrics.items():
        # No episode of Acrobot ends within so few steps.
        assert np.isfinite(column).all() or name in ("mean_return", "mean_length")
    policy = ppo_fast.load(result.out)
    assert policy.predict(np.zeros(6)) in (0, 1, 2)


def test_cartpole_of_gymnasium_trains_like_ours(tmp_path):
    # The same run through Gymnasium's vector environment, which holds ours to the same bits.
    env_id = "test_training/CartPole-v1"
    gymnasium.register(env_id, gymnasium.spec(ENV).entry_point, max_episode_steps=500)
    try:
        for name in (ENV, env_id):
            config = small(tmp_path / name, total_steps=2048, eval_episodes=0)
            ppo_fast.train(dataclasses.replace(config, env_id=name))
    finally:
        del gymnasium.registry[env_id]
    np.testing.assert_equal(read_numbers(tmp_path / ENV), read_numbers(tmp_path / env_id))


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("tiny/pair-v0", r"tiny/pair-v0 has actions in Tuple.*; those that can be trained are"),
        ("tiny/words-v0", "tiny/words-v0 has observations that cannot be rows: Text.* is none of"),
        ("CartPol-v1", "unknown environment 'CartPol-v1'; did you mean CartPole-v1"),
        ("Akrobot-v1", "unknown environment 'Akrobot-v1'; did you mean Acrobot-v1"),
        ("cartpole", "unknown environment 'cartpole'; "),
        ("nothing/like:it", "unknown environment 'nothing/like:it'; "),
        ("", "unknown environment ''; "),
    ],
)
def test_environments_that_cannot_be_trained_on(env_id, message, num_envs, tiny, tmp_path):
    with pytest.raises(ValueError, match=message):
        train_elsewhere(env_id, num_envs, tmp_path / "run")
    # A wrong setting leaves nothing behind.
    assert list(tmp_path.iterdir()) == []


# Learning


@pytest.mark.parametrize(
    "seed", [1, *(pytest.param(k, marks=pytest.mark.slow) for k in range(2, 6))]
)
def test_the_preset_solves_cartpole(seed, tmp_path):
    result = ppo_fast.train(TrainConfig.preset(ENV, seed=seed, out=tmp_path / "run"))
    assert len(result.evaluation.returns) == 100
    assert result.evaluation.mean_return >= 475
    assert result.evaluation.solved is True


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_rl_zoo_settings_learn_cartpole(seed, tmp_path):
    config = dataclasses.replace(rl_zoo_config(seed, 1, total_steps=100_000), out=tmp_path / "run")
    assert ppo_fast.train(config).evaluation.mean_return >= 440


def test_a_run_of_a_version_without_times_goes_on(tmp_path):
    # metrics.csv had no columns for environments, policy and update.
    out = tmp_path / "run"
    config = small(out, **LONG)

    def stop(row):
        if row["update"] > 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        ppo_fast.train(dataclasses.replace(config, checkpoint_seconds=0.0), on_update=stop)
    path = out / "metrics.csv"
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    new = ("env_seconds", "policy_seconds", "update_seconds")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in rows[0] if name not in new])
        writer.writeheader()
        writer.writerows({k: v for k, v in row.items() if k not in new} for row in rows)
    metrics = ppo_fast.train(resume=out).metrics
    for name in new:
        assert np.isnan(metrics[name][:4]).all()
        assert (metrics[name][4:] >= 0).all()
    np.testing.assert_array_equal(metrics["update"], np.arange(1, len(metrics["update"]) + 1))
    np.testing.assert_array_equal(metrics["steps"][:4], [int(row["steps"]) for row in rows])
