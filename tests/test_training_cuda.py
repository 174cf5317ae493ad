"""Training on a GPU, or on the CPU in its place (conftest.py: `device`, recorded_graphs.py)."""

import dataclasses
import json
import shutil
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import tiny_envs
from algorithm_cases import discrete, make_config, obs_rows

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

from recorded_graphs import recorded  # noqa: E402 - after the checks
from test_learner_engines import stopped  # noqa: E402
from test_training import differences, read_checkpoint, read_numbers  # noqa: E402
from torch.overrides import TorchFunctionMode  # noqa: E402

import ppo_fast  # noqa: E402
import ppo_fast.cuda  # noqa: E402
from ppo_fast import TrainConfig  # noqa: E402
from ppo_fast.cuda_graphs import Graphs  # noqa: E402
from ppo_fast.envs import NATIVE_SPECS  # noqa: E402
from ppo_fast.envs.cuda import CudaVectorEnv  # noqa: E402
from ppo_fast.learners import make_learner  # noqa: E402
from ppo_fast.learners.native import NativeLearner  # noqa: E402
from ppo_fast.training import trainer  # noqa: E402
from ppo_fast.training.exact_convolutions import exact_convolutions  # noqa: E402

SMALL = {
    "num_envs": 16,
    "num_steps": 6,
    "num_epochs": 2,
    "minibatch_size": 40,  # two and a smaller one
    "hidden_sizes": (16,),
    "learning_rate": 3e-3,
    "eval_episodes": 0,
    "seed": 3,
}


@pytest.fixture
def gpu(device, monkeypatch):
    """Lets "cuda" be the device; the names of the functions that become graphs."""
    if device == "cuda":
        return []
    monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
    return recorded(monkeypatch)


def config_of(env_id, out, updates=3, **changes):
    settings = SMALL | {"device": "cuda"} | changes
    steps = settings["num_envs"] * settings["num_steps"] * updates
    return TrainConfig(env_id, out=out, **({"total_steps": steps} | settings))


def run_and_state(config):
    return ppo_fast.train(config), read_checkpoint(config.out)


def assert_close_runs(ours, theirs):
    """Results and checkpoints of two runs that only rounding may tell apart."""
    (result, state), (expected, other) = ours, theirs
    assert result.metrics.keys() == expected.metrics.keys()
    for name, column in expected.metrics.items():
        if "second" not in name:
            np.testing.assert_allclose(
                result.metrics[name], column, rtol=1e-3, atol=1e-5, err_msg=name
            )
    for name, p in other["learner"]["model"].items():
        torch.testing.assert_close(state["learner"]["model"][name], p, rtol=0, atol=1e-4)
    steps = [x["learner"]["optimizer"]["state"][0]["step"] for x in (state, other)]
    assert steps[0] == steps[1] > 0
    assert state["learner"].keys() == other["learner"].keys()
    assert state["algorithm"] == other["algorithm"]


# The same numbers as on the CPU


CASES = {
    "ppo-clip": ("CartPole-v1", {"clip_range_high": 0.3, "dual_clip": 3.0, "clip_range": 0.01}),
    "anneals": (
        "CartPole-v1",
        {
            "anneal_clip_range": True,
            "clip_range": 0.01,
            "anneal_entropy_coef": True,
            "entropy_coef": 1.0,
        },
    ),
    "old values": ("CartPole-v1", {"clip_range_values": 0.05, "max_grad_norm": None}),
    "recompute": ("CartPole-v1", {"recompute_advantages": True, "normalize_advantages": "batch"}),
    "a2c": ("CartPole-v1", {"algorithm": "a2c"}),
    "unclipped": ("CartPole-v1", {"algorithm": "ppo-unclipped", "shared_trunk": True}),
    "kl fixed": ("CartPole-v1", {"algorithm": "ppo-kl", "kl_rule": "fixed"}),
    "kl adaptive": ("Pendulum-v1", {"algorithm": "ppo-kl", "kl_target": 1e-3}),
    "kl distributed": (
        "Pendulum-v1",
        {"algorithm": "ppo-kl", "kl_rule": "distributed", "kl_target": 1e-3},
    ),
    "normalised": ("Pendulum-v1", {"normalize_obs": True, "normalize_rewards": True}),
    "squashed": ("Pendulum-v1", {"continuous": "squashed", "activation": "relu"}),
    "gsde": ("Pendulum-v1", {"continuous": "gsde", "log_std": -1.0, "noise_steps": 4}),
    "encoder": ("CartPole-v1", {"encoder": "tiny_encoders:Tower", "shared_trunk": True}),
    "own std": ("Pendulum-v1", {"state_dependent_std": True, "normalize_advantages": "none"}),
}


