"""Both engines are one learner: the same numbers and memory; and which of them a run takes."""

import copy
import dataclasses
import json

import numpy as np
import pytest
from algorithm_cases import (
    POLICIES,
    at,
    changed,
    discrete,
    make_config,
    make_rollout,
    obs_rows,
    parameters,
    play,
)

import ppo_fast
from ppo_fast import TrainConfig
from ppo_fast.actions import ActionLayout
from ppo_fast.algorithms import make_algorithm
from ppo_fast.learners import GradientStep, Loss, make_learner
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Rollout

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

from test_training import CHECKPOINT, differences, read_checkpoint, read_numbers  # noqa: E402

from ppo_fast.envs import make_stepper  # noqa: E402

ENGINES = ("torch", "native")
OTHER = {"torch": "native", "native": "torch"}
LOSS = Loss("clipped", clip_range=0.2, entropy_coef=0.01, value_coef=0.5)
STEP = GradientStep(minibatch_size=8, learning_rate=1e-2, max_grad_norm=0.5)


def config_of(env_id, out, engine, **changes):
    settings = {
        "num_envs": 8,
        "num_steps": 64,
        "num_epochs": 5,
        "minibatch_size": 128,
        "total_steps": 512,
        "learning_rate": 2.5e-3,
        "eval_episodes": 0,
        "seed": 3,
    }
    return TrainConfig(env_id, out=out, engine=engine, **(settings | changes))


def learner_of(engine, family="categorical", **changes):
    fields, layout = POLICIES[family]
    return make_learner(make_config(engine=engine, **fields, **changes), obs_rows(), layout), layout


def rollout_of(learner, layout, **changes):
    rollout = play(learner, make_rollout(make_config(**changes), layout))
    rng = np.random.default_rng(0)
    for name in ("advantages", "returns", "old_values"):
        getattr(rollout, name)[:] = rng.normal(size=rollout.rewards.shape)
    learner.keep_old_policy(rollout)
    return rollout


def learn(learner, rollout, times=1):
    for k in range(times):
        order = np.random.default_rng(k).permutation(rollout.rewards.size)
        learner.epoch(rollout, order, LOSS, STEP)


# The same numbers


def rollouts(env_id, **changes):
    """The first rollout of a run by each engine."""
    for engine in ENGINES:
        config = config_of(env_id, None, engine, **changes)
        stepper = make_stepper(env_id, config.num_envs)
        layout = ActionLayout.of(
            env_id, stepper.single_action_space, squashed=config.continuous == "squashed"
        )
        obs_size = stepper.single_observation_space.shape[0]
        learner = make_learner(config, obs_rows(obs_size), layout)
        assert learner.engine == engine
        rollout = Rollout(config.num_steps, config.num_envs, (obs_size,), layout)
        rollout.start(stepper.reset(seed=1)[0])
        for k in range(2):  # the second one goes on where the first one stopped
            rollout.collect(stepper, learner, first_step=k * config.num_steps)
        yield rollout
        stepper.close()


@pytest.mark.parametrize("normalize_obs", [False, True])
@pytest.mark.parametrize("env_id", ["CartPole-v1", "Acrobot-v1"])
def test_both_engines_take_the_same_discrete_actions(env_id, normalize_obs):
    ours, theirs = rollouts(env_id, num_envs=70, normalize_obs=normalize_obs)
    for name in ("actions", "obs", "rewards", "terminated", "truncated"):
        np.testing.assert_array_equal(getattr(ours, name), getattr(theirs, name), err_msg=name)
    done = ours.terminated | ours.truncated
    np.testing.assert_array_equal(ours.final_obs[done], theirs.final_obs[done])
    np.testing.assert_allclose(ours.logp, theirs.logp, rtol=0, atol=1e-5)
    assert env_id == "Acrobot-v1" or done.any()


