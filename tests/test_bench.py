"""The benchmarks run, check their answers, and print a table."""

import runpy
from pathlib import Path

import numpy as np
import pytest

from ppo_fast.bench.envs import bench_envs, check_answers
from ppo_fast.bench.timing import table, time_in_turns


def test_bench_envs(capsys):
    rates = bench_envs(seconds=0.01, sizes=(1, 2), peers={"idle": lambda n: lambda actions: None})
    assert rates.keys() == {1, 2}
    assert {"ppo_fast", "gymnasium sync", "idle"} <= rates[1].keys()
    assert all(rate > 0 for row in rates.values() for rate in row.values())
    printed = capsys.readouterr().out
    assert "million env-steps/s" in printed
    assert "idle" in printed


def test_a_wrong_answer_stops_the_benchmark(monkeypatch):
    from ppo_fast.envs import NativeVectorEnv

    step = NativeVectorEnv.step

    def wrong(self, actions):
        obs, *rest = step(self, actions)
        return np.nextafter(obs, 9, dtype=np.float32), *rest

    monkeypatch.setattr(NativeVectorEnv, "step", wrong)
    with pytest.raises(AssertionError, match="differs from Gymnasium's"):
        check_answers(num_envs=3, steps=2)


def test_contenders_take_turns():
    calls = []
    times = time_in_turns({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, 0.001)
    assert times.keys() == {"a", "b"}
    first_b, last_a = calls.index("b"), len(calls) - 1 - calls[::-1].index("a")
    assert first_b < last_a


def test_table():
    text = table("title", ["", "n"], [["row", "1"], ["r", "22"]])
    assert text.splitlines() == ["title", "      n", "row   1", "r    22"]


@pytest.mark.parametrize("name", ["bench_envs", "bench_train"])
def test_scripts_load(name):
    path = Path(__file__).parent.parent / "benchmarks" / f"{name}.py"
    assert runpy.run_path(str(path), run_name="loaded")["__doc__"]
