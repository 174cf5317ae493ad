"""The parts of training on a GPU: learner, rollout, episodes, graphs (conftest.py: `device`)."""

from functools import partial
from time import sleep

import numpy as np
import pytest
from algorithm_cases import (
    OBS_SIZE,
    POLICIES,
    at,
    discrete,
    make_config,
    make_rollout,
    obs_rows,
    play,
)

torch = pytest.importorskip("torch")

from recorded_graphs import NotCapturable, recorded  # noqa: E402 - after the check for torch

import ppo_fast.cuda  # noqa: E402
from ppo_fast.algorithms import make_algorithm  # noqa: E402
from ppo_fast.arrays import put  # noqa: E402
from ppo_fast.cuda_graphs import Graphs  # noqa: E402
from ppo_fast.cuda_rollout import CudaRollout  # noqa: E402
from ppo_fast.learners import make_learner  # noqa: E402
from ppo_fast.normalizers import ObsNormalizer, RewardScaler  # noqa: E402
from ppo_fast.rollout import Rollout  # noqa: E402
from ppo_fast.rollout import make_rollout as make_rollout_at  # noqa: E402
from ppo_fast.running_returns import running_returns  # noqa: E402
from ppo_fast.training.metrics import EpisodeTracker, make_episode_tracker  # noqa: E402

ARRAYS = ("obs", "actions", "logp", "rewards", "terminated", "truncated", "final_obs")


@pytest.fixture
def place(device, monkeypatch):
    """Lets "cuda" be the device; torch's."""
    if device == "cpu":
        monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
        recorded(monkeypatch)
    return ppo_fast.cuda.place("cuda")


def moved(rollout, layout, place):
    """A rollout on the device with the numbers of one on the CPU."""
    there = make_rollout_at(rollout.num_steps, rollout.num_envs, (OBS_SIZE,), layout, place)
    for name in ARRAYS:
        getattr(there, name).copy_(torch.from_numpy(getattr(rollout, name)))
    return there


@pytest.mark.parametrize("algorithm", ["ppo-clip", "ppo-kl"])
@pytest.mark.parametrize("family", POLICIES)
def test_an_update_is_that_of_the_torch_engine(family, algorithm, place, on_cpu):
    fields, layout = POLICIES[family]
    settings = fields | {"algorithm": algorithm, "learning_rate": 1e-2}
    settings |= {"num_epochs": 2, "minibatch_size": 12}
    config = make_config(engine="torch", **settings)
    there = make_config(device="cuda", **settings)
    theirs = make_learner(config, obs_rows(), layout)
    ours = make_learner(there, obs_rows(), layout)
    update_theirs, update_ours = make_algorithm(config).update, make_algorithm(there).update
    rollouts = None
    for k in range(2):
        rollout = on_cpu(lambda k=k: play(theirs, make_rollout(config, layout), k))
        # The same memory every time, as graphs must find it.
        rollouts = rollouts or moved(rollout, layout, place)
        for name in ARRAYS:
            getattr(rollouts, name).copy_(torch.from_numpy(getattr(rollout, name)))
        on_cpu(lambda rollout=rollout: theirs.keep_old_policy(rollout))
        expected = on_cpu(
            lambda rollout=rollout, k=k: update_theirs(theirs, rollout, at(config, k))
        )
        ours.keep_old_policy(rollouts)
        metrics = update_ours(ours, rollouts, at(there, k))
        assert metrics.keys() == expected.keys()
        for name, value in expected.items():
            assert metrics[name] == pytest.approx(value, rel=1e-3, abs=1e-5), name
    for p, q in zip(ours.model.parameters(), theirs.model.parameters(), strict=True):
        torch.testing.assert_close(p.cpu(), q, rtol=0, atol=1e-5)


@pytest.mark.parametrize("changes", [{}, {"normalize_obs": True}])
def test_undo(changes, place):
    settings = changes | {"num_epochs": 2, "minibatch_size": 12}
    config = make_config(device="cuda", learning_rate=1e-2, **settings)
    learner = make_learner(config, obs_rows(), discrete(3))
    cpu = make_learner(make_config(engine="native"), obs_rows(), discrete(3))
    rollout = moved(play(cpu, make_rollout(config, discrete(3))), discrete(3), place)
    update = partial(make_algorithm(config).update, learner, rollout, at(config))
    states = []
    for k in range(3):
        learner.keep_old_policy(rollout)
        states.append(learner.state())
        update()
        if k == 1:  # and once more from there, with new graphs
            after = learner.state()
            learner.undo()
    again = learner.state()
    for name, p in after["model"].items():
        assert torch.equal(states[1]["model"][name], states[2]["model"][name])
        torch.testing.assert_close(p, again["model"][name], rtol=0, atol=1e-6)
    moments = again["optimizer"]["state"][0]
    for name, x in after["optimizer"]["state"][0].items():
        torch.testing.assert_close(x, moments[name], rtol=1e-5, atol=1e-6)