@pytest.mark.parametrize(
    "changes",
    [
        {"continuous": "gaussian"},
        {"continuous": "squashed"},
        {"continuous": "gsde", "noise_steps": 3, "log_std": -1.0},
        {"state_dependent_std": True},
    ],
)
def test_both_engines_take_the_same_continuous_actions(changes):
    # Their last bits differ, and an environment carries these on.
    ours, theirs = rollouts("Pendulum-v1", num_steps=32, minibatch_size=64, **changes)
    for name in ("actions", "obs", "rewards"):
        a, b = (getattr(rollout, name) for rollout in (ours, theirs))
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5, err_msg=name)
    np.testing.assert_allclose(ours.logp, theirs.logp, rtol=0, atol=1e-4)
    np.testing.assert_array_equal(ours.truncated, theirs.truncated)


# One update of 20 steps, or five of four with new rollouts in between.
@pytest.mark.parametrize("updates", [1, 5])
@pytest.mark.parametrize(
    ("env_id", "changes"),
    [
        ("CartPole-v1", {}),
        ("CartPole-v1", {"algorithm": "ppo-kl", "shared_trunk": True, "activation": "silu"}),
        ("CartPole-v1", {"algorithm": "ppo-unclipped", "activation": "relu"}),
        ("Pendulum-v1", {}),
        ("Pendulum-v1", {"continuous": "squashed", "activation": "elu"}),
        ("Pendulum-v1", {"continuous": "gsde", "log_std": -1.0}),
        ("Pendulum-v1", {"state_dependent_std": True}),
        (
            "Pendulum-v1",
            {"normalize_obs": True, "normalize_rewards": True, "clip_range_values": 0.2},
        ),
    ],
)
def test_parameters_agree_over_20_steps(env_id, changes, updates, tmp_path):
    states = []
    for engine in ENGINES:
        config = config_of(
            env_id,
            tmp_path / engine,
            engine,
            num_epochs=5 // updates,
            total_steps=512 * updates,
            anneal_lr=False,
            **changes,
        )
        states.append(read_checkpoint(ppo_fast.train(config).out)["learner"])
    ours, theirs = states
    moments, others = (state["optimizer"]["state"][0] for state in states)
    assert moments["step"] == others["step"] == 20
    moved = 0.0
    fresh = make_learner(config, *_layouts(env_id, config)).model.state_dict()
    for name, p in ours["model"].items():
        torch.testing.assert_close(p, theirs["model"][name], rtol=0, atol=1e-4)
        moved = max(moved, (p - fresh[name]).abs().max().item())
    for name in ("exp_avg", "exp_avg_sq"):
        a, b = moments[name], others[name]
        torch.testing.assert_close(a, b, rtol=0, atol=1e-2 * b.abs().max().item())
    assert moved > 1e-2


def _layouts(env_id, config):
    stepper = make_stepper(env_id, 1)
    layout = ActionLayout.of(
        env_id, stepper.single_action_space, squashed=config.continuous == "squashed"
    )
    observations = ObsLayout.of(env_id, stepper.single_observation_space)
    stepper.close()
    return observations, layout


def test_a2c_agrees_over_20_steps(tmp_path):
    states = []
    for engine in ENGINES:
        config = TrainConfig(
            "CartPole-v1",
            algorithm="a2c",
            engine=engine,
            out=tmp_path / engine,
            num_envs=16,
            num_steps=8,
            total_steps=128 * 20,
            eval_episodes=0,
        )
        states.append(read_checkpoint(ppo_fast.train(config).out)["learner"])
    ours, theirs = states
    assert ours["optimizer"]["state"][0]["step"] == 20
    for name, p in ours["model"].items():
        torch.testing.assert_close(p, theirs["model"][name], rtol=0, atol=1e-4)


@pytest.mark.parametrize("family", POLICIES)
def test_what_an_update_reports_agrees(family):
    fields, layout = POLICIES[family]
    metrics = []
    for engine in ENGINES:
        config = make_config(engine=engine, num_epochs=3, learning_rate=1e-2, **fields)
        learner = make_learner(config, obs_rows(), layout)
        rollout = play(learner, make_rollout(config, layout))
        learner.keep_old_policy(rollout)
        metrics.append(make_algorithm(config).update(learner, rollout, at(config)))
    ours, theirs = metrics
    assert ours.keys() == theirs.keys()
    for name, value in theirs.items():
        np.testing.assert_allclose(ours[name], value, rtol=1e-3, atol=1e-5, err_msg=name)


