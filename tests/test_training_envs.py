"""What can be trained on: observations of every space, keywords, processes of their own."""

import contextlib
import dataclasses
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import gymnasium
import numpy as np
import pytest
import tiny_envs

import ppo_fast
from ppo_fast import TrainConfig
from ppo_fast.cli import main
from ppo_fast.envs import NATIVE_SPECS, make_stepper
from ppo_fast.envs.make import make_original
from ppo_fast.training import evaluate

pytest.importorskip("torch")

FEW = {
    "total_steps": 1024,
    "num_envs": 4,
    "num_steps": 64,
    "minibatch_size": 64,
    "eval_episodes": 3,
}
TABLES = ("mean_return", "kl", "policy_loss", "value_loss")


def few(env_id, out, **changes):
    return TrainConfig(env_id, out=out, **FEW | changes)


def assert_equal_runs(*runs):
    for name in TABLES:
        np.testing.assert_array_equal(*(run.metrics[name] for run in runs))
    assert len({tuple(run.evaluation.returns) for run in runs}) == 1


# Observations of other spaces


@pytest.mark.parametrize(("num_envs", "engine"), [(1, "native"), (4, "native"), (4, "torch")])
def test_a_dict_is_learned_from(num_envs, engine, tiny, tmp_path):
    changes = {"num_envs": num_envs, "num_steps": 256 // num_envs, "total_steps": 6144}
    changes |= {"engine": engine, "learning_rate": 3e-3, "eval_episodes": 20}
    result = ppo_fast.train(few(tiny_envs.PARTS, tmp_path / "run", **changes))
    # Of 12: all of its parts are seen, and each where it belongs.
    assert result.evaluation.mean_return > 11.5
    obs = {"wanted": 2, "clock": (np.zeros(1), np.zeros(2, np.int8))}
    assert ppo_fast.load(result.out).predict(obs) == 1
    batch = {"wanted": [1, 2, 3], "clock": (np.zeros((3, 1)), np.zeros((3, 2)))}
    assert ppo_fast.load(result.out).predict(batch).tolist() == [0, 1, 2]
    with pytest.raises(ValueError, match=r"predict: obs must be in Discrete\(3, start=1\), got 4"):
        result.policy.predict(obs | {"wanted": 4})


@pytest.mark.parametrize("env_id", ["Blackjack-v1", "CliffWalking-v1", "FrozenLake-v1", "Taxi-v4"])
def test_the_toys_of_gymnasium_are_trained_on(env_id, tmp_path):
    kwargs = {"max_episode_steps": 50}
    result = ppo_fast.train(few(env_id, tmp_path / "run", env_kwargs=kwargs))
    assert np.isfinite(result.metrics["policy_loss"]).all()
    assert max(result.evaluation.lengths) <= 50


def test_rows_are_those_of_the_wrapper(tmp_path):
    """A run on FrozenLake is the run within Gymnasium's FlattenObservation, bit for bit."""
    gymnasium.register(
        "tiny/FlatLake-v0",
        lambda: gymnasium.wrappers.FlattenObservation(gymnasium.make("FrozenLake-v1")),
    )
    try:
        flat = ppo_fast.train(few("tiny/FlatLake-v0", tmp_path / "flat"))
    finally:
        del gymnasium.registry["tiny/FlatLake-v0"]
    assert_equal_runs(ppo_fast.train(few("FrozenLake-v1", tmp_path / "plain")), flat)


# Keywords


def test_keywords_reach_all_environments(tmp_path):
    keywords = {"is_slippery": False, "desc": ["SFFF", "FHFH", "FFFH", "HFFG"]}
    config = few("FrozenLake-v1", tmp_path / "run", env_kwargs=keywords, total_steps=20_000)
    result = ppo_fast.train(config)
    assert result.evaluation.returns.tolist() == [1, 1, 1]  # not to be had on slippery ice
    assert result.evaluation.lengths.tolist() == [6, 6, 6]
    assert json.loads((result.out / "config.json").read_text())["env_kwargs"] == keywords
    policy = ppo_fast.load(result.out)
    assert policy.config.env_kwargs == keywords
    assert evaluate(policy, episodes=5, seed=9).lengths.tolist() == [6] * 5


@pytest.mark.parametrize("env_id", ["CartPole-v1", "tiny/PoleOfGymnasium-v0"])
def test_a_limit_is_a_keyword(env_id, tmp_path):
    gymnasium.register("tiny/PoleOfGymnasium-v0", gymnasium.spec("CartPole-v1").entry_point)
    try:
        config = few(env_id, tmp_path / "run", env_kwargs={"max_episode_steps": 8})
        result = ppo_fast.train(config)
    finally:
        del gymnasium.registry["tiny/PoleOfGymnasium-v0"]
    assert result.evaluation.lengths.tolist() == [8, 8, 8]
    assert max(result.metrics["mean_length"]) <= 8


# Values that change what steps give, of every keyword that our environments have.
CHANGED = {
    "CartPole-v1": {
        "sutton_barto_reward": True,
        "gravity": 5.0,
        "masspole": 0.3,
        "total_mass": 3.0,
        "length": 0.9,
        "polemass_length": 0.2,
        "force_mag": 7.0,
        "tau": 0.03,
        "theta_threshold_radians": 0.15,
        "x_threshold": 0.1,
        "kinematics_integrator": "semi-implicit euler",
    },
    "MountainCar-v0": {"goal_velocity": 0.01, "gravity": 0.003, "force": 0.002},
    "MountainCarContinuous-v0": {"goal_velocity": 0.01, "power": 0.003},
    "Pendulum-v1": {"g": 9.0, "max_torque": 1.0, "dt": 0.04, "m": 1.5, "l": 0.8},
    "Acrobot-v1": {"LINK_MASS_1": 1.5, "book_or_nips": "nips", "dt": 0.1},
}


def episode(env, seed):
    """All that an episode of random actions gives."""
    env.action_space.seed(seed)
    steps = [env.reset(seed=seed)[0].tolist()]
    over = False
    while not over:
        obs, reward, terminated, truncated, _ = env.step(env.action_space.sample())
        steps.append((obs.tolist(), float(reward), bool(terminated), bool(truncated)))
        over = terminated or truncated
    return steps


@pytest.mark.parametrize("env_id", CHANGED)
def test_gymnasiums_environments_take_our_keywords(env_id):
    """What is trained on natively is evaluated on Gymnasium's with the same numbers."""
    assert CHANGED[env_id].keys() <= set(NATIVE_SPECS[env_id].params)
    usual = [episode(gymnasium.make(env_id), seed) for seed in range(4)]
    for name, value in CHANGED[env_id].items():
        keywords = {name: value}
        original = make_original(env_id, **keywords)
        native = gymnasium.make(f"ppo_fast/{env_id}", **keywords)
        played = [episode(original, seed) for seed in range(4)]
        assert played == [episode(native, seed) for seed in range(4)]
        if name != "goal_velocity":  # random actions do not come to the goal
            assert played != usual, name


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ([1], TypeError, r"env_kwargs must be a dict, got \[1\]"),
        ({3: 1}, TypeError, "env_kwargs must have strings as names"),
        ({"env_id": "x"}, ValueError, "must not have env_id: it is a field of its own"),
        ({"wrappers": []}, ValueError, "must not have wrappers: register an id"),
        ({"num_envs": 2}, ValueError, "must not have num_envs: it is a field of its own"),
        ({"backend": "ale"}, ValueError, "must not have backend: training takes native"),
        ({"render_mode": "human"}, ValueError, "must not have render_mode: videos are made by"),
        ({"f": print}, TypeError, "must have values that JSON can hold: .*; register an id"),
    ],
)
def test_wrong_keywords(keywords, error, message):
    with pytest.raises(error, match=f"TrainConfig: .*{message}"):
        TrainConfig("CartPole-v1", env_kwargs=keywords)


