"""TrainConfig: documented fields, presets, JSON, and an error that names what is wrong."""

import ast
import dataclasses
import inspect
import json
import math
from pathlib import Path
from typing import get_args, get_type_hints

import numpy as np
import pytest

from ppo_fast import TrainConfig, presets
from ppo_fast.config import ALGORITHMS_OF

ENV = "CartPole-v1"
DEFAULTS = {
    field.name: field.default
    for field in dataclasses.fields(TrainConfig)
    if field.default is not dataclasses.MISSING
} | {"env_kwargs": {}}


def field_docstrings():
    """Field name -> the string below it in the source."""
    (class_,) = ast.parse(inspect.getsource(TrainConfig)).body
    docstrings = {}
    for statement, following in zip(class_.body, class_.body[1:], strict=False):
        if isinstance(statement, ast.AnnAssign):
            is_string = isinstance(following, ast.Expr) and isinstance(
                following.value, ast.Constant
            )
            docstrings[statement.target.id] = following.value.value if is_string else None
    return docstrings


@pytest.mark.parametrize("name", [field.name for field in dataclasses.fields(TrainConfig)])
def test_every_field_has_a_docstring(name):
    # The command line shows them as help.
    text = field_docstrings()[name]
    assert text, f"TrainConfig.{name} has no docstring"
    assert text[0] != " "
    assert text.endswith(".")


def test_plain_config_has_no_preset():
    assert dataclasses.asdict(TrainConfig(ENV)) == {"env_id": ENV, **DEFAULTS}


def test_preset_differs_from_the_defaults():
    config = TrainConfig.preset(ENV)
    assert config.env_id == ENV
    assert config.num_envs == 32 != DEFAULTS["num_envs"]
    assert config.target_return == 475.0
    # What a preset does not name is the default.
    assert config.value_coef == DEFAULTS["value_coef"]
    assert config.seed == DEFAULTS["seed"]


def test_preset_of_the_namespaced_id():
    config = TrainConfig.preset("ppo_fast/CartPole-v1")
    assert config == dataclasses.replace(TrainConfig.preset(ENV), env_id="ppo_fast/CartPole-v1")


def test_preset_without_own_settings_is_the_defaults():
    assert TrainConfig.preset("Taxi-v3") == TrainConfig("Taxi-v3")
    # Settings of the algorithm hold on any environment.
    assert TrainConfig.preset("Taxi-v3", algorithm="a2c").num_steps == 16


def test_preset_takes_changes():
    config = TrainConfig.preset(ENV, seed=7, num_envs=64, out="runs/x")
    assert (config.seed, config.num_envs, config.out) == (7, 64, Path("runs/x"))
    assert config.learning_rate == TrainConfig.preset(ENV).learning_rate


def test_preset_refuses_unknown_names():
    with pytest.raises(TypeError, match=r"TrainConfig has no field gama, num_env$"):
        TrainConfig.preset(ENV, num_env=3, gama=0.9)
    with pytest.raises(ValueError, match=r"algorithm must be one of .*, ppo-clip, got 'ppo'"):
        TrainConfig.preset(ENV, algorithm="ppo")


@pytest.mark.parametrize(
    "algorithm", ["reinforce", "a2c", "ppo-unclipped", "trpo", "ppo-kl", "ppo-clip"]
)
def test_every_algorithm_has_a_preset_for_cartpole(algorithm):
    assert (ENV, algorithm) in presets.presets()
    # And works where nothing was tuned.
    assert TrainConfig.preset("Acrobot-v1", algorithm=algorithm).algorithm == algorithm


@pytest.mark.parametrize(("env_id", "algorithm"), presets._PRESETS)
def test_every_preset_is_a_valid_config(env_id, algorithm):
    config = TrainConfig.preset(env_id, algorithm=algorithm)
    assert config.algorithm == algorithm
    assert config != TrainConfig(env_id, algorithm=algorithm)