@pytest.mark.parametrize("case", CASES)
def test_a_run_is_that_of_the_torch_engine(case, gpu, on_cpu, tmp_path):
    env_id, changes = CASES[case]
    config = config_of(env_id, tmp_path / "gpu", **changes)
    ours = run_and_state(config)
    if gpu:  # recorded; more than one epoch of the first update and it is captured then
        assert set(gpu) - {"_pass"} == {"_learn", "_play"}
        assert ("_pass" in gpu) == (config.encoder is not None)
    there = dataclasses.replace(config, device="cpu", engine="torch", out=tmp_path / "cpu")
    assert_close_runs(ours, on_cpu(lambda: run_and_state(there)))


@pytest.mark.parametrize("vectorization", ["sync", "async"])
@pytest.mark.parametrize("num_envs", [1, 3])
def test_environments_on_the_cpu(num_envs, vectorization, gpu, on_cpu, foreign_env, tmp_path):
    # Episodes end within a rollout and across two; gSDE draws at the steps of the whole run.
    changes = {
        "num_envs": num_envs,
        "num_steps": 40,
        "minibatch_size": 40,
        "env_kwargs": {"max_episode_steps": 17},
        "vectorization": vectorization,
        "normalize_obs": True,
        "normalize_rewards": True,
    }
    config = config_of(foreign_env, tmp_path / "gpu", **changes)
    ours = run_and_state(config)
    if gpu:
        assert set(gpu) == {"_learn", "_act_on_row"}
    assert (ours[0].metrics["env_seconds"] > 0).all()
    assert ours[0].metrics["episodes"].tolist() == [k * 40 // 17 * num_envs for k in (1, 2, 3)]
    there = dataclasses.replace(config, device="cpu", engine="torch", out=tmp_path / "cpu")
    assert_close_runs(ours, on_cpu(lambda: run_and_state(there)))


@pytest.mark.parametrize("kind", ["choices", "bits", "box"])
def test_actions_for_environments_on_the_cpu(kind, gpu, on_cpu, tiny, tmp_path):
    changes = {"continuous": "gsde", "noise_steps": 4} if kind == "box" else {}
    env_id = "foreign/Pendulum-v1" if kind == "box" else tiny[kind]
    if kind == "box":
        gymnasium.register(env_id, gymnasium.spec("Pendulum-v1").entry_point, max_episode_steps=9)
    try:
        config = config_of(env_id, tmp_path / "gpu", num_envs=4, num_steps=20, **changes)
        ours = run_and_state(config)
        there = dataclasses.replace(config, device="cpu", engine="torch", out=tmp_path / "cpu")
        assert_close_runs(ours, on_cpu(lambda: run_and_state(there)))
    finally:
        gymnasium.registry.pop("foreign/Pendulum-v1", None)


@pytest.mark.parametrize("shared_trunk", [True, False])
def test_pictures_are_convolved_on_the_device(shared_trunk, gpu, on_cpu, tiny, tmp_path):
    changes = {"encoder": "cnn", "shared_trunk": shared_trunk, "num_envs": 4}
    changes |= {"minibatch_size": 10, "updates": 2}
    config = config_of(tiny_envs.BARS, tmp_path / "gpu", **changes)
    ours = run_and_state(config)
    if gpu:
        assert set(gpu) == {"_learn", "_act_on_row", "_pass"}
    there = dataclasses.replace(config, device="cpu", engine="torch", out=tmp_path / "cpu")
    assert_close_runs(ours, on_cpu(lambda: run_and_state(there)))


def test_what_is_tried_leaves_nothing(gpu, on_cpu):
    config = make_config(encoder="tiny_encoders:Tower", device="cuda")
    ours = make_learner(config, obs_rows(), discrete())
    there = dataclasses.replace(config, device="cpu", engine="torch")
    theirs = on_cpu(lambda: make_learner(there, obs_rows(), discrete()))
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        assert torch.equal(p.cpu(), q)
        assert not p.grad.any()


@pytest.mark.skipif(not shutil.which("c++"), reason="there is no C++ compiler")
@pytest.mark.parametrize("num_envs", [1, 4])
def test_native_environments_with_other_observations(num_envs, gpu, on_cpu, tmp_path, monkeypatch):
    monkeypatch.setenv("PPO_FAST_CACHE", str(tmp_path / "cache"))
    header = str(Path(__file__).parents[1] / "examples" / "snake.h")
    changes = {"num_envs": num_envs, "num_steps": 40, "num_threads": 2}
    config = config_of(header, tmp_path / "gpu", **changes)
    try:
        ours = run_and_state(config)
        if gpu:
            assert set(gpu) == {"_learn", "_act_on_row"}
        there = dataclasses.replace(config, device="cpu", engine="torch", out=tmp_path / "cpu")
        assert_close_runs(ours, on_cpu(lambda: run_and_state(there)))
        stopped(dataclasses.replace(config, out=tmp_path / "stopped"), 1)
        ppo_fast.train(resume=tmp_path / "stopped")
        np.testing.assert_equal(read_numbers(tmp_path / "stopped"), read_numbers(config.out))
    finally:
        NATIVE_SPECS.pop("Snake-v0", None)


def test_convolutions_are_exact_while_it_trains(gpu, tiny, tmp_path):
    cudnn = torch.backends.cudnn

    def settings():
        precision = cudnn.conv.fp32_precision, cudnn.rnn.fp32_precision
        return cudnn.benchmark, cudnn.deterministic, *precision

    seen = []
    before = settings()
    for device in ("cuda", "cpu"):
        config = config_of("CartPole-v1", tmp_path / device, updates=1, device=device)
        ppo_fast.train(config, on_update=lambda row: seen.append(settings()))
        assert settings() == before
    assert seen == [(False, True, "ieee", "ieee"), before]


def test_settings_of_convolutions_may_differ():
    # Where `torch.backends.cudnn.allow_tf32` is an error.
    conv, rnn = torch.backends.cudnn.conv, torch.backends.cudnn.rnn
    before = conv.fp32_precision, rnn.fp32_precision
    try:
        conv.fp32_precision, rnn.fp32_precision = "ieee", "tf32"
        with exact_convolutions():
            assert (conv.fp32_precision, rnn.fp32_precision) == ("ieee", "ieee")
        assert (conv.fp32_precision, rnn.fp32_precision) == ("ieee", "tf32")
    finally:
        conv.fp32_precision, rnn.fp32_precision = before


class Reads(TorchFunctionMode):
    """Writes down what waits for the device."""

    def __init__(self, events):
        super().__init__()
        self.events = events

    def __torch_function__(self, function, types, args=(), kwargs=None):
        if function.__name__ in READS:
            self.events.append(function.__name__)
        return function(*args, **(kwargs or {}))


READS = {"item", "tolist", "cpu", "numpy", "nonzero", "__bool__", "__int__", "__float__"}
EVERYTHING = {"normalize_obs": True, "normalize_rewards": True, "clip_range_values": 0.2}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        (EVERYTHING, ["play", "epoch", "epoch", "tolist", "item", "tolist"]),
        (
            EVERYTHING | {"recompute_advantages": True, "normalize_advantages": "batch"},
            ["play", "epoch", "epoch", "tolist", "item", "tolist"],
        ),
        ({"algorithm": "a2c"}, ["play", "epoch", "tolist", "item", "tolist"]),
        ({"algorithm": "ppo-kl"}, ["play", "epoch", "epoch", "tolist", "item", "tolist"]),
        (
            {"target_kl": 1e9},
            ["play", "epoch", "item", "epoch", "item", "tolist", "item", "tolist"],
        ),
    ],
)
def test_an_update_waits_at_its_end(changes, expected, gpu, tmp_path, monkeypatch):
    # Metrics, whether all numbers were finite, episodes; and the KL after an epoch that may be the
    # last. Between the start of a rollout and the last epoch nothing else is looked at.
    events = []
    run = Graphs.run

    def written_down(graphs, name, key, function):
        events.append(name)
        with torch._C.DisableTorchFunction():
            run(graphs, name, key, function)

    monkeypatch.setattr(Graphs, "run", written_down)
    updates = []

    def on_update(row):
        updates.append(events.copy())
        events.clear()

    few = {"num_envs": 8, "num_steps": 4, "minibatch_size": 16}
    config = config_of("CartPole-v1", tmp_path / "run", **few, **changes)
    reset_envs = trainer._Run.reset_envs
    monkeypatch.setattr(trainer._Run, "save", lambda self, **_: None)
    monkeypatch.setattr(CudaVectorEnv, "get_state", lambda self: None)
    monkeypatch.setattr(trainer._Run, "finish", lambda self, *_: None)
    monkeypatch.setattr(trainer._Run, "reset_envs", lambda self: (reset_envs(self), events.clear()))
    with Reads(events):
        ppo_fast.train(config, on_update=on_update)
    assert updates == [expected] * 3