@pytest.mark.parametrize("num_envs", [1, 3])
@pytest.mark.parametrize(
    ("env_id", "message"),
    [
        ("CartPole-v1", "CartPole-v1 cannot be made with .* has no keyword 'gravty'; it has: "),
        ("FrozenLake-v1", "FrozenLake-v1 cannot be made with .* unexpected keyword .*'gravty'"),
    ],
)
def test_keywords_that_there_are_not(env_id, message, num_envs, tmp_path):
    with pytest.raises(ValueError, match=message):
        ppo_fast.train(few(env_id, tmp_path / "run", num_envs=num_envs, env_kwargs={"gravty": 9.0}))
    assert list(tmp_path.iterdir()) == []


def test_a_value_that_an_environment_refuses(tmp_path):
    config = few("FrozenLake-v1", tmp_path / "run", env_kwargs={"map_name": "foo"})
    message = "FrozenLake-v1 cannot be made with {'map_name': 'foo'}: KeyError: 'foo'"
    with pytest.raises(ValueError, match=message):
        ppo_fast.train(config)


def test_another_task_has_no_threshold(tmp_path):
    """Episodes of 50 steps are worth -50 on MountainCar, whose threshold is -110."""
    result = ppo_fast.train(
        few("MountainCar-v0", tmp_path / "run", env_kwargs={"max_episode_steps": 50})
    )
    assert result.evaluation.returns.tolist() == [-50] * 3
    assert result.evaluation.solved is None


