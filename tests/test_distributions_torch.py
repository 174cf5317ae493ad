"""evaluate and kl of every family against torch, with gradients; operators; errors."""

import copy
import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from distribution_cases import FAMILIES, Case, assert_close, distribution, log_slope  # noqa: E402
from noise_cases import NOISE_ERRORS, noise_of  # noqa: E402

from ppo_fast.distributions import (  # noqa: E402
    Categorical,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    StateDependentNoise,
)

SIZES = [1, 31, 32, 33, 100]
DTYPES = [(torch.float64, 1e-10), (torch.float32, 1e-4)]


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", SIZES)
def test_terms_and_gradients_equal_torch(size, family, dtype, tolerance):
    case = Case(family, size, seed=size, dtype=dtype)
    logp, entropy = case.dist.evaluate(case.actions)
    kl = case.old_dist.kl(case.dist)
    doubles = case.doubles()
    expected = case.expected(doubles)
    generator = torch.Generator().manual_seed(1)
    for ours, theirs in zip((logp, entropy, kl), expected, strict=True):
        assert ours.dtype == dtype
        assert_close(ours, theirs, tolerance)
        # Weights of both signs, so that no sample can hide another.
        weights = torch.randn(size, generator=generator, dtype=torch.float64)
        if not theirs.requires_grad:
            continue
        total = (ours * weights.to(dtype)).sum()
        gradients = torch.autograd.grad(total, case.leaves, retain_graph=True)
        truth = torch.autograd.grad(
            (theirs * weights).sum(), doubles, allow_unused=True, retain_graph=True
        )
        for a, b in zip(gradients, truth, strict=True):
            assert a.dtype == dtype
            assert_close(a, torch.zeros_like(a) if b is None else b, tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_numpy_agrees_bitwise(family):
    case = Case(family, 40, dtype=torch.float32)
    mask = None if case.mask is None else case.mask.numpy()
    dist = distribution(family, [x.detach().numpy() for x in case.leaves], mask)
    old = distribution(family, [x.numpy() for x in case.old], mask)
    for ours, theirs in zip(
        (*dist.evaluate(case.actions.numpy()), old.kl(dist)),
        (*case.dist.evaluate(case.actions), case.old_dist.kl(case.dist)),
        strict=True,
    ):
        assert isinstance(ours, np.ndarray)
        assert ours.tobytes() == theirs.detach().numpy().tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_sampling_and_evaluating_agree_bitwise(family):
    case = Case(family, 70, dtype=torch.float32)
    actions, logp, entropy = case.dist.sample(seed=5, step=6)
    again, entropy_again = case.dist.evaluate(torch.from_numpy(actions))
    assert logp.tobytes() == again.detach().numpy().tobytes()
    assert entropy.tobytes() == entropy_again.detach().numpy().tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_kl_of_equal_policies_is_zero(family):
    case = Case(family, 40)
    kl = case.dist.kl(case.dist)
    assert (kl == 0).all()
    for gradient in torch.autograd.grad(kl.sum(), case.leaves):
        assert (gradient == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_gradcheck(family):
    case = Case(family, 3, dims=2)

    def terms(*leaves):
        dist = distribution(family, leaves, case.mask)
        return *dist.evaluate(case.actions), case.old_dist.kl(dist)

    assert torch.autograd.gradcheck(terms, case.leaves)


@pytest.mark.parametrize("family", FAMILIES)
def test_operators(family):
    import ppo_fast.torch_ops  # noqa: F401 (registers them)

    case = Case(family, 20)
    p = case.dist._parameters()
    old = case.old_dist._parameters()
    ops = torch.ops.ppo_fast
    tensors = tuple(None if x is None else x.detach() for x in (p.first, p.second, p.mask))
    nvec = None if p.nvec is None else list(p.nvec)
    column = torch.ones(20, dtype=torch.float64)
    before = (old.first, old.second, old.mask)
    check = torch.library.opcheck
    check(ops.evaluate.default, (*tensors, case.actions, p.family, nvec))
    check(ops.evaluate_backward.default, (*tensors, case.actions, column, column, p.family, nvec))
    check(ops.kl.default, (*tensors, *before, p.family, nvec, nvec))
    check(ops.kl_backward.default, (*tensors, *before, column, p.family, nvec, nvec))


@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("family", ["masked-multi", "gaussian", "squashed-per-sample"])
def test_compiles_to_one_graph(family):
    case = Case(family, 40)

    def total(*leaves):
        dist = distribution(family, leaves, case.mask)
        logp, entropy = dist.evaluate(case.actions)
        return (logp + 2 * entropy + 3 * case.old_dist.kl(dist)).sum()

    torch._dynamo.reset()
    compiled = torch.compile(total, fullgraph=True, backend="aot_eager")
    ours, expected = compiled(*case.leaves), total(*case.leaves)
    assert torch.equal(ours, expected)
    for a, b in zip(
        torch.autograd.grad(ours, case.leaves),
        torch.autograd.grad(expected, case.leaves),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("family", FAMILIES)
def test_drawn_actions_can_be_evaluated(family):
    case = Case(family, 8, dtype=torch.float32)
    drawn = case.dist.sample(seed=0, step=0)
    logp, _ = case.dist.evaluate(drawn.actions)
    assert logp.detach().numpy().tobytes() == drawn.logp.tobytes()


@pytest.mark.parametrize("is_weighted", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_second_derivatives_are_refused(family, is_weighted):
    case = Case(family, 8)
    weight = torch.ones((), dtype=torch.float64, requires_grad=is_weighted)
    for result in (case.dist.evaluate(case.actions)[0], case.old_dist.kl(case.dist)):
        (gradient, *_) = torch.autograd.grad(
            (weight * result).sum(), case.leaves, create_graph=True
        )
        with pytest.raises(RuntimeError, match="differentiate twice"):
            gradient.sum().backward()


def test_strides_change_no_bit():
    for family in FAMILIES:
        case = Case(family, 33)
        wide = [x.detach().repeat_interleave(2, -1)[..., ::2].requires_grad_() for x in case.leaves]
        columns = [x.detach().t().contiguous().t().requires_grad_() for x in case.leaves]
        expected = case.dist.evaluate(case.actions)
        for leaves in (wide, columns):
            for a, b in zip(
                distribution(family, leaves, case.mask).evaluate(case.actions),
                expected,
                strict=True,
            ):
                assert torch.equal(a, b)


def test_expanded_log_std_has_a_gradient_per_row():
    # A row stride of 0 is not the same as one row for all samples.
    mean = torch.zeros(40, 3, dtype=torch.float64)
    actions = torch.ones(40, 3, dtype=torch.float64)
    row = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    gradients = []
    for log_std in (row, row.expand(40, 3)):
        logp, _ = Gaussian(mean, log_std).evaluate(actions)
        gradients.append(torch.autograd.grad(logp.sum(), row)[0])
    torch.testing.assert_close(*gradients, rtol=1e-14, atol=0)


def test_a_row_of_log_std_may_have_an_axis():
    mean, actions = torch.randn(2, 4, 3)
    row = torch.randn(1, 3, requires_grad=True)
    flat = row.detach()[0].requires_grad_()
    (ours, _), (theirs, _) = (Gaussian(mean, x).evaluate(actions) for x in (row, flat))
    assert torch.equal(ours, theirs)
    ours.sum().backward()
    theirs.sum().backward()
    assert torch.equal(row.grad[0], flat.grad)


def test_sizes_of_gymnasium():
    logits = torch.randn(4, 5)
    actions = torch.zeros(4, 2, dtype=torch.int64)
    nvec = np.array([2, 3])
    assert MultiCategorical(logits, nvec).nvec == (2, 3)
    compiled = torch.compile(
        lambda x: MultiCategorical(x, nvec).evaluate(actions)[0], backend="eager", fullgraph=True
    )
    with pytest.raises(Exception, match=r"must be a tuple of Python's integers, made outside"):
        compiled(logits)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_refused_by_name(dtype):
    with pytest.raises(TypeError, match=r"^sample: mean must be float32 or float64, got .*float16"):
        Gaussian(torch.zeros(4, 3, dtype=dtype), torch.zeros(3, dtype=dtype)).sample(seed=0, step=0)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_impossible_choices(dtype, tolerance):
    # Logits of -infinity: as if the columns were not there; their gradients are 0.
    case = Case("categorical", 40, dims=3, dtype=dtype)
    wide = torch.full((40, 5), -math.inf, dtype=dtype)
    wide[:, [0, 2, 3]] = case.leaves[0].detach()
    wide.requires_grad_()
    logp, entropy = Categorical(wide).evaluate(torch.tensor([0, 2, 3])[case.actions])
    expected = case.expected(doubles := case.doubles())
    assert_close(logp, expected[0], tolerance)
    assert_close(entropy, expected[1], tolerance)
    (gradient,) = torch.autograd.grad((logp + entropy).sum(), wide)
    (truth,) = torch.autograd.grad((expected[0] + expected[1]).sum(), doubles)
    assert (gradient[:, [1, 4]] == 0).all()
    assert_close(gradient[:, [0, 2, 3]], truth, tolerance)


def test_masked_logits_are_not_looked_at():
    logits = torch.zeros(20, 3)
    mask = torch.ones(20, 3, dtype=torch.bool)
    mask[:, 1] = False
    masked = logits.clone()
    masked[:, 1] = math.nan
    masked.requires_grad_()
    actions = torch.zeros(20, dtype=torch.int64)
    logp, entropy = Categorical(masked, mask).evaluate(actions)
    assert_close(logp, torch.full((20,), -math.log(2)), 1e-6)
    assert_close(entropy, torch.full((20,), math.log(2)), 1e-6)
    (gradient,) = torch.autograd.grad(logp.sum(), masked)
    assert_close(gradient, torch.tensor([0.5, 0, -0.5]).expand(20, 3), 1e-6)
    taken, _ = Categorical(masked, mask).evaluate(actions + 1)
    assert (taken == -math.inf).all()


def test_kl_to_an_impossible_choice_is_infinite_and_of_one_is_not():
    some = torch.tensor([[0.0, 0.0, -math.inf]])
    full = torch.zeros(1, 3)
    assert Categorical(full).kl(Categorical(some)).item() == math.inf
    assert Categorical(some).kl(Categorical(full)).item() == pytest.approx(math.log(1.5))
    assert Categorical(some).kl(Categorical(some)).item() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_no_nan(dtype):
    # Probabilities that underflow, standard deviations whose inverse overflows.
    big = torch.tensor([[80.0, -80.0, 300.0, -300.0, 0.0]], dtype=dtype)
    for family in ("categorical", "bernoulli", "gaussian-per-sample", "squashed-per-sample"):
        leaves = [big.clone().requires_grad_()]
        if "per-sample" in family:
            leaves.append((big.flip(1) / 2).clone().requires_grad_())
        dist = distribution(family, leaves)
        actions = torch.from_numpy(dist.sample(seed=0, step=0, deterministic=True).actions)
        logp, entropy = dist.evaluate(actions)
        kl = dist.kl(dist)
        assert not any(torch.isnan(x).any() for x in (logp, entropy, kl))
        # No weight on the infinite ones: their derivatives may be infinite as well.
        for x in (logp, entropy, kl):
            finite = torch.where(x.isinf(), 0, x).sum()
            gradients = torch.autograd.grad(finite, leaves, retain_graph=True)
            assert not any(torch.isnan(g).any() for g in gradients)


@pytest.mark.parametrize(("std", "error"), [(0.1, 2e-10), (1.0, 6e-9), (2.0, 2e-6), (4.0, 1e-3)])
def test_squashed_entropy_is_as_exact_as_promised(std, error):
    # The same expectation on a grid so fine that it is exact.
    mean = torch.linspace(-6, 6, 97, dtype=torch.float64)[:, None]
    log_std = torch.tensor([math.log(std)], dtype=torch.float64)
    _, entropy = SquashedGaussian(mean, log_std).evaluate(mean)
    nodes = torch.linspace(-12, 12, 20_001, dtype=torch.float64)
    weights = torch.softmax(-(nodes**2) / 2, 0)
    normal = math.log(std) + 0.5 * math.log(2 * math.pi * math.e)
    exact = normal + log_slope(mean + std * nodes) @ weights
    assert (entropy - exact).abs().max() < error


def test_squash():
    u = torch.tensor([[0.5, -20.0]], dtype=torch.float64)
    dist = SquashedGaussian(u, torch.zeros(2, dtype=torch.float64))
    assert torch.equal(dist.squash(u), u.tanh())
    assert (dist.squash(u.numpy()) == np.tanh(u.numpy())).all()
    # tanh(-20) is -1 in float64, but u still knows its density.
    logp, _ = dist.evaluate(u)
    expected = -math.log(2 * math.pi) - log_slope(u).sum()
    torch.testing.assert_close(logp, expected[None], rtol=1e-14, atol=0)


def test_state_dependent_noise():
    generator = torch.Generator().manual_seed(0)
    mean, latent = (torch.randn(30, k, generator=generator, dtype=torch.float64) for k in (2, 5))
    log_std = 0.1 * torch.randn(5, 2, generator=generator, dtype=torch.float64)
    leaves = [x.requires_grad_() for x in (mean, latent, log_std)]
    dist = StateDependentNoise(*leaves)
    variance = latent.detach() ** 2 @ (2 * log_std).exp() + 1e-6
    normal = torch.distributions.Normal(mean, variance.sqrt())
    actions = mean.detach() + 0.3
    logp, entropy = dist.evaluate(actions)
    assert_close(logp, normal.log_prob(actions).sum(1), 1e-12)
    assert_close(entropy, normal.entropy().sum(1), 1e-12)
    ours = torch.autograd.grad(logp.sum(), (mean, log_std))
    theirs = torch.autograd.grad(normal.log_prob(actions).sum(), (mean, log_std))
    for a, b in zip(ours, theirs, strict=True):
        assert_close(a, b, 1e-12)
    assert torch.autograd.grad(dist.gaussian().log_std.sum(), latent, allow_unused=True)[0] is None
    # NumPy arrays give the same marginal.
    arrays = StateDependentNoise(*(x.detach().numpy() for x in leaves)).gaussian()
    np.testing.assert_allclose(arrays.log_std, dist.gaussian().log_std.detach(), rtol=1e-12)
    assert dist.kl(dist).abs().max() == 0


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"logits": torch.zeros(4, 3).half()}, TypeError, "logits must be float32 or float64, got"),
        ({"logits": torch.zeros(4)}, ValueError, r"logits must have shape \(B, actions\), got"),
        ({"mask": torch.ones(4, 3)}, TypeError, "dist.mask must be bool, got float32; cast"),
        (
            {"mask": np.ones((4, 3), bool)},
            TypeError,
            "dist.mask must be a torch tensor like logits",
        ),
        (
            {"mask": torch.ones(4, 2, dtype=torch.bool)},
            ValueError,
            r"dist.mask must have shape \(4, 3\) like logits, got \(4, 2\)",
        ),
        (
            {"mask": torch.tensor([[1, 1, 1], [1, 1, 0], [0, 0, 0], [0, 0, 0]]).bool()},
            ValueError,
            "dist.mask row 2 allows no action",
        ),
        ({"logits": torch.full((4, 3), math.nan)}, ValueError, "logits row 0 is no distribution"),
        ({"actions": torch.zeros(4)}, TypeError, "actions must be int64, got float32; cast with"),
        (
            {"actions": torch.tensor([0, 1, 3, 9])},
            ValueError,
            r"actions must be in \[0, 3\), got 3",
        ),
        ({"actions": torch.zeros(5).long()}, ValueError, r"actions must have shape \(4,\) .*, got"),
        ({"actions": [0] * 4}, TypeError, "actions must be a torch tensor like logits, got list"),
        ({"actions": np.zeros(4, "i4")}, TypeError, "actions must be int64, got int32; cast with"),
    ],
)
def test_errors_of_categorical(change, error, message):
    given = {"logits": torch.zeros(4, 3), "mask": None, "actions": torch.zeros(4).long()} | change
    with pytest.raises(error, match=f"^evaluate: {message}"):
        Categorical(given["logits"], given["mask"]).evaluate(given["actions"])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"log_std": torch.zeros(2)}, ValueError, r"log_std must have shape \(3,\) or one row per"),
        (
            {"log_std": torch.zeros(3, 3)},
            ValueError,
            r"log_std must have shape \(4, 3\) like mean, or one row for all samples, got \(3, 3\)",
        ),
        ({"log_std": torch.zeros(3).double()}, TypeError, "log_std must be float32 like mean, got"),
        ({"log_std": None}, TypeError, "log_std is missing, got None"),
        (
            {"log_std": torch.tensor([0, math.inf, 0])},
            ValueError,
            "mean row 0 or its log_std holds a NaN or an infinity",
        ),
        (
            {"mean": torch.tensor([[0.0] * 3, [0.0, math.nan, 0], [0.0] * 3, [0.0] * 3])},
            ValueError,
            "mean row 1 or its log_std holds a NaN or an infinity",
        ),
        ({"actions": torch.zeros(4, 3).double()}, TypeError, "actions must be float32 like mean"),
        ({"actions": torch.zeros(4)}, ValueError, r"actions must have shape \(4, 3\) \(one row"),
    ],
)
def test_errors_of_gaussian(change, error, message):
    given = {
        "mean": torch.zeros(4, 3),
        "log_std": torch.zeros(3),
        "actions": torch.zeros(4, 3),
    } | change
    with pytest.raises(error, match=f"^evaluate: {message}"):
        Gaussian(given["mean"], given["log_std"]).evaluate(given["actions"])


