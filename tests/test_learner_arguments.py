"""_core.Learner refuses wrong arguments by name and is never brought down by them."""

import re
import subprocess
import sys

import numpy as np
import pytest

import ppo_fast
from ppo_fast import _core
from ppo_fast.surrogate import loss_settings

OBS_SIZE = 3
HIDDEN = 8
NUM_ACTIONS = 3
SAMPLES = 130

# (inputs, outputs, place of the weights, of the bias), one after the other.
_TRUNK = (OBS_SIZE, HIDDEN, 0, 24)
_POLICY = (HIDDEN, NUM_ACTIONS, 32, 56)
_VALUE = (HIDDEN, 1, 59, 67)
PARAMETERS = 68
FORM = {
    "parts": [(OBS_SIZE, [_TRUNK], [(_POLICY, 0), (_VALUE, 1)])],
    "activation": _core.Activation.tanh,
    "family": _core.Family.categorical,
    "dims": NUM_ACTIONS,
    "components": 1,
    "sizes": [],
    "log_std": _core.LogStd.none,
    "log_std_place": 0,
    "first_log_std": 0.0,
    "sample_freq": 1,
}
GAUSSIAN = {"family": _core.Family.gaussian, "log_std": _core.LogStd.parameter}
COLUMNS = ("actions", "logp", "advantages", "returns", "old_values", "old_first", "old_log_std")
STEP = {
    "minibatch_size": 64,
    "learning_rate": 1e-3,
    "max_grad_norm": None,
    "stop_kl": None,
    "stop_on": 3,
    "steps_taken": 0.0,
    "threads": 1,
}


def floats(*shape):
    return np.zeros(shape, np.float32)


def memory(size=PARAMETERS):
    """parameters, gradient and the moments of Adam."""
    rng = np.random.default_rng(0)
    return [rng.normal(size=size).astype(np.float32), *(floats(size) for _ in range(3))]


def make(linked=True, **changes):
    learner = _core.Learner(**(FORM | changes))
    if linked:
        learner.link(*memory())
    return learner


def obs():
    return np.random.default_rng(1).normal(size=(SAMPLES, OBS_SIZE)).astype(np.float32)


def act(learner, **changes):
    arguments = {
        "obs": obs(),
        "actions": np.zeros(SAMPLES, np.int64),
        "logp": floats(SAMPLES),
        "seed": 0,
        "step": 0,
        "deterministic": False,
        "threads": 1,
    }
    return learner.act(**(arguments | changes))


def columns(**changes):
    arrays = {
        "actions": np.zeros(SAMPLES, np.int64),
        "logp": floats(SAMPLES),
        "advantages": floats(SAMPLES),
        "returns": floats(SAMPLES),
        "old_values": floats(SAMPLES),
        "old_first": floats(SAMPLES, NUM_ACTIONS),
        "old_log_std": None,
    }
    assert tuple(arrays) == COLUMNS
    return tuple((arrays | changes).values())


def settings(**changes):
    loss = {"objective": "clipped", "clip_range": 0.2, "entropy_coef": 0.0, "value_coef": 0.5}
    return loss_settings(**(loss | changes))


def step(**changes):
    return tuple((STEP | changes).values())


def epoch(learner, **changes):
    arguments = {
        "obs": obs(),
        "order": np.arange(SAMPLES),
        "columns": columns(),
        "settings": settings(),
        "step": step(),
    }
    return learner.epoch(**(arguments | changes))


def read_only(array):
    array.flags.writeable = False
    return array


def test_right_arguments():
    learner = make()
    assert learner.values(obs(), 1).shape == (SAMPLES,)
    logits, log_std = learner.policy(obs(), 1)
    assert (logits.shape, log_std) == ((SAMPLES, NUM_ACTIONS), None)
    assert act(learner) == -1
    stats, steps, stopped, failure = epoch(learner)
    assert stats.shape == (3, len(_core.LOSS_STATS))
    assert (steps, stopped, failure) == (3, False, "")


def test_inputs_may_be_read_only():
    locked = columns(
        actions=read_only(np.zeros(SAMPLES, np.int64)), logp=read_only(floats(SAMPLES))
    )
    _, steps, _, failure = epoch(make(), obs=read_only(obs()), columns=locked)
    assert (steps, failure) == (3, "")