def test_graphs_change_nothing(gpu, device, tmp_path, monkeypatch):
    runs = []
    for captures in (True, False):
        if not captures:
            monkeypatch.setattr("ppo_fast.cuda_graphs.captures", lambda place: False)
        config = config_of("CartPole-v1", tmp_path / str(captures), anneal_lr=True)
        runs.append(run_and_state(config))
    if device == "cpu":
        assert differences(runs[0][1], runs[1][1]) == []
    assert_close_runs(*runs)


def test_episodes_are_counted(gpu, on_cpu, tmp_path):
    config = config_of("CartPole-v1", tmp_path / "gpu", num_steps=30, updates=2, num_epochs=1)
    ours = ppo_fast.train(config).metrics
    there = dataclasses.replace(config, device="cpu", engine="torch", out=tmp_path / "cpu")
    theirs = on_cpu(lambda: ppo_fast.train(there)).metrics
    assert theirs["episodes"][0] >= 10
    for name in ("episodes", "mean_return", "mean_length", "return_sum"):
        np.testing.assert_array_equal(ours[name], theirs[name])


@pytest.mark.slow
def test_it_learns(gpu, tmp_path):
    config = config_of(
        "CartPole-v1",
        tmp_path / "run",
        num_envs=32,
        num_steps=16,
        updates=10,
        num_epochs=3,
        minibatch_size=256,
        learning_rate=1e-2,
        anneal_lr=False,
        gae_lambda=0.9,
        gamma=0.98,
    )
    returns = ppo_fast.train(config).metrics["mean_return"]
    assert returns[-1] > 2 * returns[0]