def test_errors_of_multi_categorical():
    actions = torch.zeros(4, 2).long()
    with pytest.raises(
        ValueError, match=r"^evaluate: logits must have shape \(B, 5\), a column for"
    ):
        MultiCategorical(torch.zeros(4, 6), (2, 3)).evaluate(actions)
    with pytest.raises(ValueError, match=r"^evaluate: nvec must be positive, got \(5, 0\)"):
        MultiCategorical(torch.zeros(4, 5), (5, 0)).evaluate(actions)
    bad = actions.clone()
    bad[2, 1] = 7
    with pytest.raises(
        ValueError, match=r"^evaluate: actions must be in \[0, 3\) in column 1, got 7 for sample 2"
    ):
        MultiCategorical(torch.zeros(4, 5), (2, 3)).evaluate(bad)
    mask = torch.ones(4, 5, dtype=torch.bool)
    mask[3, 2:] = False
    with pytest.raises(
        ValueError, match=r"^evaluate: dist.mask row 3 allows no action in component 1"
    ):
        MultiCategorical(torch.zeros(4, 5), (2, 3), mask).evaluate(actions)


@pytest.mark.parametrize(("change", "error", "message"), NOISE_ERRORS)
def test_errors_of_state_dependent_noise(change, error, message):
    def zeros(shape, dtype):
        return torch.zeros(shape, dtype=getattr(torch, dtype))

    dist = noise_of(change, zeros)
    for call in (dist.gaussian, lambda: dist.evaluate(torch.zeros(4, 2))):
        with pytest.raises(error, match=f"^StateDependentNoise: {message}"):
            call()
    mixed = StateDependentNoise(zeros((4, 2), "float32"), np.zeros((4, 3)), None)
    with pytest.raises(TypeError, match="latent must be a torch tensor like mean, got ndarray"):
        mixed.gaussian()