# Rollouts


def test_environments_are_not_charged_with_the_wait_for_actions(place):
    class Waiting(CudaRollout):
        def _on_cpu(self, array):
            sleep(0.05)
            return super()._on_cpu(array)

    class Actor:
        def play(self, rollout, stepper, *, first_step):
            return False

        def act(self, obs, actions, logp, *, step, deterministic=False):
            actions.zero_()

    class Stepper:
        def step_into(self, actions, *arrays):
            sleep(0.01)

    rollout = Waiting(4, 2, (1,), discrete(), place)
    rollout.collect(Stepper(), Actor(), first_step=0)
    assert 4 * 0.01 <= rollout.env_seconds < 4 * 0.05
    times = rollout.times(1.0, 1.0)
    assert times["env_seconds"] == rollout.env_seconds
    assert times["policy_seconds"] >= 4 * 0.04


@pytest.mark.parametrize(
    ("name", "row", "value", "samples"),
    [("rewards", 1, np.inf, 4), ("obs", 2, np.nan, 4), ("final_obs", 0, -np.inf, 2)],
)
def test_not_finite(name, row, value, samples, place):
    rollout = make_rollout_at(3, 2, (1,), discrete(), place)

    class Actor:
        def play(self, rollout, stepper, *, first_step):
            rollout.rewards.fill_(1.0)
            rollout.truncated[0] = True
            getattr(rollout, name)[row, 1] = value
            return True

    rollout.collect(None, Actor(), first_step=0)
    scaler = RewardScaler(2, 0.9, place)
    scaler.keep()
    scaler.scale(rollout.rewards, rollout.truncated, None)
    found = rollout.find_not_finite()
    assert (found.samples, found.env) == (samples, 1)
    assert found.name == ("rewards" if name == "rewards" else "observations")
    np.testing.assert_equal(found.value, value)
    scaler.undo()
    assert scaler.state() == RewardScaler(2, 0.9).state()


def test_all_finite(place):
    rollout = make_rollout_at(3, 2, (1,), discrete(), place)
    assert rollout.find_not_finite() is None

    class Actor:
        def play(self, rollout, stepper, *, first_step):
            return True

    rollout.collect(None, Actor(), first_step=0)
    assert rollout.find_not_finite() is None


# Statistics


def random_rollout(seed, steps=40, envs=9):
    rng = np.random.default_rng(seed)
    rollout = Rollout(steps, envs, (1,), discrete())
    rollout.rewards[:] = rng.normal(size=(steps, envs))
    rollout.terminated[:] = rng.random((steps, envs)) < (0.5 if seed == 2 else 0.1)
    rollout.truncated[:] = rng.random((steps, envs)) < 0.05
    return rollout


def test_running_returns_by_hand():
    # 1; 0.5 * 1 + 2 = 2.5, over; 4; and 0.5 * 6 + 1 = 4; 0.5 * 4 + 2 = 4, 0.5 * 4 + 4 = 6.
    rewards = np.array([[1, 1], [2, 2], [4, 4]], np.float32)
    done = np.array([[0, 0], [1, 0], [0, 0]], bool)
    running = running_returns(rewards, done, np.array([0.0, 6.0]), 0.5)
    np.testing.assert_array_equal(running, [[1, 4], [2.5, 4], [4, 6]])


def test_episodes(place):
    ours, theirs = make_episode_tracker(9, place), EpisodeTracker(9)
    for seed in range(5):
        rollout = random_rollout(seed)
        ours.add(moved_flags(rollout, place))
        ours.settle()
        ours.settle()  # nothing more
        theirs.add(rollout)
        assert ours.count == theirs.count > 0
        assert ours.return_sum == pytest.approx(theirs.return_sum, rel=1e-12, abs=1e-12)
        assert ours.mean_return == pytest.approx(theirs.mean_return, rel=1e-12, abs=1e-12)
        a, b = ours.state(), theirs.state()
        assert a["lengths"] == b["lengths"]
        assert a["open_length"] == b["open_length"]
        np.testing.assert_allclose(a["returns"], b["returns"], rtol=1e-12, atol=1e-12)
        np.testing.assert_allclose(a["open_return"], b["open_return"], rtol=1e-12, atol=1e-12)
        if seed == 1:
            ours.restart()
            theirs.restart()
        if seed == 3:  # and on from a state
            ours = make_episode_tracker(9, place)
            ours.load_state(b)
    assert theirs.is_full
    assert ours.is_full