# Stopping, going on, changing places


@pytest.mark.parametrize("env_id", ["CartPole-v1", "InvertedPendulum-v5"])
def test_a_run_goes_on_with_the_same_bits(env_id, gpu, tmp_path):
    if env_id.startswith("Inverted"):  # on the CPU
        pytest.importorskip("mujoco")
    changes = {"normalize_obs": True, "normalize_rewards": True, "algorithm": "ppo-kl"}
    config = config_of(env_id, tmp_path / "run", **changes)
    stopped(config, 1)
    ppo_fast.train(resume=config.out)
    whole = dataclasses.replace(config, out=tmp_path / "whole")
    ppo_fast.train(whole)
    np.testing.assert_equal(read_numbers(config.out), read_numbers(whole.out))
    a, b = read_checkpoint(config.out), read_checkpoint(whole.out)
    del a["config"], b["config"]
    assert differences(a, b) == []


@pytest.mark.parametrize("first", ["cuda", "cpu"])
def test_a_run_changes_device_at_resume(first, gpu, tmp_path):
    other = {"cuda": "cpu", "cpu": "cuda"}[first]
    changes = {"normalize_obs": True, "normalize_rewards": True}
    config = config_of("Pendulum-v1", tmp_path / "run", device=first, **changes)
    stopped(config, 2)
    before, rows = read_checkpoint(config.out), read_numbers(config.out)[:2]
    result = ppo_fast.train(resume=config.out, device=other)
    after = read_checkpoint(config.out)
    assert result.config.device == after["config"]["device"] == other
    assert before.keys() == after.keys()
    assert before["learner"].keys() == after["learner"].keys()
    groups = [x["learner"]["optimizer"]["param_groups"][0] for x in (before, after)]
    assert groups[0].keys() == groups[1].keys()
    assert [type(x) for x in groups[0].values()] == [type(x) for x in groups[1].values()]
    assert after["learner"]["optimizer"]["state"][0]["step"] == 3 * 2 * 3
    np.testing.assert_equal(read_numbers(config.out)[:2], rows)
    # The next update is nearly that of the run which stays.
    whole = ppo_fast.train(dataclasses.replace(config, out=tmp_path / "whole"))
    for name in ("value_loss", "entropy", "kl"):
        ours, theirs = (metrics[name][2] for metrics in (result.metrics, whole.metrics))
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5), name