def test_preset_fields_are_a_copy():
    presets.preset_fields(ENV, "ppo-clip")["seed"] = 99
    assert TrainConfig.preset(ENV).seed == 0


def test_config_is_frozen():
    config = TrainConfig(ENV)
    with pytest.raises(dataclasses.FrozenInstanceError):
        config.seed = 1
    # A change is checked like a new config.
    with pytest.raises(ValueError, match="seed must be at least 0"):
        dataclasses.replace(config, seed=-1)


def test_lists_and_strings_become_tuples_and_paths():
    config = TrainConfig(ENV, hidden_sizes=[32, 16], out="runs/a")
    assert config.hidden_sizes == (32, 16)
    assert config.out == Path("runs/a")
    assert hash(config) == hash(TrainConfig(ENV, hidden_sizes=(32, 16), out=Path("runs/a")))


@pytest.mark.parametrize(
    ("total_steps", "rollouts"),
    # The last one is no float: divided as one, it lost its last digits.
    [(1, 1), (1024, 1), (1025, 2), (10_000, 10), (2**63 - 2047, 2**53 - 1)],
)
def test_steps_are_rounded_up_to_whole_rollouts(total_steps, rollouts):
    config = TrainConfig(ENV, num_envs=8, num_steps=128, total_steps=total_steps)
    assert config.batch_size == 1024
    assert config.rounded_steps == 1024 * rollouts


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(ENV),
        TrainConfig.preset(ENV),
        TrainConfig(
            ENV,
            hidden_sizes=(3,),
            out="runs/a",
            max_grad_norm=None,
            target_kl=0.02,
            num_threads=2,
            learning_rate=1 / 3,
            seed=2**64 - 1,
        ),
        TrainConfig(ENV, hidden_sizes=()),
    ],
)
def test_json_round_trip(config):
    text = json.dumps(config.to_json())
    assert TrainConfig.from_json(json.loads(text)) == config


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({}, "env_id"),
        ({"env_id": ENV, "colour": "red"}, "colour"),
        ({"env_id": ENV, "num_envs": 2.5}, "num_envs must be an integer"),
        ({"env_id": ENV, "gamma": 2}, r"gamma must be in \[0, 1\]"),
        ({"env_id": ENV, "gamma": "high"}, "gamma"),
        ([], "not the fields of a TrainConfig"),
    ],
)
def test_other_json_is_a_value_error(fields, message):
    with pytest.raises(ValueError, match=message):
        TrainConfig.from_json(fields)


AT_LEAST_1 = (
    "total_steps",
    "num_envs",
    "num_steps",
    "num_epochs",
    "minibatch_size",
    "cg_steps",
    "line_search_steps",
    "noise_steps",
)
INTEGERS = (*AT_LEAST_1, "torch_threads", "seed", "eval_episodes", "num_threads")


@pytest.mark.parametrize("name", [*AT_LEAST_1, "torch_threads", "num_threads"])
@pytest.mark.parametrize("value", [0, -5])
def test_counts_are_at_least_one(name, value):
    with pytest.raises(ValueError, match=f"^TrainConfig: {name} must be at least 1, got {value}$"):
        TrainConfig(ENV, **{name: value})