def test_errors_of_kl():
    dist = Gaussian(torch.zeros(4, 3), torch.zeros(3))
    with pytest.raises(
        TypeError, match=r"^kl: other must be a Gaussian like the first .*, got Squash"
    ):
        dist.kl(SquashedGaussian(torch.zeros(4, 3), torch.zeros(3)))
    with pytest.raises(
        ValueError, match=r"^kl: mean must have shape \(5, 3\) like other.mean, got"
    ):
        dist.kl(Gaussian(torch.zeros(5, 3), torch.zeros(3)))
    with pytest.raises(TypeError, match=r"^kl: mean must be float64 like other.mean, got float32"):
        dist.kl(Gaussian(torch.zeros(4, 3).double(), torch.zeros(3).double()))
    with pytest.raises(ValueError, match=r"^kl: other.mean row 0 or its log_std holds a NaN"):
        dist.kl(Gaussian(torch.zeros(4, 3), torch.full((3,), math.nan)))
    with pytest.raises(ValueError, match=r"^kl: mean row 0 or its log_std holds a NaN"):
        Gaussian(torch.zeros(4, 3), torch.full((3,), math.nan)).kl(dist)
    with pytest.raises(ValueError, match=r"^kl: logits must have the same nvec as other.logits"):
        MultiCategorical(torch.zeros(4, 5), (2, 3)).kl(MultiCategorical(torch.zeros(4, 5), (3, 2)))


def test_distributions_are_immutable_and_have_no_more():
    dist = Categorical(torch.zeros(4, 3))
    with pytest.raises(AttributeError):
        dist.logits = None
    assert copy.copy(dist).logits is dist.logits
