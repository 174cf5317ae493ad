"""Losses of log-probabilities alone: by hand, against autograd and against the fused loss."""

import math
import subprocess
import sys

import numpy as np
import pytest

import ppo_fast
from ppo_fast import clipped_surrogate, importance_surrogate, kl_penalty_surrogate, reference
from ppo_fast.surrogate import STATS

NOT_OF_LOGP = ("entropy", "value_loss", "explained_variance")
SURROGATES = {
    "importance": (importance_surrogate, {}),
    "clipped": (clipped_surrogate, {"clip_range": 0.2}),
    "clipped higher, dual": (
        clipped_surrogate,
        {"clip_range": 0.1, "clip_range_high": 0.3, "dual_clip": 1.2},
    ),
    "kl": (kl_penalty_surrogate, {"beta": 0.7}),
}


def arrays(size, seed=0, dtype=np.float64):
    rng = np.random.default_rng(seed)
    logp = -rng.exponential(size=size)
    return {
        "logp": logp.astype(dtype),
        "old_logp": (logp + 0.3 * rng.normal(size=size)).astype(dtype),
        "advantages": rng.normal(size=size).astype(dtype),
        "kl": (0.1 * rng.exponential(size=size)).astype(dtype),
        "weights": rng.exponential(size=size).astype(dtype),
        "mask": rng.random(size) < 0.7,
    }


def call(name, batch, **options):
    surrogate, settings = SURROGATES[name]
    kl = (batch["kl"],) if name == "kl" else ()
    return surrogate(
        batch["logp"], batch["old_logp"], batch["advantages"], *kl, **settings | options
    )


def reference_of(name, batch, **options):
    _, settings = SURROGATES[name]
    settings = dict(settings)
    objective = "clipped" if "clip_range" in settings else "importance"
    if name == "kl":
        settings = {"kl": batch["kl"], "kl_coef": settings["beta"]}
    loss, stats = reference.fused_loss(
        batch["logp"],
        np.zeros_like(batch["logp"]),
        batch["advantages"],
        objective=objective,
        old_logp=batch["old_logp"],
        **settings,
        **options,
    )
    names = [key for key in STATS if key not in NOT_OF_LOGP and (key != "kl" or name == "kl")]
    return loss, {key: stats[key] for key in names}


def test_worked_by_hand():
    # r = 2 and 1/2, A = 1 and 2, KL = 0.1 and 0.3.
    batch = {
        "logp": np.log([0.5, 0.5]),
        "old_logp": np.log([0.25, 1.0]),
        "advantages": np.array([1.0, 2.0]),
        "kl": np.array([0.1, 0.3]),
    }
    assert call("importance", batch)[0] == pytest.approx(-(2 + 1) / 2)
    # min(2, 1.2) and min(1, 1.6)
    assert call("clipped", batch)[0] == pytest.approx(-(1.2 + 1) / 2)
    loss, stats = call("kl", batch)
    assert loss == pytest.approx(-(2 + 1) / 2 + 0.7 * 0.2)
    assert stats["kl"] == pytest.approx(0.2)
    assert stats["policy_loss"] == pytest.approx(-1.5)
    assert stats["effective_sample_size"] == pytest.approx(6.25 / 8.5)
    # Weights 3 and 1: means of 4; ESS = (3 * 2 + 1/2)^2 / (4 (3 * 4 + 1/4)).
    loss, stats = call("importance", batch, weights=np.array([3.0, 1.0]))
    assert loss == pytest.approx(-(3 * 2 + 1) / 4)
    assert stats["effective_sample_size"] == pytest.approx(42.25 / 49)
    # A dual clip of 1.2 for A < 0: max(min(2 A, 1.3 A), 1.2 A) = 1.2 A.
    batch["advantages"] = np.array([-1.0, 2.0])
    assert call("clipped higher, dual", batch)[0] == pytest.approx(-(-1.2 + 1) / 2)


@pytest.mark.parametrize("sign", [1, -1])
def test_sample_size_beyond_the_limit(sign):
    # Relative ratios 1, e^-1 and 0, although all are limited to the same one.
    logp = sign * 100.0 + np.array([0.0, -1.0, -900.0])
    _, stats = importance_surrogate(logp, np.zeros(3), np.ones(3))
    assert stats["limited_fraction"] == 1
    assert stats["effective_sample_size"] == pytest.approx(
        (1 + math.exp(-1)) ** 2 / (3 * (1 + math.exp(-2)))
    )
    # One whose action has become impossible, and then nothing but such.
    _, stats = importance_surrogate(np.array([0.0, -np.inf]), np.zeros(2), np.ones(2))
    assert stats["effective_sample_size"] == 0.5
    _, stats = importance_surrogate(np.full(2, -np.inf), np.zeros(2), np.ones(2))
    assert stats["effective_sample_size"] == 0


