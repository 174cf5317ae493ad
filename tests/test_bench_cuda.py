"""The benchmark of the GPU and the script of compute-sanitizer, also without a GPU."""

import importlib.util
import itertools
import json
import time
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")

import ppo_fast.cuda  # noqa: E402 - after the check for torch
from ppo_fast.bench.cuda import CudaTimer, bench_cuda  # noqa: E402
from ppo_fast.bench.cuda_training import measure_training, show_training  # noqa: E402

EVERY_KERNEL = Path(__file__).parent / "cuda" / "every_kernel.py"


class WallTimer:
    """Both times of the CPU."""

    def host(self, call):
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    device = host


def test_bench_cuda(tmp_path, device, capsys):
    results = bench_cuda(
        timer=WallTimer() if device == "cpu" else CudaTimer(0.05),
        device=device,
        rollouts=[(5, 33), (40, 3)],
        rows=[(2, 70)],
        cut=[((5, 33), 0)],
        tokens=[(2, 70)],
        batches=[64],
        envs=["CartPole-v1", "Pendulum-v1"],
        num_envs=[33],
        training=[],
        copy_bytes=1 << 16,
        checks=["Tests: fine"],
        out=tmp_path / "cuda",
    )
    assert len(results) == 9
    assert all(r.device_seconds > 0 and r.host_seconds > 0 for r in results)
    report = json.loads((tmp_path / "cuda.json").read_text())
    assert [r["what"] for r in report["results"]] == [r.what for r in results]
    assert report["checks"] == ["Tests: fine"]
    text = (tmp_path / "cuda.md").read_text()
    assert "- Tests: fine" in text
    assert text.count("\n| ") == 1 + len(results)
    assert "CartPole-v1" in capsys.readouterr().out


def test_wrong_answers_are_not_timed(device, monkeypatch):
    gae = ppo_fast.bench.cuda.advantage.gae
    factors = itertools.count(1)
    monkeypatch.setattr(
        "ppo_fast.bench.cuda.advantage.gae",
        lambda *a, **k: [factor * x for factor in [next(factors)] for x in gae(*a, **k)],
    )
    with pytest.raises(AssertionError, match=r"gae differs from the CPU by"):
        bench_cuda(device=device, timer=WallTimer(), rollouts=[(5, 33)], copy_bytes=1 << 16)


def test_training(device, monkeypatch, capsys):
    pytest.importorskip("tensorboard")
    pytest.importorskip("matplotlib")
    if device == "cpu":
        monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
    timer = WallTimer() if device == "cpu" else CudaTimer(0.05)
    (result,) = measure_training(timer.device, shapes=[(16, 12)], updates=5)
    assert (result.num_envs, result.num_steps) == (16, 12)
    assert result.steps_per_second > 0
    assert result.env_steps_per_second > 0
    assert 0 < result.rollout_share < 1
    show_training([result])
    assert "CartPole-v1, 16" in capsys.readouterr().out


def test_every_kernel(device, monkeypatch):
    spec = importlib.util.spec_from_file_location("every_kernel", EVERY_KERNEL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.DEVICE = device
    if device == "cpu":
        monkeypatch.setattr(module, "POLICIES", module.POLICIES[:2])
    if device == "cpu":
        # make_vec knows the devices by name.
        make_vec = ppo_fast.make_vec
        monkeypatch.setattr(ppo_fast.cuda, "place", lambda name: torch.device("cpu"))
        monkeypatch.setattr(
            ppo_fast, "make_vec", lambda *a, device, **k: make_vec(*a, device="cuda", **k)
        )
    module.main()


def test_without_a_gpu():
    reason = ppo_fast.build_info()["cuda_off"]
    if not reason:
        pytest.skip("there is a GPU")
    with pytest.raises(RuntimeError, match=r"^bench_cuda: device='cuda' cannot be used here: "):
        bench_cuda(timer=WallTimer())