def moved_flags(rollout, place):
    there = make_rollout_at(rollout.num_steps, rollout.num_envs, (1,), discrete(), place)
    for name in ("rewards", "terminated", "truncated"):
        getattr(there, name).copy_(torch.from_numpy(getattr(rollout, name)))
    return there


def test_fewer_steps_than_the_window(place):
    tracker = make_episode_tracker(2, place)
    rollout = make_rollout_at(3, 2, (1,), discrete(), place)
    rollout.rewards.fill_(2.0)
    rollout.terminated[0, 1] = True
    rollout.truncated[2, 0] = True
    tracker.add(rollout)
    tracker.settle()
    state = tracker.state()
    assert (state["returns"], state["lengths"]) == ([2.0, 6.0], [1, 3])
    assert (state["open_return"], state["open_length"]) == ([0.0, 4.0], [0, 2])


def test_statistics_of_rewards_and_observations(place):
    ours, theirs = RewardScaler(9, 0.9, place), RewardScaler(9, 0.9)
    for seed in range(3):
        rollout = random_rollout(seed)
        there = moved_flags(rollout, place)
        ours.scale(there.rewards, there.terminated | there.truncated, None)
        theirs.scale(rollout.rewards, rollout.terminated | rollout.truncated, None)
        np.testing.assert_allclose(there.rewards.cpu(), rollout.rewards, rtol=1e-6)
    for name in ("mean", "variance"):
        assert ours.state()["moments"][name] == pytest.approx(theirs.state()["moments"][name])
    np.testing.assert_allclose(ours.state()["running"], theirs.state()["running"], rtol=1e-12)
    obs = np.random.default_rng(0).normal(3, 5, (50, 4)).astype(np.float32)
    ours, theirs = ObsNormalizer((4,), place), ObsNormalizer((4,))
    for normalizer, x in ((ours, put(obs, place)), (theirs, obs)):
        normalizer.update(x)
        normalizer.load_state(normalizer.state())
        normalizer.update(3 * x)
    np.testing.assert_allclose(ours(put(obs, place)).cpu(), theirs(obs), rtol=1e-6, atol=1e-7)


# Graphs


class Counter:
    """A function of a graph, which counts how often Python runs it."""

    def __init__(self, place):
        self.calls = 0
        self.total = torch.zeros((), dtype=torch.float64, device=place)
        self.number = torch.ones((), dtype=torch.float64, device=place)

    def add(self):
        self.calls += 1
        self.total.add_(self.number)


def test_the_first_call_is_run_the_second_captured(place):
    graphs, counter = Graphs(place), Counter(place)
    for k in range(1, 6):
        counter.number.fill_(k)
        graphs.run("add", "key", partial(counter.add))
        assert counter.calls == min(k, 2)
        assert counter.total.item() == sum(range(k + 1))  # nothing is done twice, or left out
    graphs.run("add", "another key", partial(counter.add))
    graphs.run("add", "another key", partial(counter.add))
    assert (counter.calls, counter.total.item()) == (4, 25)
    graphs.forget()
    graphs.run("add", "another key", partial(counter.add))
    assert (counter.calls, counter.total.item()) == (5, 30)
    if place.type == "cuda":
        graphs.run("add", "another key", partial(counter.add))
        assert isinstance(graphs._known["add"].graph, torch.cuda.CUDAGraph)


class Wrong(Counter):
    """Functions that a graph would get wrong."""

    def item(self):
        self.total.add_(self.number.item())

    def branch(self):
        if self.number > 0:
            self.total.add_(1)

    def mask(self):
        self.total.add_(self.number[None][self.number[None] > 0].sum())

    def nonzero(self):
        self.total.add_(self.number[None].nonzero().sum())

    def from_python(self):
        self.total.add_(torch.tensor(1.0, device=self.total.device))

    def leave(self):
        self.total.add_(float(self.number.cpu().numpy()))


@pytest.mark.parametrize("name", ["item", "branch", "mask", "nonzero", "from_python", "leave"])
def test_a_recording_refuses_what_a_capture_would(name, place):
    if place.type == "cuda":
        pytest.skip("there are real graphs")
    graphs, wrong = Graphs(place), Wrong(place)
    function = partial(getattr(wrong, name))
    graphs.run("wrong", None, function)
    with pytest.raises(NotCapturable):
        graphs.run("wrong", None, function)


def test_a_recording_keeps_numbers_of_python(place):
    graphs, counter = Graphs(place), Counter(place)
    for k in range(1, 4):
        counter.number = k
        graphs.run("stale", None, partial(counter.add))
    assert counter.total.item() == 1 + 2 + 2