def test_what_was_trained_on_a_gpu_is_loaded_without_one(gpu, monkeypatch, tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", updates=2, eval_episodes=2)
    result = ppo_fast.train(config)
    assert result.evaluation.returns.shape == (2,)
    assert json.loads((config.out / "summary.json").read_text())["engine"] == "torch"

    def none(what):
        raise RuntimeError("there is no GPU")

    monkeypatch.setattr(ppo_fast.cuda, "kernels", none)
    monkeypatch.setattr(ppo_fast.cuda, "place", none)
    policy = ppo_fast.load(config.out)
    assert isinstance(policy._learner, NativeLearner)
    assert policy.config == result.config
    obs = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    np.testing.assert_array_equal(policy.predict(obs), result.policy.predict(obs))


def test_resume_on_a_gpu_refuses_the_native_engine(gpu, tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", device="cpu", engine="native")
    stopped(config, 1)
    with pytest.raises(ValueError, match="device cuda cannot train this: the native engine is"):
        ppo_fast.train(resume=config.out, device="cuda")
    result = ppo_fast.train(resume=config.out, device="cuda", engine="auto")
    assert (result.config.device, result.config.engine) == ("cuda", "auto")


# What ends an update, or the run


@pytest.mark.parametrize(
    "changes",
    [
        {"target_kl": 1e-12},
        {"algorithm": "ppo-kl", "kl_rule": "distributed", "kl_target": 1e-9},
    ],
)
def test_a_stop_is_decided_once_per_epoch(changes, gpu, tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", updates=2, num_epochs=3, **changes)
    result, state = run_and_state(config)
    # On the CPU the steps of an update end with the first minibatch that is too far.
    np.testing.assert_array_equal(result.metrics["epochs"], 1)
    assert state["learner"]["optimizer"]["state"][0]["step"] == 2 * 3


def test_a_large_target_never_stops(gpu, tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", updates=1, target_kl=1e9)
    np.testing.assert_array_equal(ppo_fast.train(config).metrics["epochs"], 2)


@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_divergence_is_named_and_the_policy_before_it_saved(max_grad_norm, gpu, tmp_path):
    config = config_of(
        "CartPole-v1",
        tmp_path / "run",
        updates=6,
        learning_rate=1e30,
        anneal_lr=False,
        max_grad_norm=max_grad_norm,
    )
    message = r"^training diverged after \d+ updates and .* \(.*(nan|inf).*\); lower learning_rate"
    with pytest.raises(RuntimeError, match=message):
        ppo_fast.train(config)
    state = read_checkpoint(config.out)
    for p in state["learner"]["model"].values():
        assert torch.isfinite(p).all()
    assert state["learner"]["optimizer"]["state"][0]["step"] == state["updates"] * 6
    assert state["env_state"] is None


@pytest.mark.parametrize("changes", [{}, {"normalize_rewards": True, "normalize_obs": True}])
def test_an_environment_that_breaks_is_named(changes, gpu, on_cpu, tmp_path, monkeypatch):
    messages, states = [], []
    for place, call in (("cuda", lambda f: f()), ("cpu", on_cpu)):
        engine = "torch" if place == "cpu" else "auto"
        config = config_of(
            "CartPole-v1", tmp_path / place, 9, device=place, engine=engine, **changes
        )
        steppers = []

        def make_stepper(*args, made=steppers, make=ppo_fast.envs.make_stepper, **keywords):
            made.append(make(*args, **keywords))
            return made[-1]

        monkeypatch.setattr(trainer, "make_stepper", make_stepper)

        def break_one(row, made=steppers):
            if row["update"] == 2:
                values = [0.1] * 16
                values[5] = float("nan")
                made[0].set_attr("masspole", values)

        with pytest.raises(RuntimeError) as error:
            call(lambda config=config, f=break_one: ppo_fast.train(config, on_update=f))
        messages.append(str(error.value).replace(str(config.out), "FOLDER"))
        states.append(read_checkpoint(config.out))
    assert messages[0] == messages[1]
    assert (
        "CartPole-v1 gave observations that are not finite: nan from environment 5" in (messages[0])
    )
    ours, theirs = states
    assert ours["updates"] == theirs["updates"] == 2
    for name, p in theirs["learner"]["model"].items():
        torch.testing.assert_close(ours["learner"]["model"][name], p, rtol=0, atol=1e-4)
    if changes:
        for state in (ours, theirs):
            assert np.isfinite(state["rewards"]["moments"]["variance"])
            assert state["rewards"]["moments"]["count"] == 2 * 96
            assert state["learner"]["obs_moments"]["count"] == 2 * 96


@pytest.mark.parametrize("what", ["rewards", "observations"])
def test_an_environment_on_the_cpu_that_breaks_is_named(what, gpu, faulty, tmp_path):
    # 2 x 12 steps an update: the second one of the third update, in environment 1.
    faulty.fault = (what, 2 * 24 + 4, np.nan)
    small = {"num_envs": 2, "num_steps": 12, "minibatch_size": 12}
    config = config_of("tiny/faulty-v0", tmp_path / "run", 9, **small)
    with pytest.raises(
        RuntimeError, match=f"gave {what} that are not finite: nan from environ"
    ) as e:
        ppo_fast.train(config)
    assert f"environment 1 at step {2 * 24 + 4} of the run" in str(e.value)
    assert read_checkpoint(config.out)["updates"] == 2


# Refusals


@pytest.mark.parametrize(
    ("env_id", "changes", "message"),
    [
        ("CartPole-v1", {"algorithm": "reinforce"}, "reinforce plays .*; choose device cpu$"),
        ("CartPole-v1", {"algorithm": "trpo"}, "trpo decides .*; choose device cpu$"),
        ("CartPole-v1", {"engine": "native"}, "the native engine is .*; choose engine auto, or "),
        ("nowhere/Acrobot-v1", {}, "unknown environment 'nowhere/Acrobot-v1'"),
        (
            "CartPole-v1",
            {"encoder": "tiny_encoders:Branching"},
            r"encoder '.*' cannot be captured in a CUDA graph: .*: .* \(.*:\d+\); let forward",
        ),
    ],
)
def test_refusals(env_id, changes, message, gpu, tmp_path):
    config = config_of(env_id, tmp_path / "run", **changes)
    with pytest.raises(ValueError, match=message):
        ppo_fast.train(config)
    assert list(tmp_path.iterdir()) == []


def test_without_a_gpu(tmp_path):
    if not ppo_fast.build_info()["cuda_off"]:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"^device='cuda' cannot be used here: "):
        ppo_fast.train(config_of("CartPole-v1", tmp_path / "run"))
    assert list(tmp_path.iterdir()) == []


def test_a_device_that_torch_does_not_find():
    with pytest.raises(
        RuntimeError, match=r"^device='cuda:99' cannot be used here: torch .* finds"
    ):
        ppo_fast.cuda.place("cuda:99")


def test_a_new_run_takes_its_device_from_the_config(tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", device="cpu")
    with pytest.raises(TypeError, match=r"device belongs to resume; a new run has config\.device"):
        ppo_fast.train(config, device="cuda")
