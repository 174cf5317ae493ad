"""Numbers that are not finite stop a run of either engine by name, after saving what was before;
and calls from several threads, and signals, find a learner that holds.
"""

import math
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
from algorithm_cases import OBS_SIZE, box, discrete, make_config, obs_rows, parameters

import ppo_fast
from ppo_fast import TrainConfig

torch = pytest.importorskip("torch")
pytest.importorskip("tensorboard")
pytest.importorskip("matplotlib")

from learner_cases import LOSSES, assert_same_gradients, prepared  # noqa: E402
from test_training import FAULTY, assert_saved_after, differences, read_checkpoint  # noqa: E402

from ppo_fast.learners import GradientStep, Loss, make_learner  # noqa: E402
from ppo_fast.training import trainer  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

ENGINES = ("native", "torch")


def config_of(env_id, out, engine, **changes):
    settings = {
        "num_envs": 4,
        "num_steps": 32,
        "num_epochs": 2,
        "minibatch_size": 40,  # leaves a last one of 8
        "total_steps": 128 * 6,
        "eval_episodes": 0,
    }
    return TrainConfig(env_id, out=out, engine=engine, **(settings | changes))


@pytest.mark.parametrize("num_envs", [1, 2])
@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("what", ["observations", "rewards"])
def test_environments_that_give_what_is_not_finite(what, value, engine, num_envs, faulty, tmp_path):
    samples = 24 * num_envs
    config = TrainConfig(
        "tiny/faulty-v0",
        engine=engine,
        out=tmp_path / "run",
        **FAULTY | {"num_envs": num_envs, "total_steps": 10 * samples},
    )
    faulty.fault = (what, 102, value)
    with pytest.raises(RuntimeError) as error:
        ppo_fast.train(config)
    assert str(error.value).startswith(
        f"tiny/faulty-v0 gave {what} that are not finite: {value} from environment "
        f"{num_envs - 1} at step 102 of the run; "
    )
    assert_saved_after(101 // samples, config.out, str(error.value), config, faulty)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_learning_rate_that_is_far_too_large(engine, tmp_path):
    config = config_of("CartPole-v1", tmp_path / "run", engine, learning_rate=1e30)
    with pytest.raises(
        RuntimeError, match="training diverged after 0 updates and 0 steps"
    ) as error:
        ppo_fast.train(config)
    assert "; lower learning_rate; the policy before that is saved in" in str(error.value)
    assert len(str(error.value).splitlines()) == 1
    # As it was before the update, whose first steps had been made.
    fresh = ppo_fast.learners.make_learner(config, obs_rows(4), discrete()).state()["model"]
    saved = read_checkpoint(config.out)["learner"]["model"]
    assert differences(dict(saved), dict(fresh)) == []
    assert ppo_fast.load(config.out).predict(np.zeros(4)) in (0, 1)


def spoil_after(monkeypatch, updates, name, value):
    """A run whose parameter `name` becomes `value` once so many updates are made."""
    iterate = trainer._Run.iterate

    def spoiled(run):
        if run.updates == updates:
            with torch.no_grad():
                dict(run.learner.model.named_parameters())[name].view(-1)[0] = value
        return iterate(run)

    monkeypatch.setattr(trainer._Run, "iterate", spoiled)


# In the words of the native engine, or of torch.
NO_POLICY = (
    r"(the mean and log_std of environment \d make no distribution"
    r"|mean row \d or its log_std holds a NaN)"
)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("actor.head.bias", NO_POLICY),
        ("actor.hidden.0.weight", NO_POLICY),
        ("critic.4.bias", "value_loss (nan|inf)"),
    ],
    ids=["actor's last layer", "actor's first layer", "critic"],
)
def test_a_parameter_that_is_not_finite(name, words, value, engine, monkeypatch, tmp_path):
    # Not tanh, which would make an infinity finite again.
    config = config_of("Pendulum-v1", tmp_path / "run", engine, activation="relu")
    spoil_after(monkeypatch, 3, name, value)
    with pytest.raises(RuntimeError, match=rf"training diverged after 3 updates .*{words}"):
        ppo_fast.train(config)
    content = read_checkpoint(config.out)
    assert content["updates"] == 3
    # It loads, though what was spoiled stays so.
    policy = ppo_fast.load(config.out)
    if name.startswith("critic"):
        assert np.isfinite(policy.predict(np.zeros(3))).all()
    else:
        with pytest.raises(FloatingPointError, match=NO_POLICY):
            policy.predict(np.zeros(3))


@pytest.mark.parametrize("engine", ENGINES)
def test_a_gradient_that_is_not_finite_is_no_step(engine, tmp_path):
    # The losses are finite still, but not the derivative of 1e38 times them.
    config = config_of("Pendulum-v1", tmp_path / "run", engine, value_coef=1e38)
    words = (
        r"training diverged .*the norm of the gradient is (inf|nan), that of critic\.0\.weight too"
    )
    with pytest.raises(RuntimeError, match=words):
        ppo_fast.train(config)
    fresh = trainer._Run(config).learner.state()["model"]
    saved = read_checkpoint(config.out)["learner"]["model"]
    assert differences(dict(saved), dict(fresh)) == []


