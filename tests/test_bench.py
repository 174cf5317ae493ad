"""The benchmarks run, check their answers, and print a table."""

import json
import runpy
import sys
import time
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import ppo_fast
from ppo_fast import gae
from ppo_fast.bench import BENCHMARKS
from ppo_fast.bench.advantage import GAE_LAMBDA, GAMMA, Contender, bench_advantage, rollout, tokens
from ppo_fast.bench.advantage_peers import installed_peers, lfilter_paths
from ppo_fast.bench.envs import bench_envs, check_answers
from ppo_fast.bench.timing import table, time_in_turns
from ppo_fast.cli import main

BENCHMARKS_FOLDER = Path(__file__).parent.parent / "benchmarks"


class Idle:
    """A peer that takes no time to step."""

    times_closed = 0

    def step(self, actions):
        return None

    def close(self):
        self.times_closed += 1


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_bench_envs(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    idle = Idle()
    results = bench_envs(
        seconds=0.001,
        env_ids=("CartPole-v1", "Pendulum-v1"),
        sizes=(1, 2, 65),
        others_size=3,
        peers={"idle": lambda env_id, num_envs: idle if num_envs < 3 else None},
        out=tmp_path / "new" / "envs",
    )
    batches = [("CartPole-v1", 1), ("CartPole-v1", 2), ("CartPole-v1", 65), ("Pendulum-v1", 3)]
    assert [(result.env_id, result.num_envs) for result in results] == batches
    ours = {"ppo_fast", "ppo_fast, 1 thread", "ppo_fast, 2 threads"}
    for result in results:
        assert ours | {"Gymnasium sync"} <= result.rates.keys()
        assert all(rate > 0 for rate in result.rates.values())
    has = {name: [name in result.rates for result in results] for name in results[0].rates}
    assert has["Gymnasium async"] == [True, True, False, True]
    assert has["Gymnasium vectorised"] == [True, True, True, False]
    assert has["idle"] == [True, True, False, False]
    assert idle.times_closed == 2
    assert results[0].best_other == "idle"
    assert results[0].ratio(2) == results[0].rates["ppo_fast, 2 threads"] / results[0].rates["idle"]
    printed = capsys.readouterr().out
    assert "bit for bit: CartPole-v1, Pendulum-v1" in printed
    for words in ("CartPole-v1, million", "3 environments, million", "2 threads) / best of the"):
        assert words in printed
    report = json.loads((tmp_path / "new" / "envs.json").read_text(encoding="utf-8"))
    assert report["machine"]["ppo_fast"] == ppo_fast.build_info()
    assert {"numpy", "gymnasium"} <= report["machine"]["versions"].keys()
    assert [(record["env_id"], record["num_envs"]) for record in report["results"]] == batches
    first = report["results"][0]
    assert first["steps_per_second"] == results[0].rates
    assert first["best_other"] == "idle"
    assert first["ratio_to_best_other"] == {
        "1 thread": results[0].ratio(1),
        "2 threads": results[0].ratio(2),
    }
    assert (tmp_path / "new" / "envs.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_envpool_is_shown_with_its_better_number_of_threads(capsys):
    pytest.importorskip("envpool")
    (result,) = bench_envs(seconds=0.001, env_ids=("Acrobot-v1",), others_size=2)
    both = ["EnvPool, 1 thread", "EnvPool, 2 threads"]
    assert result.best_envpool == max(both, key=result.rates.get)
    assert list(result.shown) == [
        *("Gymnasium sync", "Gymnasium async", "EnvPool"),
        *("ppo_fast, 1 thread", "ppo_fast, 2 threads", "ppo_fast"),
    ]
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "better of" in line]
    assert line.split()[-1] == result.best_envpool.split()[1]


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_bench_envs_without_envpool_by_command(monkeypatch, capsys):
    pytest.importorskip("tyro")
    monkeypatch.setattr("ppo_fast.bench.envs.find_spec", lambda name: None)
    quick = partial(bench_envs, env_ids=("CartPole-v1",), sizes=(2,))
    monkeypatch.setitem(BENCHMARKS, "envs", quick)
    assert main(["bench", "envs", "--seconds", "0.001"]) == 0
    printed = capsys.readouterr().out
    assert "EnvPool is not installed and left out" in printed
    assert "better of" not in printed
    assert "1,024" not in printed


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1"])
def test_a_wrong_answer_stops_the_benchmark(monkeypatch, env_id):
    from ppo_fast.envs import NativeVectorEnv

    step = NativeVectorEnv.step

    def wrong(self, actions):
        obs, *rest = step(self, actions)
        return np.nextafter(obs, 9, dtype=np.float32), *rest

    check_answers(env_id, num_envs=3, steps=2)
    monkeypatch.setattr(NativeVectorEnv, "step", wrong)
    with pytest.raises(AssertionError, match=f"{env_id} steps differently from Gymnasium's"):
        check_answers(env_id, num_envs=3, steps=2)


def wrapped(change):
    """A peer that changes our answer to rollouts."""

    def make(problem):
        if problem.mask is not None:
            return None

        def call():
            arguments = {"terminated": problem.terminated, "last_values": problem.last_values}
            factors = {"gamma": GAMMA, "gae_lambda": GAE_LAMBDA}
            return change(*gae(problem.rewards, problem.values, **arguments, **factors))

        return Contender(call)

    return make


def test_bench_advantage(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    results = bench_advantage(
        seconds=0.001,
        shapes=((5, 3), (4096, 1)),
        token_shapes=((2, 6),),
        peers={"twin": wrapped(lambda *answer: answer)},
        out=tmp_path / "new" / "advantage",
    )
    assert [result.problem.rewards.shape for result in results] == [(5, 3), (4096, 1), (2, 6)]
    assert ["ppo_fast, exact" in result.seconds for result in results] == [False, True, False]
    assert ["twin" in result.seconds for result in results] == [True, True, False]
    assert ["ppo_fast, time_axis=1" in result.seconds for result in results] == [False, False, True]
    for result in results:
        assert {"ppo_fast", "ppo_fast, out", "NumPy loop"} <= result.seconds.keys()
        assert all(seconds > 0 for seconds in result.seconds.values())
        assert result.ratio("ppo_fast") == 1
    printed = capsys.readouterr().out
    for words in ("GAE, T = 5, N = 3", "tokens, B = 2, L = 6", "it / ppo_fast", "share of copy"):
        assert words in printed
    report = json.loads((tmp_path / "new" / "advantage.json").read_text(encoding="utf-8"))
    assert report["machine"]["ppo_fast"] == ppo_fast.build_info()
    assert report["machine"]["versions"]["numpy"] == np.__version__
    assert [result["shape"] for result in report["results"]] == [[5, 3], [4096, 1], [2, 6]]
    twin = report["results"][0]["contenders"]["twin"]
    assert twin["ratio"] == results[0].ratio("twin")
    assert not twin["called_once"]
    assert (tmp_path / "new" / "advantage.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda advantages, returns: (advantages * 1.001, returns), "wrong advantages, off by 1"),
        (lambda advantages, returns: (advantages, returns[::-1]), "wrong returns, off by"),
        (lambda advantages, returns: (advantages, returns * np.nan), "wrong returns, off by nan"),
        (
            lambda advantages, returns: (advantages.T, returns),
            r"shape \(2, 7\) instead of \(7, 2\)",
        ),
    ],
)
def test_a_contender_with_a_wrong_answer_is_refused(change, message):
    with pytest.raises(AssertionError, match=rf"T = 7, N = 2: peer gave .*{message}"):
        bench_advantage(
            seconds=0.001, shapes=((7, 2),), token_shapes=(), peers={"peer": wrapped(change)}
        )


def test_a_slow_contender_is_called_once(monkeypatch, capsys):
    monkeypatch.setattr("ppo_fast.bench.advantage._SLOW", 0.0)
    (result,) = bench_advantage(seconds=0.001, shapes=((3, 2),), token_shapes=(), peers={})
    assert result.called_once == result.seconds.keys()
    assert "*" in capsys.readouterr().out.splitlines()[-3]


def test_problems_of_the_advantage_benchmark():
    steps = rollout(200, 30)
    assert steps.rewards.shape == steps.values.shape == steps.terminated.shape == (200, 30)
    assert 30 < steps.terminated.sum() < 90
    sequences = tokens(5, 40)
    lengths = sequences.mask.sum(axis=1)
    assert ((lengths >= 20) & (lengths <= 40)).all()
    assert np.array_equal(sequences.terminated.nonzero()[1], lengths - 1)
    assert all(array.dtype == np.float32 for array in (steps.rewards, steps.values))


@pytest.mark.filterwarnings("ignore")
def test_the_peers_of_the_advantage_benchmark_agree():
    results = bench_advantage(seconds=0.001, shapes=((9, 4), (64, 1)), token_shapes=((3, 12),))
    peers = installed_peers()
    assert peers.keys() <= {name for result in results for name in result.seconds}


def test_peers_that_are_not_installed_are_left_out(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "scipy.signal", None)
    monkeypatch.setattr(
        "ppo_fast.bench.advantage_peers.PEERS",
        {"SciPy lfilter": ("scipy.signal", lfilter_paths), "ours": ("numpy", wrapped(None))},
    )
    assert list(installed_peers()) == ["ours"]
    assert capsys.readouterr().out.startswith("SciPy lfilter is left out: ")


def test_bench_surrogate(capsys, tmp_path):
    pytest.importorskip("matplotlib")
    torch = pytest.importorskip("torch")
    from ppo_fast.bench.surrogate import EAGER, EAGER_ALONE, bench_surrogate, our_loss

    threads = torch.get_num_threads()
    results = bench_surrogate(
        seconds=0.001,
        batches=(5, 40),
        actions=(3,),
        dims=(2,),
        compiled=False,
        losses={"twin": our_loss},
        out=tmp_path / "new" / "surrogate",
    )
    assert torch.get_num_threads() == threads
    assert [result.problem.title for result in results] == [
        "categorical, batch 5, 3 actions",
        "categorical, batch 40, 3 actions",
        "gaussian, batch 5, 2 dimensions",
        "gaussian, batch 40, 2 dimensions",
    ]
    for result in results:
        assert list(result.seconds) == ["ppo_fast", EAGER, EAGER_ALONE, "twin"]
        assert all(seconds > 0 for seconds in result.seconds.values())
        assert result.ratio("ppo_fast") == 1
    printed = capsys.readouterr().out
    for words in ("gaussian, batch 40, 2 dimensions", "it / ppo_fast", "loss alone"):
        assert words in printed
    report = json.loads((tmp_path / "new" / "surrogate.json").read_text(encoding="utf-8"))
    assert report["machine"]["torch_threads"] == 1
    first = report["results"][0]
    assert (first["family"], first["batch"], first["width"]) == ("categorical", 5, 3)
    assert first["contenders"]["twin"]["ratio"] == results[0].ratio("twin")
    assert (tmp_path / "new" / "surrogate.png").read_bytes().startswith(b"\x89PNG")


def test_a_wrong_gradient_is_refused():
    pytest.importorskip("torch")
    from ppo_fast.bench.surrogate import bench_surrogate, our_loss

    options = {"seconds": 0.001, "batches": (7,), "dims": (), "compiled": False}
    with pytest.raises(
        AssertionError, match=r"batch 7, 2 actions: peer gave a wrong gradient 0, o"
    ):
        bench_surrogate(
            **options, actions=(2,), losses={"peer": lambda problem: 1.001 * our_loss(problem)}
        )


@pytest.fixture
def called(monkeypatch):
    """What the benchmarks, which take no time, are called with."""
    pytest.importorskip("tyro")
    calls = {}
    for name in BENCHMARKS:
        monkeypatch.setitem(
            BENCHMARKS, name, lambda name=name, **options: calls.update({name: options})
        )
    return calls


def test_one_benchmark_by_command(called, tmp_path):
    for options in (["surrogate"], ["--name", "surrogate"]):
        assert main(["bench", *options, "--seconds", "0.5", "--out", str(tmp_path / "s")]) == 0
        assert called == {"surrogate": {"seconds": 0.5, "out": tmp_path / "s"}}


def test_all_benchmarks_by_command(called):
    assert main(["bench", "--seconds", "0.5"]) == 0
    of_all = dict(called)
    assert of_all.keys() == BENCHMARKS.keys()
    assert of_all["envs"] == {"seconds": 0.5, "out": None}
    assert main(["bench", "train"]) == 0
    assert called["train"] == of_all["train"]  # the same defaults


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_script_writes_into_the_folder_of_results(called, name, monkeypatch, tmp_path):
    # These are what `make bench` calls, and the documents show.
    path = str(BENCHMARKS_FOLDER / f"bench_{name}.py")

    def run(*options):
        monkeypatch.setattr(sys, "argv", [path, *options])
        with pytest.raises(SystemExit, match=r"^0$"):
            runpy.run_path(path, run_name="__main__")
        return called[name]

    settings = run()
    assert settings["out"] == BENCHMARKS_FOLDER / "results" / name
    assert settings.get("seeds") == (5 if name == "train" else None)
    assert run("--out", str(tmp_path / "mine"))["out"] == tmp_path / "mine"


def test_contenders_take_turns():
    calls = []
    times = time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.001)
    assert times.keys() == {"a", "b"}
    first_b, last_a = calls.index("b"), len(calls) - 1 - calls[::-1].index("a")
    assert first_b < last_a


def test_slow_contenders_are_called_less_often():
    calls = []
    slow = time_in_turns({"slow": lambda: (calls.append(1), time.sleep(0.002))}, 0.001)
    assert len(calls) == 2 + 3
    assert slow["slow"] >= 0.002


def test_table():
    text = table("title", ["", "n"], [["row", "1"], ["r", "22"]])
    assert text.splitlines() == ["title", "      n", "row   1", "r    22"]