# The same memory


def assert_kernels_work_on_what_torch_sees(learner, rollout):
    before, moments = parameters(learner), adam_of(learner)
    obs = rollout.obs[0]
    values = learner.values(obs)
    learn(learner, rollout)
    after, moved = parameters(learner), adam_of(learner)
    assert changed(before, after) == before.keys()
    for name in ("exp_avg", "exp_avg_sq"):
        assert not torch.equal(moments[name], moved[name]), name
    assert moved["step"] == moments["step"] + 4
    with torch.no_grad():
        expected = learner.model.values(torch.from_numpy(obs)).numpy()
    np.testing.assert_allclose(learner.values(obs), expected, rtol=1e-5, atol=1e-5)
    assert (learner.values(obs) != values).any()
    # And what torch changes, the kernels see.
    with torch.no_grad():
        learner.model.critic[-1].bias.add_(1.0)
    np.testing.assert_allclose(learner.values(obs), expected + 1, rtol=1e-5, atol=1e-5)


def adam_of(learner):
    """A copy of Adam's state, zeros before its first step."""
    state = copy.deepcopy(learner.state()["optimizer"]["state"])
    if not state:
        zeros = torch.zeros(sum(p.numel() for p in learner.model.parameters()))
        return {"step": torch.tensor(0.0), "exp_avg": zeros, "exp_avg_sq": zeros}
    return state[0]


@pytest.mark.parametrize("saved_by", ENGINES)
@pytest.mark.parametrize("steps", [0, 2])
def test_kernels_follow_load_state(steps, saved_by):
    source, layout = learner_of(saved_by, "gaussian", seed=5)
    learn(source, rollout_of(source, layout), steps)
    learner, _ = learner_of("native", "gaussian")
    learn(learner, rollout_of(learner, layout))
    learner.load_state(copy.deepcopy(source.state()))
    assert changed(parameters(source), parameters(learner)) == set()
    assert adam_of(learner)["step"] == 4 * steps
    assert_kernels_work_on_what_torch_sees(learner, rollout_of(learner, layout))


@pytest.mark.parametrize("steps", [0, 2])
def test_kernels_follow_undo(steps):
    learner, layout = learner_of("native", "gaussian")
    rollout = rollout_of(learner, layout)
    learn(learner, rollout, steps)
    learner.keep_old_policy(rollout)
    before, moments = parameters(learner), adam_of(learner)
    learn(learner, rollout, 3)
    learner.undo()
    assert changed(before, parameters(learner)) == set()
    assert differences(moments, adam_of(learner)) == []
    assert_kernels_work_on_what_torch_sees(learner, rollout)


def test_torch_s_own_load_state_dict_of_the_model():
    # In place, so that the flat parameter stays what it was.
    learner, layout = learner_of("native")
    other, _ = learner_of("native", seed=5)
    learner.model.load_state_dict(other.model.state_dict())
    assert_kernels_work_on_what_torch_sees(learner, rollout_of(learner, layout))


def state_of(engine):
    learner, layout = learner_of(engine, "squashed", normalize_obs=True)
    rollout = rollout_of(learner, layout)
    learn(learner, rollout, 2)
    learner.observe(rollout)
    return learner.state(), layout


@pytest.mark.parametrize("engine", ENGINES)
def test_a_state_changes_engine_and_back_without_a_bit_lost(engine):
    state, _ = state_of(engine)
    there, _ = learner_of(OTHER[engine], "squashed", normalize_obs=True, seed=8)
    there.load_state(copy.deepcopy(state))
    back, _ = learner_of(engine, "squashed", normalize_obs=True, seed=9)
    back.load_state(copy.deepcopy(there.state()))
    assert differences(state_dicts(back.state()), state_dicts(state)) == []


def state_dicts(state):
    return {name: dict(x) for name, x in state.items()}


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_go_on_from_each_other_s_state_alike(engine):
    state, layout = state_of(engine)
    learners = []
    for each in ENGINES:
        learner, _ = learner_of(each, "squashed", normalize_obs=True, seed=8)
        learner.load_state(copy.deepcopy(state))
        learners.append(learner)
    ours, theirs = learners
    rollout = rollout_of(ours, layout)
    theirs.keep_old_policy(rollout)
    for learner in learners:
        learn(learner, rollout, 2)
    expected = parameters(theirs)
    for name, p in parameters(ours).items():
        torch.testing.assert_close(p, expected[name], rtol=0, atol=1e-5)


