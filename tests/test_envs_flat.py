"""Training on observations of any shape and type: rows of float32 for the networks."""

from pathlib import Path

import gymnasium
import numpy as np
import pytest
from gymnasium.wrappers import ReshapeObservation

import ppo_fast
from ppo_fast import TrainConfig
from ppo_fast.envs import NATIVE_SPECS, BuildError, build, make_stepper
from ppo_fast.envs.stepping import FlatStepper

pytest.importorskip("torch")

SNAKE = Path(__file__).parents[1] / "examples" / "snake.h"
FEW = {
    "total_steps": 1024,
    "num_envs": 4,
    "num_steps": 64,
    "minibatch_size": 64,
    "eval_episodes": 2,
}
PLAIN, SQUARE = "tiny/PlainCartPole-v0", "tiny/SquareCartPole-v0"


def cartpole(**kwargs):
    return gymnasium.make("CartPole-v1", **kwargs).unwrapped


def square_cartpole(**kwargs):
    return ReshapeObservation(cartpole(**kwargs), (2, 2))


@pytest.fixture(scope="module", autouse=True)
def _forget_environments():
    known = dict(NATIVE_SPECS)
    yield
    NATIVE_SPECS.clear()
    NATIVE_SPECS.update(known)


@pytest.fixture(autouse=True)
def _ids(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PPO_FAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    gymnasium.register(PLAIN, entry_point=cartpole, max_episode_steps=500)
    gymnasium.register(SQUARE, entry_point=square_cartpole, max_episode_steps=500)
    yield
    del gymnasium.registry[PLAIN], gymnasium.registry[SQUARE]


@pytest.fixture(scope="module")
def _compiler():
    try:
        build(SNAKE)
    except BuildError as error:
        pytest.skip(str(error))


@pytest.mark.parametrize("num_envs", [1, 4])
def test_the_shape_of_observations_changes_nothing(num_envs, tmp_path):
    runs = [
        ppo_fast.train(
            TrainConfig(env_id, out=tmp_path / env_id[5:], **FEW | {"num_envs": num_envs})
        )
        for env_id in (PLAIN, SQUARE)
    ]
    for name in ("mean_return", "kl", "policy_loss"):
        np.testing.assert_array_equal(*(run.metrics[name] for run in runs))
    assert runs[0].evaluation.returns.tolist() == runs[1].evaluation.returns.tolist()
    obs = np.linspace(-0.1, 0.1, 12, dtype=np.float32).reshape(3, 4)
    actions = runs[0].policy.predict(obs)
    np.testing.assert_array_equal(runs[1].policy.predict(obs.reshape(3, 2, 2)), actions)
    assert runs[1].policy.predict(obs[0].reshape(2, 2)) == actions[0]
    words = r"obs must have shape \(2, 2\) or \(N, 2, 2\) or \(4,\) or \(N, 4\), got \(3, 3\)"
    with pytest.raises(ValueError, match=words):
        runs[1].policy.predict(np.zeros((3, 3)))
    with pytest.raises(ValueError, match=r"obs must have shape \(4,\) or \(N, 4\), got \(2, 2\)"):
        runs[0].policy.predict(np.zeros((2, 2)))
    loaded = ppo_fast.load(runs[1].out)
    np.testing.assert_array_equal(loaded.predict(obs.reshape(3, 2, 2)), actions)


def test_one_observation_with_an_axis_of_size_1(tmp_path):
    gymnasium.register(
        "tiny/Row-v0", lambda: ReshapeObservation(cartpole(), (1, 4)), max_episode_steps=500
    )
    try:
        policy = ppo_fast.train(TrainConfig("tiny/Row-v0", out=tmp_path / "run", **FEW)).policy
    finally:
        del gymnasium.registry["tiny/Row-v0"]
    assert np.shape(policy.predict(np.zeros((1, 4)))) == ()  # one observation
    assert np.shape(policy.predict(np.zeros((1, 1, 4)))) == (1,)
    assert np.shape(policy.predict(np.zeros((3, 4)))) == (3,)


class Scalar(gymnasium.Env):
    """Whose observation is a number."""

    observation_space = gymnasium.spaces.Box(0, 9, (), np.float64)
    action_space = gymnasium.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.count = 0
        return np.array(0.0), {}

    def step(self, action):
        self.count += 1
        return np.array(float(self.count)), float(action), self.count == 5, False, {}


@pytest.mark.parametrize("num_envs", [1, 4])
def test_an_observation_may_be_a_number(num_envs, tmp_path):
    gymnasium.register("tiny/Scalar-v0", entry_point=Scalar)
    config = TrainConfig(
        "tiny/Scalar-v0", out=tmp_path / "run", **FEW | {"num_envs": num_envs, "eval_episodes": 12}
    )
    try:
        result = ppo_fast.train(config)
    finally:
        del gymnasium.registry["tiny/Scalar-v0"]
    assert result.evaluation.lengths.tolist() == [5] * 12
    assert result.policy.predict([3.0]) in (0, 1)


@pytest.mark.usefixtures("_compiler")
def test_a_native_board_is_stepped_as_it_is(tmp_path):
    stepper = make_stepper(str(SNAKE), 5)
    assert isinstance(stepper, FlatStepper)
    env = build(SNAKE)(5, autoreset_mode="SameStep")
    rows, _ = stepper.reset(seed=[1, 2, 3, 4, 5])
    boards, _ = env.reset(seed=[1, 2, 3, 4, 5])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, boards.reshape(5, 64))
    obs, final_obs = np.zeros((2, 5, 64), np.float32)
    rewards = np.zeros(5, np.float32)
    terminated, truncated = np.zeros((2, 5), bool)
    rng = np.random.default_rng(0)
    episodes = 0
    for _ in range(200):
        actions = rng.integers(0, 4, 5)
        episodes += stepper.step_into(actions, obs, rewards, terminated, truncated, final_obs)
        boards, scores, *ends, infos = env.step(actions)
        np.testing.assert_array_equal(obs, boards.reshape(5, 64))
        np.testing.assert_array_equal(rewards, scores)
        np.testing.assert_array_equal([terminated, truncated], ends)
        for i in np.flatnonzero(terminated | truncated):
            np.testing.assert_array_equal(final_obs[i], infos["final_obs"][i].reshape(64))
    assert episodes > 20