@pytest.mark.parametrize("options", [{}, {"normalize_advantages": True}])
@pytest.mark.parametrize("use", [(), ("weights",), ("mask",), ("weights", "mask")])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-10), (np.float32, 1e-4)])
@pytest.mark.parametrize("name", list(SURROGATES))
@pytest.mark.parametrize("size", [2, 33, 100])
def test_equals_reference(size, name, dtype, tolerance, use, options):
    batch = arrays(size, size, dtype)
    options = options | {key: batch[key] for key in use}
    loss, stats = call(name, batch, **options)
    expected, expected_stats = reference_of(name, batch, **options)
    close = {"rel": tolerance, "abs": tolerance / 100, "nan_ok": True}
    assert isinstance(loss, float)
    assert loss == pytest.approx(expected, **close)
    assert list(stats) == list(expected_stats)
    assert stats == pytest.approx(expected_stats, **close)


@pytest.mark.parametrize("use", [(), ("weights", "mask")])
@pytest.mark.parametrize("bits", [64, 32])
@pytest.mark.parametrize("name", list(SURROGATES))
def test_gradients(name, bits, use):
    torch = pytest.importorskip("torch")
    dtype, tolerance = {64: (torch.float64, 1e-10), 32: (torch.float32, 1e-4)}[bits]
    batch = {
        key: torch.from_numpy(x).to(torch.bool if key == "mask" else dtype)
        for key, x in arrays(50, 7, np.float32).items()
    }
    exact = {key: x if key == "mask" else x.double() for key, x in batch.items()}
    leaves = [(x["logp"].requires_grad_(), x["kl"].requires_grad_()) for x in (batch, exact)]
    loss, stats = call(name, batch, **{key: batch[key] for key in use})
    assert loss.dtype == dtype
    assert all(x.dtype == torch.float64 for x in stats.values())

    w = torch.ones(50, dtype=torch.float64)
    if use:
        w = exact["weights"] * exact["mask"]
    ratio = (exact["logp"] - exact["old_logp"]).exp()
    a = exact["advantages"]
    term = ratio * a
    _, settings = SURROGATES[name]
    if "clip_range" in settings:
        high = 1 + settings.get("clip_range_high", settings["clip_range"])
        term = torch.min(term, ratio.clamp(1 - settings["clip_range"], high) * a)
    if "dual_clip" in settings:
        term = torch.where(a < 0, torch.max(term, settings["dual_clip"] * a), term)
    if name == "kl":
        term = term - 0.7 * exact["kl"]
    expected = -(w * term).sum() / w.sum()
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    wanted = 2 if name == "kl" else 1
    ours = torch.autograd.grad(loss, leaves[0][:wanted])
    truth = torch.autograd.grad(expected, leaves[1][:wanted])
    for x, y in zip(ours, truth, strict=True):
        assert x.dtype == dtype
        assert (x.double() - y).abs().max() <= tolerance * y.abs().max()
        if use:
            assert (x[~batch["mask"]] == 0).all()


# Dynamo itself makes an autograd.Function and meant to silence the warning about that.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("name", list(SURROGATES))
def test_gradcheck_and_graph(name):
    torch = pytest.importorskip("torch")
    batch = {key: torch.from_numpy(x) for key, x in arrays(8).items()}
    leaves = [batch[key].requires_grad_() for key in ("logp", "kl")][: 2 if name == "kl" else 1]

    def loss(*leaves):
        names = ("logp", "kl")[: len(leaves)]
        return call(name, batch | dict(zip(names, leaves, strict=True)), mask=batch["mask"])[0]

    assert torch.autograd.gradcheck(loss, leaves)
    torch._dynamo.reset()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(*leaves), loss(*leaves))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_equals_the_fused_loss(dtype):
    # The same per-sample code: bit for bit.
    rng = np.random.default_rng(0)
    dist = ppo_fast.Gaussian(rng.normal(size=(70, 2)).astype(dtype), np.zeros(2, dtype))
    actions, logp, _ = dist.sample(seed=0, step=0)
    batch = arrays(70, 1, dtype) | {"logp": logp}
    batch["old_logp"] = (logp + batch["kl"]).astype(dtype)
    options = {"weights": batch["weights"], "mask": batch["mask"], "normalize_advantages": True}
    loss, stats = call("clipped", batch, **options)
    expected, expected_stats = ppo_fast.ppo_loss(
        dist, actions, batch["old_logp"], batch["advantages"], None, None,
        clip_range=0.2, entropy_coef=0.0, value_coef=0.0, **options,
    )  # fmt: skip
    assert loss == expected
    for name, value in stats.items():
        np.testing.assert_equal(value, expected_stats[name])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", list(SURROGATES))