@pytest.mark.parametrize("name", INTEGERS)
@pytest.mark.parametrize("value", [8.0, "8", True, math.nan])
def test_counts_are_integers(name, value):
    with pytest.raises(TypeError, match=f"^TrainConfig: {name} must be an integer, got {value!r}$"):
        TrainConfig(ENV, **{name: value})


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        (
            "algorithm",
            "a3c",
            "must be one of reinforce, a2c, ppo-unclipped, trpo, ppo-kl, ppo-clip, got 'a3c'",
        ),
        ("engine", "jax", "must be one of auto, native, torch, got 'jax'"),
        ("activation", "gelu", "must be one of tanh, relu, elu, silu, got 'gelu'"),
        ("device", "gpu", "must be cpu, cuda, or cuda with a number such as cuda:1, got 'gpu'"),
        ("device", "cuda:", "must be cpu, cuda, or cuda with a number such as cuda:1, got 'cuda:'"),
        ("seed", -1, "must be at least 0, got -1"),
        ("seed", 2**64, r"must be below 2\*\*64, got 18446744073709551616"),
        ("eval_episodes", -1, "must be at least 0, got -1"),
        ("total_steps", 2**63, r"must be below 2\*\*63, got 9223372036854775808"),
        ("total_steps", 10**400, r"must be below 2\*\*63, got 10+"),
        ("gamma", 1.01, r"must be in \[0, 1\], got 1.01"),
        ("gamma", -0.01, r"must be in \[0, 1\], got -0.01"),
        ("gamma", math.nan, r"must be in \[0, 1\], got nan"),
        ("gae_lambda", 2, r"must be in \[0, 1\], got 2"),
        ("learning_rate", 0, "must be positive, got 0"),
        ("learning_rate", -1e-3, "must be positive, got -0.001"),
        ("learning_rate", math.nan, "must be positive, got nan"),
        ("clip_range", 0.0, "must be positive, got 0.0"),
        ("entropy_coef", -0.1, "must not be negative, got -0.1"),
        ("entropy_coef", math.nan, "must not be negative, got nan"),
        ("value_coef", -1, "must not be negative, got -1"),
        ("checkpoint_seconds", -1.0, "must not be negative, got -1.0"),
        ("max_grad_norm", 0, "must be positive or None, got 0"),
        ("max_grad_norm", math.nan, "must be positive or None, got nan"),
        ("target_kl", -0.1, "must be positive or None, got -0.1"),
        ("hidden_sizes", (64, 0), r"must be positive integers, got \(64, 0\)"),
        ("hidden_sizes", (-4,), r"must be positive integers, got \(-4,\)"),
        ("hidden_sizes", (6.4,), r"must be positive integers, got \(6.4,\)"),
        ("hidden_sizes", (True,), r"must be positive integers, got \(True,\)"),
        ("hidden_sizes", (np.True_,), r"must be positive integers, got .*True.*"),
        ("credit", "all", "must be one of trajectory, reward_to_go, got 'all'"),
        ("baseline", "median", "must be one of none, mean, critic, got 'median'"),
        ("kl_rule", "slow", "must be one of fixed, adaptive, distributed, got 'slow'"),
        ("normalize_advantages", "all", "must be one of minibatch, batch, none, got 'all'"),
        ("continuous", "beta", "must be one of gaussian, squashed, gsde, got 'beta'"),
        ("kl_target", 0.0, "must be positive, got 0.0"),
        ("trust_region", -1, "must be positive, got -1"),
        ("kl_coef", -0.1, "must not be negative, got -0.1"),
        ("cg_damping", -1e-9, "must not be negative, got -1e-09"),
        ("kl_min", 0, "must be positive or None, got 0"),
        ("kl_max", math.nan, "must be positive or None, got nan"),
        ("clip_range_high", 0, "must be positive or None, got 0"),
        ("clip_range_values", -1, "must be positive or None, got -1"),
        ("dual_clip", 1, "must be above 1 or None, got 1"),
        ("dual_clip", math.inf, "must be above 1 or None, got inf"),
        ("log_std", 3.0, r"must be in \[-20, 2\], got 3.0"),
        ("log_std", math.nan, r"must be in \[-20, 2\], got nan"),
    ],
)
def test_values_outside_their_range(name, value, rule):
    with pytest.raises(ValueError, match=f"^TrainConfig: {name} {rule}$"):
        TrainConfig(ENV, **{name: value})