# Changing engine at resume


class Stop(BaseException):
    """Not an Exception, after which a run would be saved."""


def stopped(config, updates):
    """A run that ends after so many updates and one, as if killed: the last one is not saved."""

    def stop(row):
        if row["update"] > updates:
            raise Stop

    with pytest.raises(Stop):
        ppo_fast.train(dataclasses.replace(config, checkpoint_seconds=0.0), on_update=stop)
    assert read_checkpoint(config.out)["updates"] == updates


CHANGES = {"num_epochs": 2, "total_steps": 512 * 6}
NORMALIZED = {"normalize_obs": True, "normalize_rewards": True}


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("env_id", "changes"),
    [
        ("CartPole-v1", {"algorithm": "ppo-kl"}),
        ("Pendulum-v1", NORMALIZED),
    ],
)
def test_a_run_changes_engine_at_resume(env_id, changes, engine, tmp_path):
    config = config_of(env_id, tmp_path / "run", engine, **CHANGES, **changes)
    stopped(config, 2)
    before, rows = read_checkpoint(config.out), read_numbers(config.out)[:2]
    result = ppo_fast.train(resume=config.out, engine=OTHER[engine])
    after = read_checkpoint(config.out)
    # No field was lost on the way.
    assert before.keys() == after.keys()
    assert before["learner"].keys() == after["learner"].keys()
    assert before["config"] | {"engine": OTHER[engine]} == after["config"]
    assert after["learner"]["optimizer"]["state"][0]["step"] == 6 * 2 * 4
    assert after["steps"] == config.total_steps
    assert result.config.engine == OTHER[engine]
    summary = json.loads((config.out / "summary.json").read_text())
    assert summary["engine"] == OTHER[engine]
    np.testing.assert_equal(read_numbers(config.out)[:2], rows)
    # The next update is nearly that of the run which stays with its engine.
    whole = ppo_fast.train(dataclasses.replace(config, out=tmp_path / "whole"))
    for name in ("value_loss", "entropy", "kl", "episodes", "return_sum"):
        ours, theirs = (metrics[name][2] for metrics in (result.metrics, whole.metrics))
        assert ours == pytest.approx(theirs, rel=1e-3, abs=1e-5), name


