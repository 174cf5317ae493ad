"""Environments of users: built from one header, or by their own CMake."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import gymnasium
import numpy as np
import pytest

import ppo_fast
from ppo_fast.envs import NATIVE_SPECS, BuildError, build, load
from ppo_fast.info import cmake_dir, include_dir

EXAMPLES = Path(__file__).parents[1] / "examples"
COUNTER = """
#include <ppo_fast/env.h>
struct Counter {
  using Action = ppo::Discrete<2>;
  using Observation = ppo::Box<double, 2>;
  struct Params { std::int32_t last = 5; double scale = 1; bool negative = false;
                  std::int32_t unit = 0; };
  static constexpr ppo::Field<Params> kParams[] = {
      {"last", &Params::last}, {"scale", &Params::scale}, {"negative", &Params::negative},
      {"unit", &Params::unit, "one|two"}};
  struct Options { double start = 0; };
  static constexpr ppo::Field<Options> kOptions[] = {{"start", &Options::start}};
  struct State { double count; double draw; };
  static constexpr ppo::Field<State> kState[] = {{"count", &State::count}};
  static void reset(State& s, const Params&, ppo::Rng& rng, const Options& options) {
    s = {options.start, double(rng.integers(-3, 100))};
  }
  static ppo::StepResult step(State& s, const Params& p, Action::Value action, ppo::Rng& rng) {
    s.count += 1;
    s.draw = double(rng.integers(0, 1000000007));
    const double reward = (p.unit + 1) * p.scale * action;
    return {p.negative ? -reward : reward, s.count >= p.last, action == 1 && s.count == 3};
  }
  static void observe(const State& s, double* out) { out[0] = s.count; out[1] = s.draw; }
};
PPO_FAST_ENV(Counter, "Counter-v0", 0)
"""

pytestmark = pytest.mark.skipif(
    not (shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")),
    reason="there is no C++ compiler",
)


@pytest.fixture(autouse=True)
def _forget_environments(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("PPO_FAST_CACHE", str(tmp_path_factory.getbasetemp() / "cache"))
    known = dict(NATIVE_SPECS)
    yield
    NATIVE_SPECS.clear()
    NATIVE_SPECS.update(known)


@pytest.fixture
def counter(tmp_path):
    header = tmp_path / "counter.h"
    header.write_text(COUNTER)
    return header


def test_a_header_becomes_an_environment(counter):
    maker = build(counter)
    spec = maker.spec
    assert (spec.env_id, spec.max_episode_steps, spec.reward_threshold) == (
        "Counter-v0",
        None,
        None,
    )
    assert spec.params == ("last", "scale", "negative", "unit")
    assert spec.original is None
    env = maker(3, last=4, scale=2.5, negative=True, unit="two")
    assert env.single_observation_space == gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    assert env.single_action_space == gymnasium.spaces.Discrete(2)
    obs, _ = env.reset(seed=[3, 4, 5], options={"start": 1})
    rngs = [np.random.default_rng(s) for s in (3, 4, 5)]
    np.testing.assert_array_equal(obs, [[1, r.integers(-3, 100)] for r in rngs])
    obs, rewards, terminated, truncated, _ = env.step([0, 1, 1])
    np.testing.assert_array_equal(obs, [[2, r.integers(0, 1000000007)] for r in rngs])
    np.testing.assert_array_equal(rewards, [0, -5, -5])
    assert not (terminated | truncated).any()
    obs, _, terminated, truncated, _ = env.step([0, 1, 0])
    np.testing.assert_array_equal(obs, [[3, r.integers(0, 1000000007)] for r in rngs])
    np.testing.assert_array_equal(truncated, [False, True, False])  # by the environment itself
    assert not terminated.any()
    obs, rewards, terminated, truncated, _ = env.step([1, 1, 1])
    draws = [rngs[0].integers(0, 1000000007), rngs[1].integers(-3, 100)]
    draws.append(rngs[2].integers(0, 1000000007))
    np.testing.assert_array_equal(
        obs, [[4, draws[0]], [0, draws[1]], [4, draws[2]]]
    )  # 1: its reset
    np.testing.assert_array_equal(terminated, [True, False, True])
    assert env.get_attr("unit") == ("two",) * 3
    assert env.get_attr("state")[1].tolist() == [0.0]
    generators = env.np_random
    assert [g.integers(0, 10) for g in generators] == [r.integers(0, 10) for r in rngs]


def test_names_that_mean_something_to_a_built_in_environment(counter):
    text = COUNTER.replace(
        'kState[] = {{"count", &State::count}}',
        'kState[] = {{"a", &State::draw}, {"last_u", &State::count}}',
    )
    text = text.replace(
        "struct Options { double start = 0; };",
        "struct Options { double start = 0; double low = 0; double high = 0; };",
    ).replace(
        '{{"start", &Options::start}}',
        '{{"x_init", &Options::start}, {"low", &Options::low}, {"high", &Options::high}}',
    )
    counter.write_text(text)
    env = build(counter)(2)
    env.reset(seed=[3, 4], options={"x_init": -2, "low": 1, "high": -1})
    draws = [np.random.default_rng(s).integers(-3, 100) for s in (3, 4)]
    np.testing.assert_array_equal(env.get_attr("state"), [[draw, -2] for draw in draws])
    env.step([0, 0])
    np.testing.assert_array_equal(np.array(env.get_attr("state"))[:, 1], -1)


BAD_OBSERVATIONS = {
    "writes beside the 1 numbers of Observation": ("ppo::Box<double, 1>", ""),
    "does not write number 2 of the 3 numbers": ("ppo::Box<double, 3>", ""),
    "writes beside the 2 numbers": ("ppo::Box<double, 2>", "out[-1] = 0;"),
}


@pytest.mark.parametrize("message", BAD_OBSERVATIONS)
@pytest.mark.parametrize("num_envs", [1, 3, 100])
def test_observations_of_another_size_than_declared(counter, message, num_envs):
    shape, more = BAD_OBSERVATIONS[message]
    text = COUNTER.replace("ppo::Box<double, 2>", shape)
    head, body = text.split("double* out) {")
    counter.write_text(f"{head}double* out) {{ {more} {body}")
    env = build(counter)(num_envs)
    for _ in range(2):
        with pytest.raises(RuntimeError, match=f"Counter-v0: observe {message}"):
            env.reset(seed=0)


def test_a_header_is_reset_once_for_each_reset(counter):
    # With the keywords of the batch: the defaults may be none to play with.
    thrower = COUNTER.replace("{options.start,", "{options.start + 5 % p.last,")
    thrower = thrower.replace("last = 5;", "last = 0;").replace(
        "const Params&, ppo", "const Params& p, ppo"
    )
    counter.write_text(thrower)
    env = build(counter)(3, last=3)
    obs, _ = env.reset(seed=[3, 4, 5])
    rngs = [np.random.default_rng(s) for s in (3, 4, 5)]
    np.testing.assert_array_equal(obs, [[2, r.integers(-3, 100)] for r in rngs])
    obs, _ = env.reset()
    np.testing.assert_array_equal(obs, [[2, r.integers(-3, 100)] for r in rngs])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("ppo::Discrete<2>", "ppo::Discrete<0>", "needs at least one action"),
        ("ppo::Box<double, 2>", "ppo::Box<double, 0>", "sizes of a ppo::Box must be positive"),
        ('"Counter-v0", 0)', '"Counter-v0", -5)', "limit of PPO_FAST_ENV is a number of steps"),
    ],
)
def test_constants_out_of_range(counter, old, new, message):
    assert old in COUNTER
    counter.write_text(COUNTER.replace(old, new))
    with pytest.raises(BuildError, match=message):
        build(counter)


def test_its_id_is_known_everywhere(counter):
    build(counter)
    for env in (
        ppo_fast.make_vec("Counter-v0", 2, last=2),
        gymnasium.make_vec("ppo_fast/Counter-v0", 2, last=2),
        ppo_fast.make_vec(str(counter), 2, last=2),
    ):
        env.reset(seed=0)
        assert not env.step([0, 0])[2].any()
        assert env.step([0, 0])[2].all()
    single = gymnasium.make("ppo_fast/Counter-v0", last=1)
    single.reset(seed=0)
    assert single.step(1)[1:4] == (1.0, True, False)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_nothing(counter, threads):
    maker = build(counter)
    env, one = maker(200, num_threads=threads), maker(200, num_threads=1)
    np.testing.assert_array_equal(env.reset(seed=1)[0], one.reset(seed=1)[0])
    actions = np.random.default_rng(0).integers(0, 2, (50, 200))
    for row in actions:
        for mine, theirs in zip(env.step(row)[:4], one.step(row)[:4], strict=True):
            np.testing.assert_array_equal(mine, theirs)


def test_it_is_built_once(counter):
    first = build(counter).library
    stamp = first.stat().st_mtime_ns
    assert build(counter).library == first
    assert first.stat().st_mtime_ns == stamp
    counter.write_text(COUNTER.replace("last = 5", "last = 1"))
    second = build(counter)
    assert second.library != first
    env = second(1)
    env.reset(seed=0)
    assert env.step([0])[2].all()


def test_an_included_file_counts(counter):
    (counter.parent / "shared.h").write_text("constexpr int kStart = 7;\n")
    counter.write_text('#include "shared.h"\n' + COUNTER.replace("start = 0", "start = kStart"))
    assert build(counter)(1).reset(seed=0)[0][0, 0] == 7
    (counter.parent / "shared.h").write_text("constexpr int kStart = 8;\n")
    assert build(counter)(1).reset(seed=0)[0][0, 0] == 8


def test_old_batches_survive_a_new_build(counter):
    env = build(counter)(2)
    env.reset(seed=0)
    counter.write_text(COUNTER.replace("s.count += 1", "s.count += 100"))
    changed = build(counter)(2)
    changed.reset(seed=0)
    assert env.step([0, 0])[0][0, 0] == 1
    assert changed.step([0, 0])[0][0, 0] == 100


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "static ppo::StepResult step",
            "static ppo::StepResult walk",
            "Counter needs static ppo::StepResult",
        ),
        ("static void observe", "static void look", "Counter needs static void observe"),
        ("static void reset", "static void start", "Counter needs static void reset"),
        ("double draw; };", "double draw; std::string name; };", "plain"),
        ("s.count += 1;", "s.count += one;", "one.*was not declared"),
        (
            'PPO_FAST_ENV(Counter, "Counter-v0", 0)',
            "",
            r"PPO_FAST_ENV\(Type, id, limit\) is missing",
        ),
        ("#include <ppo_fast/env.h>", '#include "nowhere.h"', "nowhere.h: No such file"),
        ('"Counter-v0"', '"CartPole-v1"', "CartPole-v1 is the id of a built-in environment"),
    ],
)
def test_errors_are_readable(counter, old, new, message):
    assert old in COUNTER
    counter.write_text("#include <string>\n" + COUNTER.replace(old, new))
    with pytest.raises(BuildError, match=message):
        build(counter)
    assert "Counter-v0" not in NATIVE_SPECS


def test_no_compiler(counter, monkeypatch):
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(
        BuildError, match=r"no C\+\+ compiler \(CXX=no-such-compiler\); install GCC"
    ):
        build(counter)
    monkeypatch.delenv("CXX")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError, match=r"no C\+\+ compiler \(c\+\+, g\+\+, clang\+\+\)"):
        build(counter)


def test_wrong_files(tmp_path):
    with pytest.raises(FileNotFoundError, match="build: there is no header"):
        build(tmp_path / "nothing.h")
    with pytest.raises(FileNotFoundError, match="load: there is no library"):
        load(tmp_path / "nothing.so")
    text = tmp_path / "text.so"
    text.write_text("no library")
    with pytest.raises(BuildError, match=r"load: .*text\.so"):
        load(text)


def test_another_version_is_refused(counter):
    counter.write_text(
        COUNTER.replace("#include <ppo_fast/env.h>", '#include "old.h"').replace(
            'PPO_FAST_ENV(Counter, "Counter-v0", 0)',
            'extern "C" __attribute__((visibility("default"))) const ppo::EnvTable* '
            "ppo_fast_env() { static ppo::EnvTable t = {}; t.abi = 99; return &t; }",
        )
    )
    (counter.parent / "old.h").write_text("#include <ppo_fast/env.h>\n")
    with pytest.raises(BuildError, match=r"another version of ppo_fast \(99, not \d+\); build it"):
        build(counter)


@pytest.mark.parametrize(
    ("keywords", "error", "message"),
    [
        ({"first": 1}, TypeError, "no keyword 'first'; it has: last, scale, negative, unit"),
        ({"last": 1.5}, TypeError, "last must be an integer, got float"),
        ({"scale": "big"}, TypeError, "scale must be a number, got str"),
        ({"negative": 1}, TypeError, "negative must be True or False, got int"),
        ({"unit": "three"}, ValueError, "unit must be one of 'one', 'two', got 'three'"),
        ({"render_mode": "rgb_array"}, ValueError, "Counter-v0 cannot be rendered"),
    ],
)
def test_wrong_keywords(counter, keywords, error, message):
    maker = build(counter)
    with pytest.raises(error, match=message):
        maker(2, **keywords)


@pytest.mark.parametrize("threads", [1, 2])
def test_what_it_throws_arrives(counter, threads):
    thrower = COUNTER.replace(
        "s.count += 1;", 's.count += 1; if (s.count > 2) throw std::runtime_error("too many");'
    )
    counter.write_text("#include <stdexcept>\n" + thrower)
    env = build(counter)(300, num_threads=threads)
    env.reset(seed=0)
    zeros = np.zeros(300, int)
    for _ in range(2):
        env.step(zeros)
        env.step(zeros)
        with pytest.raises(
            RuntimeError, match="Counter-v0 threw: too many; reset all environments"
        ):
            env.step(zeros)
        with pytest.raises(RuntimeError, match="threw in the call before; reset it first"):
            env.step(zeros)
        env.reset()


def grid_step(state, action, size):
    row, column, *goal = state
    row = min(max(row + (action == 1) - (action == 0), 0), size - 1)
    column = min(max(column + (action == 3) - (action == 2), 0), size - 1)
    return [row, column, *goal]


def test_gridworld():
    env = build(EXAMPLES / "gridworld.h")(20, size=4, autoreset_mode="SameStep")
    env.reset(seed=0)
    arrivals = 0
    rng = np.random.default_rng(1)
    for _ in range(200):
        states = [s.astype(int).tolist() for s in env.get_attr("state")]
        actions = rng.integers(0, 4, 20)
        obs, rewards, terminated, _, infos = env.step(actions)
        if "final_obs" in infos:
            obs = obs.copy()
            for i in np.flatnonzero(infos["_final_obs"]):
                obs[i] = infos["final_obs"][i]
        expected = [grid_step(s, a, 4) for s, a in zip(states, actions, strict=True)]
        np.testing.assert_array_equal(obs, np.float32(expected) / np.float32(3))
        arrived = np.array([s[:2] == s[2:] for s in expected])
        np.testing.assert_array_equal(terminated, arrived)
        np.testing.assert_array_equal(rewards, np.where(arrived, 1.0, -0.01))
        arrivals += arrived.sum()
    assert arrivals > 20
    bad = ppo_fast.make_vec("GridWorld-v0", 1, size=1)
    with pytest.raises(RuntimeError, match="GridWorld-v0 threw: size must be at least 2"):
        bad.reset(seed=0)


def test_continuous_gridworld():
    env = build(EXAMPLES / "gridworld_continuous.h")(8)
    obs, _ = env.reset(seed=0)
    assert env.single_action_space == gymnasium.spaces.Box(-1, 1, (2,), np.float32)
    for _ in range(60):  # straight to the goal, as fast as allowed
        positions = np.array(env.get_attr("state"))
        actions = np.float32(np.clip((positions[:, 2:] - positions[:, :2]) * 10, -1, 1))
        obs, rewards, terminated, truncated, _ = env.step(actions)
        over = np.linalg.norm(obs[:, :2].astype(float) - obs[:, 2:], axis=1) <= 0.1
        assert (rewards[terminated] == 1).all()
        assert over[terminated].all()
        assert not truncated.any()
        if terminated.any():
            break
    assert terminated.any()


def test_snake():
    env = build(EXAMPLES / "snake.h")(50, autoreset_mode="SameStep")
    obs, _ = env.reset(seed=0)
    assert env.single_observation_space == gymnasium.spaces.Box(0, 3, (8, 8), np.uint8)
    rng = np.random.default_rng(0)
    lengths = np.full(50, 2.0)
    eaten = 0
    for _ in range(400):
        for board, length in zip(obs, lengths, strict=True):
            assert (board == 2).sum() == 1
            assert (board == 3).sum() == 1
            assert (board > 0).sum() == length + 1
        obs, rewards, terminated, truncated, _ = env.step(rng.integers(0, 4, 50))
        np.testing.assert_array_equal(terminated, rewards == -1)
        lengths = np.where(terminated | truncated, 2, lengths + (rewards == 1))
        eaten += (rewards == 1).sum()
    assert eaten > 50


def test_it_trains_from_the_command_line(tmp_path):
    pytest.importorskip("torch")
    run = tmp_path / "run"
    command = [sys.executable, "-m", "ppo_fast", "train", str(EXAMPLES / "gridworld.h")]
    command += ["--total-steps", "16384", "--num-envs", "8", "--seed", "1", "--out", str(run)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    config = json.loads((run / "config.json").read_text())
    assert config["env_id"].endswith("gridworld.h")


CMAKE = """
cmake_minimum_required(VERSION 3.25)
project(mine LANGUAGES CXX)
find_package(ppo_fast REQUIRED)
ppo_fast_add_env(counter counter.cpp)
"""


@pytest.mark.skipif(not shutil.which("cmake"), reason="there is no CMake")
def test_your_own_cmake(tmp_path):
    (tmp_path / "CMakeLists.txt").write_text(CMAKE)
    (tmp_path / "counter.cpp").write_text(COUNTER.replace("Counter-v0", "CMakeCounter-v0"))
    for command in (
        ["cmake", "-S", ".", "-B", "build", f"-Dppo_fast_DIR={cmake_dir()}"],
        ["cmake", "--build", "build"],
    ):
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
    (library,) = (tmp_path / "build").glob("libcounter.*")
    env = load(library)(4)
    obs, _ = env.reset(seed=0)
    assert obs.shape == (4, 2)


def test_headers_are_installed():
    assert (include_dir() / "ppo_fast" / "env.h").is_file()
    assert (cmake_dir() / "ppo_fastConfig.cmake").is_file()
    assert os.access(include_dir(), os.R_OK)