@pytest.mark.parametrize("name", ["learning_rate", "clip_range", "entropy_coef", "value_coef"])
def test_infinite_weights_are_refused(name):
    with pytest.raises(ValueError, match=f"^TrainConfig: {name} "):
        TrainConfig(ENV, **{name: math.inf})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("env_id", None),
        ("env_id", 3),
        ("gamma", "high"),
        ("gae_lambda", None),
        ("learning_rate", "3e-4"),
        ("clip_range", None),
        ("entropy_coef", None),
        ("value_coef", "1"),
        ("max_grad_norm", "1"),
        ("target_kl", "0.01"),
        ("target_return", "475"),
        ("target_return", math.nan),
        ("checkpoint_seconds", None),
        ("anneal_lr", "no"),
        ("normalize_advantages", True),
        ("normalize_obs", 1),
        ("shared_trunk", None),
        ("log_std", "0"),
        ("dual_clip", "3"),
        ("kl_min", "0"),
        ("hidden_sizes", 64),
        ("hidden_sizes", "64"),
        ("out", 5),
    ],
)
def test_wrong_types_are_refused_by_name(name, value):
    with pytest.raises((TypeError, ValueError), match=f"^TrainConfig: {name} "):
        TrainConfig(**{"env_id": ENV, name: value})


def test_minibatch_larger_than_the_rollout():
    with pytest.raises(
        ValueError,
        match=r"^TrainConfig: minibatch_size \(257\) must not exceed the samples of a rollout, "
        r"num_envs \* num_steps = 4 \* 64 = 256$",
    ):
        TrainConfig(ENV, num_envs=4, num_steps=64, minibatch_size=257)
    assert TrainConfig(ENV, num_envs=4, num_steps=64, minibatch_size=256).minibatch_size == 256


def test_minibatches_of_the_whole_rollout_have_no_size():
    # These two take one step on all samples, whatever the size of minibatches is.
    for algorithm in ("reinforce", "a2c"):
        TrainConfig(ENV, algorithm=algorithm, num_envs=2, num_steps=8, minibatch_size=256)
    for algorithm in ("trpo", "ppo-kl", "ppo-unclipped"):
        with pytest.raises(ValueError, match="minibatch_size"):
            TrainConfig(ENV, algorithm=algorithm, num_envs=2, num_steps=8, minibatch_size=256)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"algorithm": "trpo", "shared_trunk": True}, "trpo needs a policy .*leave out shared_"),
        ({"continuous": "gsde", "state_dependent_std": True}, "gsde .*leave out state_dependent_"),
        ({"kl_rule": "distributed", "target_kl": 0.1}, "distributed ends .*leave out target_kl"),
        ({"kl_min": 0.02, "kl_max": 0.02}, r"kl_min \(0.02\) must be below kl_max \(0.02\)"),
        ({"kl_min": 0.03, "kl_max": 0.02}, r"kl_min \(0.03\) must be below kl_max \(0.02\)"),
        # The other bound is what kl_target makes of it: 0.015, 0.01 / 1.5, 0.02.
        ({"kl_min": 0.016}, "kl_min"),
        ({"kl_max": 0.006}, "kl_max"),
        ({"kl_rule": "distributed", "kl_min": 0.021}, "kl_min"),
    ],
)
def test_settings_that_contradict_each_other(fields, message):
    with pytest.raises(ValueError, match=f"^TrainConfig: .*{message}") as error:
        TrainConfig(ENV, **({"algorithm": "ppo-kl"} | fields))
    assert len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    "fields",
    [
        {"algorithm": "ppo-clip", "shared_trunk": True},
        {"continuous": "squashed", "state_dependent_std": True},
        {"algorithm": "ppo-kl", "kl_min": 0.001},
        {"algorithm": "ppo-kl", "kl_rule": "distributed", "kl_max": 0.006},
        {"algorithm": "ppo-kl", "kl_rule": "adaptive", "target_kl": 0.1},
    ],
)
def test_settings_that_go_together(fields):
    config = TrainConfig(ENV, **fields)
    assert {name: getattr(config, name) for name in fields} == fields