@pytest.mark.parametrize("engine", ENGINES)
def test_resume_keeps_the_engine_of_the_run(engine, tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", engine, **CHANGES)
    stopped(config, 2)
    result = ppo_fast.train(resume=config.out)
    assert result.config.engine == engine
    assert json.loads((config.out / "summary.json").read_text())["engine"] == engine


def test_a_new_run_takes_its_engine_from_the_config(tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", "auto")
    with pytest.raises(TypeError, match=r"engine belongs to resume; a new run has config\.engine"):
        ppo_fast.train(config, engine="torch")
    assert not config.out.exists()


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("env_id", "changes"),
    [
        ("CartPole-v1", {}),
        ("Pendulum-v1", {"continuous": "squashed", "normalize_obs": True}),
    ],
)
def test_a_loaded_policy_predicts_as_the_live_one(env_id, changes, engine, tmp_path):
    result = ppo_fast.train(config_of(env_id, tmp_path / "run", engine, **changes))
    content = torch.load(result.out / CHECKPOINT, weights_only=True)
    live, loaded = result.policy, ppo_fast.load(result.out)
    obs = np.random.default_rng(0).normal(size=(100, live.observations.size)).astype(np.float32)
    np.testing.assert_array_equal(loaded.predict(obs), live.predict(obs))
    draws = [policy.predict(obs, deterministic=False) for policy in (loaded, live)]
    np.testing.assert_array_equal(*draws)
    # By the other engine, too.
    content["config"]["engine"] = OTHER[engine]
    torch.save(content, result.out / CHECKPOINT)
    other = ppo_fast.load(result.out)
    np.testing.assert_allclose(other.predict(obs), live.predict(obs), rtol=1e-4, atol=1e-5)


# Which engine a run takes


TORCH_ONLY = [
    ("CartPole-v1", {"algorithm": "reinforce"}, "reinforce learns a policy without its critic"),
    ("CartPole-v1", {"algorithm": "trpo"}, "trpo needs products with the Fisher matrix"),
]


def tiny_config(env_id, out, engine="auto", **changes):
    settings = {"num_envs": 4, "num_steps": 16, "total_steps": 64, "minibatch_size": 64}
    return TrainConfig(env_id, out=out, engine=engine, eval_episodes=0, **(settings | changes))


def engine_named(out):
    return json.loads((out / "summary.json").read_text())["engine"]


@pytest.mark.parametrize("num_envs", [1, 4])
@pytest.mark.parametrize("algorithm", ["ppo-clip", "ppo-kl", "ppo-unclipped", "a2c"])
@pytest.mark.parametrize("kind", ["native", "foreign", "native continuous"])
def test_auto_is_native(kind, algorithm, num_envs, foreign_env, tmp_path, capsys):
    env_id = {"native": "CartPole-v1", "foreign": foreign_env, "native continuous": "Pendulum-v1"}
    config = tiny_config(
        env_id[kind],
        tmp_path / "run",
        algorithm=algorithm,
        num_envs=num_envs,
        minibatch_size=16,
    )
    result = ppo_fast.train(config, progress=True)
    assert engine_named(result.out) == "native"
    assert "trains on torch" not in capsys.readouterr().out


@pytest.mark.parametrize("kind", ["choices", "bits"])
def test_auto_is_native_for_several_choices_at_once(kind, tiny, tmp_path):
    assert engine_named(ppo_fast.train(tiny_config(tiny[kind], tmp_path / "run")).out) == "native"


@pytest.mark.parametrize(("env_id", "changes", "reason"), TORCH_ONLY)
def test_auto_is_torch_and_says_why(env_id, changes, reason, tmp_path, capsys):
    result = ppo_fast.train(tiny_config(env_id, tmp_path / "run", **changes), progress=True)
    assert engine_named(result.out) == "torch"
    lines = capsys.readouterr().out.splitlines()
    said = [line for line in lines if line.startswith("trains on torch")]
    assert len(said) == 1
    assert said[0].startswith(f"trains on torch, not on the native engine: {reason}")


@pytest.mark.parametrize(("env_id", "changes", "reason"), TORCH_ONLY)
def test_engine_torch_is_not_explained(env_id, changes, reason, tmp_path, capsys):
    config = tiny_config(env_id, tmp_path / "run", "torch", **changes)
    assert engine_named(ppo_fast.train(config, progress=True).out) == "torch"
    assert "trains on torch" not in capsys.readouterr().out


@pytest.mark.parametrize(("env_id", "changes", "reason"), TORCH_ONLY)
def test_engine_native_where_it_cannot_is_one_line(env_id, changes, reason, tmp_path):
    config = tiny_config(env_id, tmp_path / "run", "native", **changes)
    with pytest.raises(ValueError, match=f"^engine native cannot train this: {reason}") as error:
        ppo_fast.train(config)
    assert len(str(error.value).splitlines()) == 1
    assert "choose engine auto" in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_resume_refuses_an_engine_that_cannot(tmp_path):
    config = tiny_config("CartPole-v1", tmp_path / "run", algorithm="trpo", total_steps=640)
    stopped(config, 2)
    before = {path.name: path.read_bytes() for path in config.out.iterdir()}
    with pytest.raises(ValueError, match="engine native cannot train this: trpo"):
        ppo_fast.train(resume=config.out, engine="native")
    assert {path.name: path.read_bytes() for path in config.out.iterdir()} == before


@pytest.mark.parametrize("family", POLICIES)
def test_auto_is_native_for_every_distribution(family):
    assert learner_of("auto", family)[0].engine == "native"


def test_settings_of_continuous_actions_do_not_matter_elsewhere():
    config = make_config(continuous="gsde", engine="native")
    assert make_learner(config, obs_rows(), discrete()).engine == "native"