def test_a_config_keeps_its_keywords(tmp_path):
    keywords = {"size": (3, np.int64(4))}
    config = TrainConfig("CartPole-v1", env_kwargs=keywords)
    keywords["size"] = 5
    assert config.env_kwargs == {"size": [3, 4]}  # as JSON has it
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
    hash(config)


# Processes of their own


def test_processes_give_the_same_bits(tmp_path):
    runs = [
        ppo_fast.train(few("FrozenLake-v1", tmp_path / name, vectorization=name))
        for name in ("sync", "async")
    ]
    assert_equal_runs(*runs)


@pytest.mark.skipif(not hasattr(os, "killpg"), reason="no process groups here")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_to_all_processes_stop_the_run(number, tmp_path):
    """Ctrl-C goes to all processes of a terminal; the run is saved as any other."""
    arguments = "--num-envs 3 --num-steps 32 --minibatch-size 96 --vectorization async"
    command = [sys.executable, "-m", "ppo_fast.cli", "train", "FrozenLake-v1", *arguments.split()]
    with subprocess.Popen(
        [*command, "--total-steps", "10000000", "--out", str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    ) as process:
        log = tmp_path / "run" / "metrics.csv"
        try:
            for _ in range(600):
                if log.exists() and len(log.read_text().splitlines()) > 2:
                    break
                time.sleep(0.1)
            os.killpg(process.pid, number)
            out, _ = process.communicate(timeout=60)
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130, out
    assert "go on with: ppo-fast train --resume" in out
    assert "Traceback" not in out


class Mortal(gymnasium.Env):
    """One whose process is killed in its 100th step, if it has one of its own."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    action_space = gymnasium.spaces.Discrete(2)

    def __init__(self, trainer):
        self.trainer = trainer

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.steps = 0
        self.is_first = int(self.np_random.integers(3)) == 0
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        if self.steps == 100 and self.is_first and os.getpid() != self.trainer:
            os.kill(os.getpid(), signal.SIGKILL)
        return np.zeros(2, np.float32), 0.0, False, False, {}


@pytest.mark.skipif(os.name != "posix", reason="processes are killed")
@pytest.mark.timeout(60)
def test_the_death_of_a_process_is_an_error(tmp_path):
    gymnasium.register(
        "tiny/mortal-v0", Mortal, max_episode_steps=1000, kwargs={"trainer": os.getpid()}
    )
    others = set(multiprocessing.active_children())
    config = few("tiny/mortal-v0", tmp_path / "run", vectorization="async", num_envs=3)
    try:
        with pytest.raises((EOFError, ConnectionError)) as failure:
            ppo_fast.train(dataclasses.replace(config, eval_episodes=0, total_steps=100_000))
    finally:
        del gymnasium.registry["tiny/mortal-v0"]
    assert "tiny/mortal-v0 could not play after 1 updates" in failure.value.__notes__[0]
    assert set(multiprocessing.active_children()) <= others


def test_native_environments_have_threads_instead():
    with pytest.raises(ValueError, match="async is for Gymnasium's environments; Acrobot-v1 is n"):
        make_stepper("Acrobot-v1", 2, vectorization="async")


# Environments without an end


def test_seeds_have_32_bits_and_an_evaluation_has_an_end(tiny, tmp_path, monkeypatch, capsys):
    # By the name of the module, which its function hides.
    monkeypatch.setattr(sys.modules[evaluate.__module__], "LONGEST_EPISODE", 500)
    out = tmp_path / "run"
    result = ppo_fast.train(few(tiny_envs.ENDLESS, out))
    assert result.evaluation.lengths.tolist() == [500] * 3
    assert result.evaluation.returns.tolist() == [500.0] * 3
    assert result.evaluation.cut == 3
    assert json.loads((out / "summary.json").read_text())["eval_cut"] == 3
    assert main(["eval", str(out), "--episodes", "12"]) == 0
    words = "mean return 500.0 +- 0.0 over 12 episodes (12 cut after 500 steps) on Gymnasium's"
    assert words in capsys.readouterr().out
    limited = few(tiny_envs.ENDLESS, tmp_path / "short", env_kwargs={"max_episode_steps": 500})
    assert ppo_fast.train(limited).evaluation.cut == 0