@pytest.mark.parametrize("name", ["activation", "family", "log_std"])
@pytest.mark.parametrize("value", [0, 9, "none", _core.LOSS_STATS])
def test_numbers_and_names_are_no_kinds(name, value):
    with pytest.raises(TypeError, match="incompatible constructor arguments"):
        make(**{name: value})


def test_relu_of_an_infinity():
    learner = make(False, activation=_core.Activation.relu)
    arrays = memory()
    arrays[0][:24] = -3e38  # the products overflow: all hidden units are at -inf or +inf
    arrays[0][59:67] = 0
    learner.link(*arrays)
    x = np.array([[3, 3, 3]], np.float32)
    bias = arrays[0][67]
    np.testing.assert_array_equal(learner.values(x, 1), [bias])
    assert np.isnan(learner.values(np.array([[np.nan, 0, 0]], np.float32), 1)).all()


def test_no_samples():
    learner = make()
    assert learner.values(obs()[:0], 1).shape == (0,)
    assert learner.policy(obs()[:0], 1)[0].shape == (0, NUM_ACTIONS)
    stats, steps, _, _ = epoch(learner, order=np.arange(0))
    assert (len(stats), steps) == (0, 0)


@pytest.mark.parametrize("threads", [1, 3, 1000])
def test_any_number_of_threads(threads):
    np.testing.assert_array_equal(make().values(obs(), threads), make().values(obs(), 1))


@pytest.mark.parametrize("size", [SAMPLES + 1, 10**18])
def test_a_minibatch_of_more_than_all_samples(size):
    stats, steps, _, _ = epoch(make(), step=step(minibatch_size=size))
    assert (len(stats), steps) == (1, 1)


def test_the_learner_holds_on_to_its_memory():
    learner = _core.Learner(**FORM)
    arrays = memory()
    learner.link(*arrays)
    expected = learner.values(obs(), 1)
    del arrays
    for _ in range(100):
        memory()
    np.testing.assert_array_equal(learner.values(obs(), 1), expected)