# A value of each option that is not its default.
AWAY = {
    "gae_lambda": 0.5,
    "credit": "trajectory",
    "baseline": "mean",
    "clip_range": 0.3,
    "clip_range_high": 0.3,
    "dual_clip": 3.0,
    "anneal_clip_range": True,
    "kl_rule": "fixed",
    "kl_coef": 0.5,
    "kl_target": 0.02,
    "kl_min": 0.001,
    "kl_max": 0.05,
    "trust_region": 0.02,
    "cg_steps": 5,
    "cg_damping": 0.2,
    "line_search_steps": 5,
    "entropy_coef": 0.02,
    "anneal_entropy_coef": True,
    "clip_range_values": 0.2,
    "target_kl": 0.001,
    "normalize_advantages": "batch",
    "recompute_advantages": True,
}
ALGORITHMS = get_args(get_type_hints(TrainConfig)["algorithm"])


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize("name", ALGORITHMS_OF)
def test_options_of_other_algorithms_are_refused(name, algorithm):
    fields = {"env_id": ENV, "algorithm": algorithm, name: AWAY[name]}
    if algorithm in ALGORITHMS_OF[name]:
        assert getattr(TrainConfig(**fields), name) == AWAY[name]
        return
    words = ", ".join(ALGORITHMS_OF[name])
    with pytest.raises(
        ValueError,
        match=rf"^TrainConfig: {algorithm} does not take {name}, got {AWAY[name]!r}; "
        rf"it is an option of {words}$",
    ):
        TrainConfig(**fields)
    # Its default is no choice of anybody's.
    TrainConfig(**(fields | {name: DEFAULTS[name]}))


@pytest.mark.parametrize("name", ALGORITHMS_OF)
def test_help_names_the_algorithms_of_an_option(name):
    takers = ALGORITHMS_OF[name]
    text = " ".join(field_docstrings()[name].split())
    others = [algorithm for algorithm in ALGORITHMS if algorithm not in takers]
    assert text.startswith(f"{', '.join(takers)}: ") or f"Not for {', '.join(others)}" in text


@pytest.mark.parametrize("algorithm", ALGORITHMS)
def test_old_runs_with_options_of_other_algorithms_can_be_read(algorithm):
    # They had no effect, so the run is the same without them.
    fields = TrainConfig(ENV, algorithm=algorithm).to_json()
    config = TrainConfig.from_json(fields | AWAY)
    for name, takers in ALGORITHMS_OF.items():
        expected = AWAY[name] if algorithm in takers else DEFAULTS[name]
        assert getattr(config, name) == expected
    assert TrainConfig.from_json(config.to_json()) == config


def test_old_runs_with_a_target_kl_that_had_no_effect_can_be_read():
    fields = TrainConfig(ENV, algorithm="ppo-kl", kl_rule="distributed").to_json()
    assert TrainConfig.from_json(fields | {"target_kl": 0.1}).target_kl is None


@pytest.mark.parametrize(
    "limits",
    [
        {"gamma": 0, "gae_lambda": 0},
        {"gamma": 1, "gae_lambda": 1},
        {"seed": 2**64 - 1},
        {"total_steps": 2**63 - 1},
        {"entropy_coef": 0, "value_coef": 0, "checkpoint_seconds": 0},
        {"eval_episodes": 0},
        {"max_grad_norm": None, "target_kl": None, "target_return": None, "num_threads": None},
        {"num_envs": 1, "num_steps": 1, "minibatch_size": 1, "total_steps": 1},
    ],
)
def test_ends_of_the_ranges_are_inside(limits):
    config = TrainConfig(ENV, **limits)
    assert {name: getattr(config, name) for name in limits} == limits


def test_numbers_of_numpy_become_pythons():
    sizes = (np.int64(4), np.uint8(3))
    config = TrainConfig(ENV, num_envs=np.int64(16), gamma=np.float32(0.5), hidden_sizes=sizes)
    assert type(config.num_envs) is int
    assert config.hidden_sizes == (4, 3)
    assert [type(size) for size in config.hidden_sizes] == [int, int]
    assert type(config.gamma) is float
    assert TrainConfig.from_json(json.loads(json.dumps(config.to_json()))) == config