def test_a_gradient_whose_square_is_not_finite_is_no_step():
    # torch, whose norm is a float, says that this gradient's is infinite.
    learner, rollout = unclipped_case()
    before = parameters(learner)
    with pytest.raises(FloatingPointError, match="the norm of the gradient"):
        learner.epoch(rollout, np.arange(30), VALUES, GradientStep(30, 1e-3, max_grad_norm=None))
    assert all(torch.equal(p, before[name]) for name, p in parameters(learner).items())
    moments = learner.state()["optimizer"]["state"][0]
    assert torch.isfinite(moments["exp_avg_sq"]).all()


def unclipped_case():
    case = prepared(discrete(3), num_steps=5, num_envs=6)
    case.rollout.returns[:] = 1e3
    return case.learner, case.rollout


VALUES = Loss("importance", entropy_coef=0.0, value_coef=1e20)


@pytest.mark.parametrize("count", [1, 10, 64])
@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_nothing_is_left_of_a_batch_that_was_not_finite(activation, count):
    case = prepared(
        discrete(3), num_steps=13, num_envs=10, hidden_sizes=(8, 8), activation=activation
    )
    before = parameters(case.learner)
    rollout = case.rollout
    kept = rollout.obs.copy()
    rollout.obs[:] = math.nan
    case.learner.keep_old_policy(rollout)
    with pytest.raises(FloatingPointError):
        case.learner.epoch(
            rollout, np.arange(130), LOSSES["importance"], GradientStep(130, 1e-3, None)
        )
    assert all(torch.equal(p, before[name]) for name, p in parameters(case.learner).items())
    rollout.obs[:] = kept
    case.learner.keep_old_policy(rollout)
    assert_same_gradients(case, LOSSES["importance"], np.arange(count))


def test_a_learner_asked_by_several_threads_at_once():
    # The work space is for one at a time; the others wait.
    learner = prepared(discrete(3), num_steps=5, num_envs=6, hidden_sizes=(64, 64)).learner
    rng = np.random.default_rng(0)
    batches = [rng.normal(size=(size, 3)).astype(np.float32) for size in (40, 200, 1000, 3000)]
    expected = [learner.values(obs) for obs in batches]
    found = []

    def ask(k):
        for _ in range(300):
            found.append(np.array_equal(learner.values(batches[k]), expected[k]))

    threads = [threading.Thread(target=ask, args=(k,)) for k in range(len(batches))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [True] * 1200
    np.testing.assert_array_equal(learner.values(batches[0]), expected[0])


@pytest.mark.parametrize("value", [45.0, 60.0, 1e9, math.inf, math.nan])
@pytest.mark.parametrize("engine", ENGINES)
def test_noise_of_the_state_without_bounds_is_refused(engine, value):
    # exp(2 x 45) is beyond float32.
    learner = make_learner(make_config(continuous="gsde", engine=engine), obs_rows(), box(2))
    with torch.no_grad():
        learner.model.actor.log_std.fill_(value)
    obs = np.ones((1, OBS_SIZE), np.float32)
    actions, logp = np.zeros((1, 2), np.float32), np.zeros(1, np.float32)
    with pytest.raises(FloatingPointError, match=r"make no distribution|holds a NaN"):
        learner.act(obs, actions, logp, step=0)


def test_a_loss_without_a_critic_is_refused():
    case = prepared(discrete(2))
    loss = Loss(objective="policy_gradient", entropy_coef=0.0, value_coef=0.5, has_critic=False)
    step = GradientStep(minibatch_size=10, learning_rate=1e-3, max_grad_norm=None)
    with pytest.raises(ValueError, match="without a critic"):
        case.learner.epoch(case.rollout, np.arange(10), loss, step)


def test_memory_that_is_linked_anew_while_it_is_in_use():
    learner = prepared(discrete(3), num_steps=5, num_envs=6, hidden_sizes=(64, 64)).learner
    obs = np.random.default_rng(0).normal(size=(3000, 3)).astype(np.float32)
    expected = learner.values(obs)
    done = threading.Event()

    def link():
        while not done.is_set():
            learner._link()

    thread = threading.Thread(target=link)
    thread.start()
    try:
        for _ in range(200):
            np.testing.assert_array_equal(learner.values(obs), expected)
    finally:
        done.set()
        thread.join()


TRAIN_FOR_LONG = """
import sys
import ppo_fast

ppo_fast.train(ppo_fast.TrainConfig("CartPole-v1", out=sys.argv[1], **{settings}))
"""


@pytest.mark.parametrize(
    "settings",
    [
        # An update takes about a minute, a rollout as long.
        {"num_envs": 64, "num_steps": 2048, "num_epochs": 200, "hidden_sizes": (256, 256)},
        {"num_envs": 4096, "num_steps": 8192, "hidden_sizes": (64, 64)},
    ],
    ids=["update", "rollout"],
)
def test_a_second_interrupt_stops_within_a_call(settings, tmp_path):
    script = TRAIN_FOR_LONG.replace("{settings}", repr(settings | {"total_steps": 10**9}))
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path / "run")], stderr=subprocess.PIPE, text=True
    )
    try:
        while not (tmp_path / "run" / "checkpoint.pt").exists():
            assert process.poll() is None
            time.sleep(0.05)
        time.sleep(4)
        for _ in range(2):
            process.send_signal(signal.SIGINT)
            time.sleep(0.5)
        _, errors = process.communicate(timeout=10)
        assert "KeyboardInterrupt: stopped at once" in errors
    finally:
        process.kill()
        process.wait()
