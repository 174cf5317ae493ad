"""The examples run, and their two ways agree."""

import runpy
import subprocess
import sys
from pathlib import Path

import gymnasium
import pytest

import ppo_fast

torch = pytest.importorskip("torch")

CLEANRL = Path(__file__).parents[1] / "examples" / "cleanrl_advantages.py"


@pytest.fixture(scope="module")
def cleanrl():
    return runpy.run_path(str(CLEANRL), run_name="loaded")


def test_cleanrl_script_runs():
    process = subprocess.run(
        [sys.executable, CLEANRL, "--repeats", "1"], capture_output=True, text=True, timeout=120
    )
    assert process.returncode == 0, process.stderr
    header, *rows = process.stdout.splitlines()
    assert header.split("  ")[-1].strip() == "one call, ms"
    assert [tuple(map(int, row.split()[:2])) for row in rows] == [
        (128, 4),
        (128, 8),
        (2048, 1),
        (32, 4096),
    ]
    assert all(float(number) > 0 for row in rows for number in row.split()[2:])


@pytest.mark.parametrize(("num_steps", "num_envs"), [(1, 1), (1, 5), (7, 1), (128, 8), (33, 100)])
def test_cleanrl_loop_and_call_agree(cleanrl, num_steps, num_envs):
    torch.manual_seed(num_steps)
    rewards, values, dones, next_value, next_done = cleanrl["random_rollout"](num_steps, num_envs)
    before = [x.clone() for x in (rewards, values, dones, next_value, next_done)]
    theirs = cleanrl["loop"](rewards, values, dones, next_value, next_done)
    ours = cleanrl["one_call"](rewards, values, dones, next_value, next_done)
    flags_as_bool = cleanrl["one_call"](rewards, values, dones != 0, next_value, next_done != 0)
    for a, b, c in zip(ours, flags_as_bool, theirs, strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, c)
    for x, y in zip((rewards, values, dones, next_value, next_done), before, strict=True):
        assert torch.equal(x, y)


def test_cleanrl_by_hand(cleanrl):
    rewards, values = torch.tensor([[1.0], [2.0]]), torch.tensor([[4.0], [8.0]])
    dones, next_value, next_done = torch.zeros(2, 1), torch.tensor([[16.0]]), torch.zeros(1)
    last = 2 + 0.99 * 16 - 8
    for function in ("loop", "one_call"):
        advantages, returns = cleanrl[function](rewards, values, dones, next_value, next_done)
        expected = [[1 + 0.99 * 8 - 4 + 0.99 * 0.95 * last], [last]]
        torch.testing.assert_close(advantages, torch.tensor(expected))
        torch.testing.assert_close(returns, torch.tensor(expected) + values)


def test_cleanrl_example_would_notice_a_difference(cleanrl):
    functions = cleanrl["main"].__globals__
    ours = functions["one_call"]

    def wrong(*rollout):
        advantages, returns = ours(*rollout)
        return advantages + 1e-3, returns

    functions["one_call"] = wrong
    try:
        with pytest.raises(AssertionError):
            cleanrl["main"]([(4, 2)], 1)
    finally:
        functions["one_call"] = ours


def test_atari_games_are_trained_on(tmp_path, monkeypatch):
    pytest.importorskip("ale_py")
    monkeypatch.syspath_prepend(CLEANRL.parent)
    out = tmp_path / "run"
    config = ppo_fast.TrainConfig(
        "atari:Atari-v0",
        env_kwargs={"game": "Pong"},
        encoder="cnn",
        hidden_sizes=(16,),
        shared_trunk=True,
        num_envs=2,
        num_steps=8,
        minibatch_size=8,
        total_steps=16,
        eval_episodes=0,
        out=out,
    )
    result = ppo_fast.train(config)
    assert result.policy.observations.space.shape == (4, 105, 80)
    env = gymnasium.make("atari:Atari-v0", game="Pong")
    assert result.policy.predict(env.reset(seed=1)[0]) in range(6)