@pytest.mark.parametrize("size", [1, 40])
def test_never_a_nan_out_of_finite_input(size, name, dtype):
    batch = arrays(size, 2, dtype)
    for key, start in (("logp", 0), ("old_logp", 0), ("logp", 1), ("old_logp", 2)):
        batch[key][start::4] = -np.inf  # both, the new one, the old one
    batch["advantages"][::5] = 0
    for normalize in (False, True):
        loss, stats = call(name, batch, normalize_advantages=normalize)
        assert math.isfinite(loss)
        assert all(math.isfinite(x) for x in stats.values())
    # What is limited has no gradient; what is not keeps its own.
    torch = pytest.importorskip("torch")
    tensors = {key: torch.from_numpy(x) for key, x in batch.items()}
    loss, _ = call(name, tensors | {"logp": tensors["logp"].requires_grad_()})
    (gradient,) = torch.autograd.grad(loss, tensors["logp"])
    infinite = torch.isinf(tensors["logp"]) | torch.isinf(tensors["old_logp"])
    assert (gradient[infinite] == 0).all()
    assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("outside", [0, 1])
@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
def test_bounds_are_inclusive(side, outside, advantage):
    torch = pytest.importorskip("torch")
    # A log-ratio whose float64 exp is the bound itself or the next number beyond it.
    bound = 1.0 + side * 0.2
    target = np.nextafter(bound, side * np.inf) if outside else bound
    guess = math.log(target)
    for offset in range(-40, 41):
        logp = torch.tensor([guess + offset * np.spacing(guess)], dtype=torch.float64)
        zero = torch.zeros(1, dtype=torch.float64)
        a = torch.tensor([advantage], dtype=torch.float64)
        loss, stats = clipped_surrogate(logp.requires_grad_(), zero, a, clip_range=0.2)
        if stats["ratio_mean"] == target:
            break
    else:
        raise AssertionError(f"no ratio of {target}")
    assert stats["clip_fraction"] == outside
    (gradient,) = torch.autograd.grad(loss, logp)
    clipped = outside and side == advantage
    assert gradient.item() == (0 if clipped else -target * advantage)


@pytest.mark.parametrize("name", list(SURROGATES))
def test_strides_change_no_bit(name):
    batch = arrays(33)
    wide = {key: np.repeat(x, 3)[::3] for key, x in batch.items()}
    back = {key: x[::-1].copy()[::-1] for key, x in batch.items()}
    expected = call(name, batch, weights=batch["weights"], mask=batch["mask"])
    for other in (wide, back):
        again = call(name, other, weights=other["weights"], mask=other["mask"])
        assert again[0] == expected[0]
        np.testing.assert_equal(again[1], expected[1])


def test_without_torch():
    script = """
import sys
sys.modules["torch"] = None
import numpy as np
from ppo_fast import clipped_surrogate, importance_surrogate, kl_penalty_surrogate
x = np.zeros(4)
assert importance_surrogate(x, x, x + 1)[0] == -1
assert clipped_surrogate(x + 1, x, x + 1, clip_range=0.5)[0] == -1.5
loss, stats = kl_penalty_surrogate(x, x, x + 1, x + 2, beta=0.25)
assert loss == -0.5 and stats["kl"] == 2, stats
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "change", "error", "message"),
    [
        ("importance", {"logp": [0.0]}, TypeError, "logp must be a NumPy array or a torch tensor"),
        ("importance", {"logp": np.zeros(8, int)}, TypeError, "logp must be float32 or float64"),
        ("importance", {"logp": np.zeros((8, 1))}, ValueError, r"logp must have shape \(B,\) with"),
        (
            "importance",
            {"logp": np.zeros(0)},
            ValueError,
            r"logp must have shape \(B,\) with at le",
        ),
        ("importance", {"old_logp": np.zeros(7)}, ValueError, r"old_logp must have shape \(8,\)"),
        ("importance", {"old_logp": None}, TypeError, "old_logp is missing, got None"),
        (
            "clipped",
            {"advantages": np.zeros(8, np.float32)},
            TypeError,
            "advantages must be float64",
        ),
        ("kl", {"kl": None}, ValueError, "kl is missing; the KL penalty needs it"),
        ("kl", {"kl": np.zeros(7)}, ValueError, r"kl must have shape \(8,\) \(one per sample\)"),
    ],
)
def test_errors(name, change, error, message):
    with pytest.raises(error, match=f"^{SURROGATES[name][0].__name__}: {message}"):
        call(name, arrays(8) | change)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"clip_range": 0.0}, ValueError, "clip_range must be positive, got 0.0"),
        ({"clip_range": None}, ValueError, "clip_range is missing; the clipped objective needs"),
        ({"dual_clip": 0.5}, ValueError, "dual_clip must be above 1, got 0.5"),
        ({"weights": np.zeros(8)}, ValueError, "weights leaves no sample; at least one must count"),
        ({"weights": np.zeros(8, int)}, TypeError, "weights must be float64 like logp, got int64"),
        ({"mask": np.ones(8)}, TypeError, "mask must be bool, got float64; cast with mask.astype"),
        ({"mask": np.ones(7, bool)}, ValueError, r"mask must have shape \(8,\) \(one per sample\)"),
        ({"normalize_advantages": None}, TypeError, "normalize_advantages must be True or False"),
    ],
)
def test_errors_of_options(options, error, message):
    with pytest.raises(error, match=f"^clipped_surrogate: {message}"):
        call("clipped", arrays(8), **options)
