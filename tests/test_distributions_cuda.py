"""Distributions on a CUDA device, or on the CPU in its place (conftest.py: `device`)."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from distribution_cases import FAMILIES, Case, assert_close, distribution  # noqa: E402

from ppo_fast.distributions import (  # noqa: E402
    Categorical,
    Gaussian,
    MultiCategorical,
    StateDependentNoise,
)

DTYPES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]


def moved(case, device):
    """Leaves on the device, their distribution, and the old one."""
    leaves = [x.detach().to(device).requires_grad_() for x in case.leaves]
    mask = None if case.mask is None else case.mask.to(device)
    old = [x.to(device) for x in case.old]
    return leaves, distribution(case.family, leaves, mask), distribution(case.family, old, mask)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("size", [1, 40, 1000])
@pytest.mark.parametrize("family", FAMILIES)
def test_samples_are_the_cpus(family, size, dtype, tolerance, deterministic, device, on_cpu):
    case = Case(family, size, dtype=dtype)
    where = {"seed": 5, "step": 7, "first_id": 3, "deterministic": deterministic}
    expected = on_cpu(lambda: case.dist.sample(**where))
    ours = moved(case, device)[1].sample(**where)
    assert all(x.device.type == device for x in ours)
    assert ours.actions.dtype == torch.from_numpy(expected.actions).dtype
    if ours.actions.dtype == torch.int64:
        # A probability that differs in its last bit may turn one draw in millions.
        np.testing.assert_array_equal(ours.actions.cpu(), expected.actions)
    else:
        assert_close(ours.actions.cpu(), torch.from_numpy(expected.actions), tolerance)
    assert_close(ours.logp.cpu(), torch.from_numpy(expected.logp), tolerance)
    assert_close(ours.entropy.cpu(), torch.from_numpy(expected.entropy), tolerance)


def noise_of(size, device, dtype=torch.float64):
    generator = torch.Generator().manual_seed(size)

    def normal(*shape):
        return torch.randn(shape, generator=generator, dtype=dtype).to(device)

    return StateDependentNoise(normal(size, 3), normal(size, 5), normal(5, 3) / 4)


@pytest.mark.parametrize("step", [0, 6, 8])
def test_state_dependent_noise(step, device, on_cpu):
    where = {"seed": 5, "step": step, "sample_freq": 4}
    expected = on_cpu(lambda: noise_of(50, "cpu").sample(**where))
    ours = noise_of(50, device).sample(**where)
    assert_close(ours.actions.cpu(), torch.from_numpy(expected.actions), 1e-12)
    assert_close(ours.logp.cpu(), torch.from_numpy(expected.logp), 1e-10)


def test_state_dependent_noise_of_nothing(device):
    """A tensor without elements has no address, but is given all the same."""
    mean = torch.ones(4, 3, device=device)
    dist = StateDependentNoise(mean, mean.new_empty(4, 0), mean.new_empty(0, 3))
    assert torch.equal(dist.sample(seed=1, step=0).actions, mean)


def test_a_step_in_device_memory(device):
    dist = Categorical(torch.zeros(100, 4, device=device))
    step = torch.tensor(3, device=device)
    results = []
    for k in (3, 4):
        step.fill_(k)
        actions = torch.empty(100, dtype=torch.int64, device=device)
        logp = torch.empty(100, device=device)
        dist.sample_into(actions, logp, seed=1, step=step)
        np.testing.assert_array_equal(actions.cpu(), dist.sample(seed=1, step=k).actions.cpu())
        results.append(actions)
    assert not torch.equal(*results)
    for bad, error, message in (
        (torch.tensor(3.0, device=device), TypeError, "must be an integer or an int64 tensor"),
        (torch.tensor([3], device=device), ValueError, r"must have shape \(\)"),
    ):
        with pytest.raises(error, match=f"^sample: step {message}"):
            dist.sample_into(actions, logp, seed=1, step=bad)


def test_sample_into_strides(device):
    dist = Gaussian(torch.randn(40, 3).to(device), torch.zeros(3, device=device))
    expected = dist.sample(seed=1, step=2)
    rows = torch.zeros(40, 2, 3, device=device)
    columns = torch.zeros(40, 2, device=device)
    dist.sample_into(rows[:, 1], columns[:, 0], entropy=columns[:, 1], seed=1, step=2)
    assert torch.equal(rows[:, 1], expected.actions)
    assert torch.equal(columns[:, 0], expected.logp)
    assert torch.equal(columns[:, 1], expected.entropy)
    assert not rows[:, 0].any()


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("size", [1, 33, 1000])
@pytest.mark.parametrize("family", FAMILIES)
def test_evaluate_and_kl_with_gradients(family, size, dtype, tolerance, device, on_cpu):
    case = Case(family, size, dtype=dtype)
    weights = torch.linspace(-1, 2, size, dtype=dtype)

    def run(dist, old_dist, actions, leaves, weights):
        logp, entropy = dist.evaluate(actions)
        kl = old_dist.kl(dist)
        first = torch.autograd.grad((weights * logp + weights.square() * entropy).sum(), leaves)
        second = torch.autograd.grad((weights * kl).sum(), leaves)
        return [logp, entropy, kl, *first, *second]

    leaves, dist, old_dist = moved(case, device)
    ours = run(dist, old_dist, case.actions.to(device), leaves, weights.to(device))
    expected = on_cpu(lambda: run(case.dist, case.old_dist, case.actions, case.leaves, weights))
    for a, b in zip(ours, expected, strict=True):
        assert a.device.type == device
        assert_close(a.cpu(), b, tolerance)


def test_the_same_bits_every_time(device, on_cpu):
    # So many that a lane has several.
    leaves, dist, old_dist = moved(Case("gaussian", 33000, dtype=torch.float32), device)
    results = [torch.autograd.grad(old_dist.kl(dist).sum(), leaves) for _ in range(2)]
    for a, b in zip(*results, strict=True):
        assert torch.equal(a, b)
    case = Case("gaussian", 33000, dtype=torch.float32)
    expected = on_cpu(lambda: torch.autograd.grad(case.old_dist.kl(case.dist).sum(), case.leaves))
    for a, b in zip(results[0], expected, strict=True):
        assert_close(a.cpu(), b, 1e-5)


def test_what_the_cpu_refuses_is_nan(device):
    logits = torch.zeros(40, 3, device=device)
    logits[7] = -torch.inf
    logits[8, 1] = torch.nan
    sample = Categorical(logits).sample(seed=0, step=0)
    bad = torch.zeros(40, dtype=torch.bool)
    bad[7:9] = True
    assert torch.equal(sample.logp.isnan().cpu(), bad)
    assert ((sample.actions >= 0) & (sample.actions < 3)).all()
    actions = sample.actions.clone()
    actions[3] = 3
    bad[3] = True
    logp, entropy = Categorical(logits).evaluate(actions)
    assert torch.equal(logp.isnan().cpu(), bad)
    assert torch.equal(entropy.isnan().cpu(), bad)
    kl = Categorical(logits).kl(Categorical(logits)).cpu()
    assert kl.isnan().tolist() == [i in (7, 8) for i in range(40)]


def test_errors(device):
    logits = torch.zeros(4, 3, device=device)
    actions = torch.zeros(4, dtype=torch.int64, device=device)
    with pytest.raises(ValueError, match=r"^evaluate: actions must have shape \(4,\)"):
        Categorical(logits).evaluate(actions[:3])
    with pytest.raises(TypeError, match=r"^evaluate: actions must be int64, got int32"):
        Categorical(logits).evaluate(actions.int())
    with pytest.raises(ValueError, match=r"^evaluate: actions must be on .*, got meta"):
        Categorical(logits).evaluate(actions.to("meta"))
    with pytest.raises(ValueError, match=r"^sample: seed must be an integer in"):
        Categorical(logits).sample(seed=-1, step=0)
    with pytest.raises(TypeError, match=r"^sample: logits must be float32 or float64, got float16"):
        Categorical(logits.half()).sample(seed=0, step=0)
    with pytest.raises(TypeError, match=r"must be a tensor, got numpy\.ndarray"):
        Categorical(logits).sample_into(actions, np.zeros(4, np.float32), seed=0, step=0)
    with pytest.raises(TypeError, match=r"^evaluate: logits has its negative bit set; pass"):
        Categorical(torch.complex(logits, logits).conj().imag).evaluate(actions)
    many = MultiCategorical(torch.zeros(4, 258, device=device), (2,) * 129)
    with pytest.raises(ValueError, match=r"^sample: nvec must have at most 128 choices on a GPU"):
        many.sample(seed=0, step=0)
    with pytest.raises(ValueError, match=r"^kl: logits must have shape \(5, 3\)"):
        Categorical(logits).kl(Categorical(torch.zeros(5, 3, device=device)))
    step = np.int64(3)  # a number as well
    assert Categorical(logits).sample(seed=0, step=step).actions.shape == (4,)
    no_rows = Categorical(torch.zeros(0, 3, device=device)).sample(seed=0, step=0)
    assert no_rows.actions.shape == (0,)