@pytest.mark.usefixtures("_compiler")
def test_a_run_on_a_native_board_goes_on_with_the_same_bits(tmp_path):
    def stop(row):
        if row["update"] == 2:
            raise OSError("enough")

    whole = ppo_fast.train(TrainConfig(str(SNAKE), out=tmp_path / "whole", **FEW))
    config = TrainConfig(str(SNAKE), out=tmp_path / "stopped", **FEW)
    with pytest.raises(OSError, match="enough"):
        ppo_fast.train(config, on_update=stop)
    resumed = ppo_fast.train(resume=config.out)
    for name in ("mean_return", "kl", "policy_loss"):
        np.testing.assert_array_equal(whole.metrics[name], resumed.metrics[name])
    assert whole.evaluation.returns.tolist() == resumed.evaluation.returns.tolist()


@pytest.mark.usefixtures("_compiler")
@pytest.mark.parametrize("scalar", ["double", "std::uint8_t", "std::int32_t"])
def test_headers_of_every_type_can_be_trained(scalar, tmp_path):
    header = tmp_path / "typed.h"
    header.write_text(f"""
#include <ppo_fast/env.h>
struct Typed {{
  using Action = ppo::Discrete<2>;
  using Observation = ppo::Box<{scalar}, 2>;
  struct Params {{}};
  struct State {{ std::int32_t count; }};
  static void reset(State& s, const Params&, ppo::Rng&) {{ s.count = 0; }}
  static ppo::StepResult step(State& s, const Params&, Action::Value action, ppo::Rng&) {{
    return {{double(action), ++s.count == 10}};
  }}
  static void observe(const State& s, {scalar}* out) {{ out[0] = out[1] = {scalar}(s.count); }}
}};
PPO_FAST_ENV(Typed, "Typed-v0", 100)
""")
    result = ppo_fast.train(TrainConfig(str(header), out=tmp_path / "run", **FEW))
    assert result.metrics["steps"][-1] == 1024