REFUSED = {
    "link: lengths": (
        lambda: make(False).link(*memory()[:3], floats(PARAMETERS + 1)),
        ValueError,
        r"link: exp_avg_sq must have shape \(68,\), got \(69,\)",
    ),
    "link: two axes": (
        lambda: make(False).link(memory()[0][None], *memory()[1:]),
        ValueError,
        r"link: parameters must have shape \(68,\), got \(1, 68\)",
    ),
    "link: float64": (
        lambda: make(False).link(memory()[0].astype(float), *memory()[1:]),
        TypeError,
        "link: parameters must be float32 .*, got float64",
    ),
    "link: read-only": (
        lambda: make(False).link(memory()[0], read_only(floats(PARAMETERS)), *memory()[2:]),
        ValueError,
        "link: gradient must be writable, got a read-only array",
    ),
    "link: not contiguous": (
        lambda: make(False).link(floats(2 * PARAMETERS)[::2], *memory()[1:]),
        ValueError,
        "link: parameters must be contiguous",
    ),
    "values: width": (
        lambda: make().values(floats(5, 4), 1),
        ValueError,
        r"values: obs must have shape \(5, 3\), got \(5, 4\)",
    ),
    "values: one axis": (lambda: make().values(floats(3), 1), ValueError, "values: obs must have"),
    "values: float64": (
        lambda: make().values(np.zeros((5, 3)), 1),
        TypeError,
        r"values: obs must be float32 .*, got float64; cast with obs.astype\(np.float32\)",
    ),
    "policy: not contiguous": (
        lambda: make().policy(np.asfortranarray(obs()), 1),
        ValueError,
        "policy: obs must be contiguous",
    ),
    "act: width": (
        lambda: act(make(), obs=floats(SAMPLES, 2)),
        ValueError,
        r"act: obs must have shape \(130, 3\), got \(130, 2\)",
    ),
    "act: dtype of actions": (
        lambda: act(make(), actions=floats(SAMPLES)),
        TypeError,
        "act: actions must be int64 .*, got float32",
    ),
    "act: too few actions": (
        lambda: act(make(), actions=np.zeros(SAMPLES - 1, np.int64)),
        ValueError,
        r"act: actions must be contiguous with 130 elements, got \(129,\)",
    ),
    "act: actions apart": (
        lambda: act(make(), actions=np.zeros(2 * SAMPLES, np.int64)[::2]),
        ValueError,
        "act: actions must be contiguous",
    ),
    "act: too few logp": (
        lambda: act(make(), logp=floats(SAMPLES - 1)),
        ValueError,
        r"act: logp must have shape \(130,\), got \(129,\)",
    ),
    "act: read-only logp": (
        lambda: act(make(), logp=read_only(floats(SAMPLES))),
        ValueError,
        "act: logp must be writable",
    ),
    "epoch: order too high": (
        lambda: epoch(make(), order=np.arange(SAMPLES) + 1),
        ValueError,
        "epoch: order must be within the samples, got 130",
    ),
    "epoch: order below 0": (
        lambda: epoch(make(), order=np.arange(SAMPLES) - 1),
        ValueError,
        "epoch: order must be within the samples, got -1",
    ),
    "epoch: order of int32": (
        lambda: epoch(make(), order=np.arange(SAMPLES, dtype=np.int32)),
        TypeError,
        "epoch: order must be int64 .*, got int32",
    ),
    "epoch: order not contiguous": (
        lambda: epoch(make(), order=np.arange(SAMPLES)[::2]),
        ValueError,
        "epoch: order must be contiguous",
    ),
    "epoch: minibatch 0": (
        lambda: epoch(make(), step=step(minibatch_size=0)),
        ValueError,
        "epoch: minibatch_size must be positive",
    ),
    "epoch: minibatch -1": (
        lambda: epoch(make(), step=step(minibatch_size=-1)),
        ValueError,
        "epoch: minibatch_size must be positive",
    ),
    "epoch: learning rate": (
        lambda: epoch(make(), step=step(learning_rate="fast")),
        TypeError,
        "epoch: learning_rate must be a number, got str",
    ),
    "epoch: objective": (
        lambda: epoch(make(), settings=("none", *settings()[1:])),
        ValueError,
        "epoch: objective must be policy_gradient, importance or clipped, got none",
    ),
    "epoch: no actions": (
        lambda: epoch(make(), columns=columns(actions=None)),
        TypeError,
        "epoch: actions is missing, got None",
    ),
    "epoch: float64": (
        lambda: epoch(make(), columns=columns(advantages=np.zeros(SAMPLES))),
        TypeError,
        "epoch: advantages must be float32 .*, got float64",
    ),
    "epoch: too few returns": (
        lambda: epoch(make(), columns=columns(returns=floats(SAMPLES - 1))),
        ValueError,
        r"epoch: returns must have shape \(130,\), got \(129,\)",
    ),
    "epoch: old policy": (
        lambda: epoch(make(), columns=columns(old_first=floats(SAMPLES, 2))),
        ValueError,
        r"epoch: old policy must have shape \(130, 3\), got \(130, 2\)",
    ),
    "collect: another environment": (
        lambda: make().collect(acrobot(), (floats(1, 1),) * 7, 0, 0, None, None, 1),
        ValueError,
        "collect: the environment is not one of this network's",
    ),
}


def acrobot():
    env = ppo_fast.make_vec("Acrobot-v1", 2)
    env.reset(seed=0)
    return env.native


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments(name):
    call, error, message = REFUSED[name]
    with pytest.raises(error, match=f"^{message}"):
        call()


@pytest.mark.parametrize("action", [-1, NUM_ACTIONS, 2**62])
def test_an_action_out_of_range_is_a_failure(action):
    before = memory()
    learner = make(False)
    learner.link(*before)
    parameters = before[0].copy()
    _, steps, _, failure = epoch(learner, columns=columns(actions=np.full(SAMPLES, action)))
    assert (steps, failure) == (0, "action")
    np.testing.assert_array_equal(before[0], parameters)


# Calls that would bring down the interpreter: a process for each.
CRASHED = {
    "values before link": ("make(False).values(obs(), 1)", "link"),
    "policy before link": ("make(False).policy(obs(), 1)", "link"),
    "act before link": ("act(make(False))", "link"),
    "epoch before link": ("epoch(make(False))", "link"),
    "collect before link": (
        "collect(make(False, parts=[(3, [_TRUNK], [((8, 1, 32, 40), 0), (_VALUE, 1)])], "
        "**GAUSSIAN, dims=1, log_std_place=41))",
        "link",
    ),
    "link: too few": ("make(False).link(*memory(3))", "link: parameters"),
    "link: none": ("make(False).link(*memory(0))", "link: parameters"),
    "weights outside": (
        "make(parts=[(3, [(3, 8, 10**9, 24)], [(_POLICY, 0), (_VALUE, 1)])]).values(obs(), 1)",
        "parameters",
    ),
}

# What would do so, read memory that is nobody's, or be silently taken for something else.
CRASHES = {
    "no threads": ("make().values(obs(), 0)", "threads"),
    "fewer threads than none": ("epoch(make(), step=step(threads=-1))", "threads"),
    "stop_on too high": ("epoch(make(), step=step(stop_on=10**7, stop_kl=0.1))", "stop_on"),
    "stop_on below 0": ("epoch(make(), step=step(stop_on=-1, stop_kl=0.1))", "stop_on"),
    "no logp": ("epoch(make(), columns=columns(logp=None))", "logp"),
    "no advantages": ("epoch(make(), columns=columns(advantages=None))", "advantages"),
    "no returns": ("epoch(make(), columns=columns(returns=None))", "returns"),
    "no old values": (
        "epoch(make(), columns=columns(old_values=None), settings=settings(clip_range_values=.1))",
        "old_values",
    ),
    "no old policy": (
        "epoch(make(), columns=columns(old_first=None), settings=settings(kl_coef=1.0))",
        "old",
    ),
    "few columns": ("epoch(make(), columns=columns()[:3])", "columns"),
    "few steps": ("epoch(make(), step=step()[:3])", "step"),
    "few settings": ("epoch(make(), settings=settings()[:3])", "settings"),
    "half a minibatch": ("epoch(make(), step=step(minibatch_size=1.5))", "minibatch_size"),
    "read-only actions": ("act(make(), actions=read_only(np.zeros(SAMPLES, np.int64)))", "actions"),
    "a part without a head": (
        "make(parts=[(3, [_TRUNK], [(_POLICY, 0), (_VALUE, 1)]), (3, [_TRUNK], [])])",
        "parts",
    ),
    "no parts": ("make(parts=[]).values(obs(), 1)", "parts"),
    "an output that is none": (
        "make(parts=[(3, [_TRUNK], [(_POLICY, 7), (_VALUE, 1)])]).values(obs(), 1)",
        "parts",
    ),
    "more dims than the head has": ("make(dims=900).policy(obs(), 1)", "dims"),
    "more choices than the head has": (
        "act(make(sizes=[90, 90], components=2), actions=np.zeros((SAMPLES, 2), np.int64))",
        "sizes",
    ),
    "log_std outside": (
        "act(make(**GAUSSIAN, components=3, log_std_place=10**9), actions=floats(SAMPLES, 3))",
        "parameters",
    ),
}


def collect(learner):
    """Four steps of two environments whose observations and actions are the learner's."""
    env = ppo_fast.make_vec("Pendulum-v1", 2)  # three observations
    env.reset(seed=0)
    arrays = (
        floats(5, 2, OBS_SIZE),
        floats(4, 2),
        *(floats(4, 2) for _ in range(2)),
        *(np.zeros((4, 2), np.bool_) for _ in range(2)),
        floats(4, 2, OBS_SIZE),
    )
    return learner.collect(env.native, arrays, 0, 0, (floats(1), floats(1), False), None, 1)


def run(call):
    """A call in an interpreter of its own, with all names of this file."""
    script = f"import runpy; globals().update(runpy.run_path({__file__!r})); {call}"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)


@pytest.mark.parametrize("name", [*CRASHED, *CRASHES])
def test_what_would_crash_is_refused(name):
    call, word = (CRASHED | CRASHES)[name]
    done = run(call)
    assert done.returncode == 1, done
    last = done.stderr.splitlines()[-1]
    assert re.search(rf"^(ValueError|TypeError|RuntimeError): .*{word}", last), last


def test_the_largest_minibatch():
    done = run("print(len(epoch(make(), step=step(minibatch_size=2**63 - 1))[0]))")
    assert (done.returncode, done.stdout) == (0, "1\n"), done
