"""The fused loss of every family, objective and option against autograd, in both dtypes."""

import math

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from distribution_cases import FAMILIES, assert_close, distribution  # noqa: E402
from surrogate_cases import DTYPES, OBJECTIVES, OPTIONS, Batch  # noqa: E402

from ppo_fast import reference  # noqa: E402
from ppo_fast.distributions import Categorical, Gaussian, SquashedGaussian  # noqa: E402
from ppo_fast.surrogate import STATS, fused_loss, ppo_loss  # noqa: E402


def autograd_loss(logp, entropy, kl, arguments):
    """The loss by plain torch, from the terms of each sample."""
    g = {"clip_range_high": None, "dual_clip": None, "clip_range_values": None} | arguments
    g = {name: x.double() if torch.is_tensor(x) else x for name, x in g.items()}
    w = g.get("weights", torch.ones_like(logp))
    if "mask" in g:
        w = w * g["mask"].double()
    a = g["advantages"]
    total = w.sum()
    if g.get("normalize_advantages") and (w > 0).sum() > 1:
        mean = (w * a).sum() / total
        spread = (w * (a - mean) ** 2).sum() / (total - (w**2).sum() / total)
        a = (a - mean) / (spread.sqrt() + 1e-8)
    ratio = (logp - g["old_logp"]).exp()
    term = ratio * a
    if g["objective"] == "policy_gradient":
        term = logp * a
    elif g["objective"] == "clipped":
        high = 1 + (g["clip_range_high"] or g["clip_range"])
        term = torch.min(term, torch.clamp(ratio, 1 - g["clip_range"], high) * a)
        if g["dual_clip"] is not None:
            term = torch.where(a < 0, torch.max(term, g["dual_clip"] * a), term)
    v = g["values"]
    if g["clip_range_values"] is not None:
        c = g["clip_range_values"]
        v = g["old_values"] + torch.clamp(v - g["old_values"], -c, c)

    def mean_of(x):
        return (w * x).sum() / total

    loss = -mean_of(term) + g.get("value_coef", 0) * mean_of((v - g["returns"]) ** 2)
    loss = loss - g.get("entropy_coef", 0) * mean_of(entropy) + g.get("kl_coef", 0) * mean_of(kl)
    excess = torch.clamp(mean_of(kl) - g.get("kl_hinge_from", 0), min=0)
    return loss + g.get("kl_hinge", 0) * excess**2


def assert_equals_autograd(batch, options, tolerance):
    loss, row = batch.loss(**options)
    arguments = batch.arguments(options)
    doubles = batch.case.doubles()
    values = batch.columns["values"].detach().double().requires_grad_()
    terms = batch.case.expected(doubles)
    expected = autograd_loss(*terms, arguments | {"values": values})
    # Terms of both signs may add up to nearly 0: `abs` allows for terms of about 1.
    close = {"rel": tolerance, "abs": tolerance / 100, "nan_ok": True}
    assert loss.dtype == batch.columns["values"].dtype
    assert loss.item() == pytest.approx(expected.item(), **close)
    truth = torch.autograd.grad(expected, [*doubles, values], allow_unused=True)
    ours = torch.autograd.grad(loss, batch.leaves())
    for a, b in zip(ours, truth, strict=True):
        assert_close(a, torch.zeros_like(a) if b is None else b, tolerance)

    def array(x):
        return x.detach().numpy() if torch.is_tensor(x) else x

    logp, entropy, kl = (array(x) for x in terms)
    _, stats = reference.fused_loss(
        logp, entropy, kl=kl, **{name: array(x) for name, x in arguments.items()}
    )
    assert row.dtype == torch.float64
    assert dict(zip(STATS, row.tolist(), strict=True)) == pytest.approx(stats, **close)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_autograd(family, objective, options, dtype, tolerance):
    batch = Batch(family, 45, seed=3, dtype=dtype)
    assert_equals_autograd(batch, OBJECTIVES[objective] | OPTIONS[options], tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 64, 100])
def test_all_sizes(size, family, dtype, tolerance):
    options = dict(OPTIONS["everything"])
    if size == 1:
        options |= {"weights": False, "mask": False}
    batch = Batch(family, size, seed=size, dtype=dtype)
    assert_equals_autograd(batch, OBJECTIVES["clipped"] | options, tolerance)


@pytest.mark.parametrize("family", FAMILIES)
def test_gradcheck(family):
    batch = Batch(family, 6)
    options = OBJECTIVES["clipped"] | OPTIONS["everything"]
    arguments = batch.arguments(options)
    *_, values = batch.leaves()

    def loss(*leaves):
        *parameters, v = leaves
        dist = distribution(family, parameters, batch.case.mask)
        return fused_loss(
            dist,
            batch.case.actions,
            old_dist=batch.case.old_dist,
            **arguments | {"values": v},
        )[0]

    assert torch.autograd.gradcheck(loss, (*batch.case.leaves, values))


@pytest.mark.parametrize("options", ["plain", "everything"])
@pytest.mark.parametrize("family", FAMILIES)
def test_numpy_agrees_bitwise(family, options):
    batch = Batch(family, 40, dtype=torch.float32)
    options = OBJECTIVES["clipped"] | OPTIONS[options]
    loss, row = batch.loss(**options)

    def array(x):
        return x.detach().numpy() if torch.is_tensor(x) else x

    mask = array(batch.case.mask)
    ours, our_row = fused_loss(
        distribution(family, [array(x) for x in batch.case.leaves], mask),
        array(batch.case.actions),
        old_dist=distribution(family, [array(x) for x in batch.case.old], mask),
        **{name: array(x) for name, x in batch.arguments(options).items()},
    )
    assert isinstance(ours, float)
    assert ours == loss.item()
    assert our_row.tobytes() == row.numpy().tobytes()


@pytest.mark.parametrize("family", FAMILIES)
def test_operator(family):
    import ppo_fast.torch_ops  # noqa: F401 (registers it)

    batch = Batch(family, 20)
    p, old = batch.case.dist._parameters(), batch.case.old_dist._parameters()
    c = {name: x.detach() for name, x in batch.columns.items()}
    nvec = None if p.nvec is None else list(p.nvec)
    tensors = (
        p.first,
        p.second,
        c["values"],
        None,
        p.mask,
        batch.case.actions,
        old.first,
        old.second,
        old.mask,
        c["old_logp"],
        c["advantages"],
        c["returns"],
        c["old_values"],
        c["weights"],
        batch.mask,
    )
    torch.library.opcheck(
        torch.ops.ppo_fast.loss.default,
        (
            *(None if x is None else x.detach() for x in tensors),
            "ppo_loss",
            p.family,
            nvec,
            nvec,
            "clipped",
            0.2,
            None,
            3.0,
            0.2,
            1.0,
            1.0,
            0.1,
            0.01,
            0.5,
            True,
        ),
    )


@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
@pytest.mark.parametrize("family", ["masked-multi", "bernoulli", "gaussian", "squashed-per-sample"])
def test_compiles_to_one_graph(family):
    batch = Batch(family, 40)
    arguments = batch.arguments(OBJECTIVES["clipped"] | OPTIONS["everything"])

    def doubled(*leaves):
        *parameters, values = leaves
        dist = distribution(family, parameters, batch.case.mask)
        loss, row = fused_loss(
            dist,
            batch.case.actions,
            old_dist=batch.case.old_dist,
            **arguments | {"values": values},
        )
        return 2 * loss, row

    torch._dynamo.reset()
    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager")
    ours, row = compiled(*batch.leaves())
    expected, expected_row = doubled(*batch.leaves())
    assert torch.equal(ours, expected)
    torch.testing.assert_close(row, expected_row, rtol=0, atol=0, equal_nan=True)
    for a, b in zip(
        torch.autograd.grad(ours, batch.leaves()),
        torch.autograd.grad(expected, batch.leaves()),
        strict=True,
    ):
        assert torch.equal(a, b)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("family", FAMILIES)
def test_what_has_no_weight_is_not_looked_at(family, dtype):
    options = OBJECTIVES["clipped"] | OPTIONS["everything"]
    batch = Batch(family, 70, dtype=dtype)
    loss, row = batch.loss(**options)
    gradients = torch.autograd.grad(loss, batch.leaves())
    dropped = ~batch.mask | (batch.columns["weights"] == 0)
    # Rubbish in their rows; their weights are masked as well.
    for x in (*batch.case.leaves, *batch.case.old, *batch.columns.values()):
        if len(x) == 70 and x is not batch.columns["weights"]:
            x.detach()[dropped] = math.nan
    batch.columns["weights"][~batch.mask] = math.nan
    actions = batch.case.actions
    actions[dropped] = math.nan if actions.is_floating_point() else -100
    if batch.case.mask is not None:
        batch.case.mask[dropped] = False
    again, again_row = batch.loss(**options)
    assert torch.equal(again, loss)
    torch.testing.assert_close(again_row, row, rtol=0, atol=0, equal_nan=True)
    for a, b in zip(torch.autograd.grad(again, batch.leaves()), gradients, strict=True):
        assert torch.equal(a, b)
        if len(a) == 70:
            assert (a[dropped] == 0).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_weights_are_repetitions(family):
    options = OBJECTIVES["clipped"] | {"entropy_coef": 0.1, "value_coef": 0.5, "kl_coef": 1.0}
    batch = Batch(family, 20)
    times = torch.arange(20) % 3
    batch.columns["weights"] = times.double()
    weighted, row = batch.loss(**options, weights=True)
    index = torch.arange(20).repeat_interleave(times)
    case = batch.case
    pick = [x[index] if len(x) == 20 else x for x in (*case.leaves, *case.old)]
    count = len(case.leaves)
    mask = None if case.mask is None else case.mask[index]
    columns = {name: x[index] for name, x in batch.columns.items() if name != "weights"}
    repeated, repeated_row = fused_loss(
        distribution(family, pick[:count], mask),
        case.actions[index],
        old_dist=distribution(family, pick[count:], mask),
        **columns | options,
    )
    torch.testing.assert_close(weighted, repeated, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(row, repeated_row, rtol=1e-10, atol=1e-12, equal_nan=True)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("family", ["categorical", "gaussian", "squashed"])
def test_never_a_nan_out_of_finite_input(family, objective, dtype):
    # Zero and huge advantages, log-probabilities of -infinity, one sample or many.
    for size in (1, 40):
        batch = Batch(family, size, dtype=dtype)
        columns = batch.columns
        columns["advantages"][::3] = 0
        columns["advantages"][1::3] *= 1e10
        columns["old_logp"][::4] = -math.inf
        columns["old_logp"][1::4] = 1e4
        if family == "categorical":
            batch.case.leaves[0].detach()[::2] = -math.inf
            batch.case.leaves[0].detach()[::2, 1] = 0
            batch.case.old[0][::2] = batch.case.leaves[0].detach()[::2]
            batch.case.actions[:] = 2
        elif objective != "policy_gradient":
            batch.case.leaves[1].detach()[0] = -50
        for normalize in (False, True):
            options = OPTIONS["everything"] | {"weights": False, "mask": False}
            options |= {"normalize_advantages": normalize, "kl_coef": 0.0, "kl_hinge": 0.0}
            loss, row = batch.loss(**OBJECTIVES[objective] | options)
            assert not torch.isnan(loss)
            stats = dict(zip(STATS, row.tolist(), strict=True))
            del stats["explained_variance"]  # of one sample there is none
            assert not any(math.isnan(x) for x in stats.values()), stats
            for gradient in torch.autograd.grad(loss, batch.leaves()):
                assert not torch.isnan(gradient).any()


@pytest.mark.parametrize("advantage", [-1.0, 1.0])
@pytest.mark.parametrize("old_logp", [-math.inf, -1.0])
def test_impossible_action_of_a_policy_gradient(old_logp, advantage):
    logits = torch.tensor([[0.0, -math.inf], [0.0, 0.0]], requires_grad=True)
    loss, row = fused_loss(
        Categorical(logits),
        torch.tensor([1, 0]),
        torch.full((2,), advantage),
        objective="policy_gradient",
        old_logp=torch.full((2,), old_logp),
    )
    assert loss.item() == pytest.approx(advantage * math.log(2) / 2)
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = [[0, 0], [-advantage / 4, advantage / 4]]
    torch.testing.assert_close(gradient, torch.tensor(expected))
    assert row[STATS.index("limited_fraction")] == (1.0 if old_logp == -math.inf else 0.5)


def test_policy_gradient_without_old_logp():
    batch = Batch("gaussian", 40)
    loss, row = batch.loss(objective="policy_gradient")
    del batch.columns["old_logp"]
    again, again_row = batch.loss(objective="policy_gradient")
    assert torch.equal(again, loss)
    ratio = {name for name in STATS if name.startswith(("approx", "clip", "ratio", "eff", "lim"))}
    for name, before, after in zip(STATS, row.tolist(), again_row.tolist(), strict=True):
        assert math.isnan(after) if name in ratio else after == before, name


def test_policy_alone():
    batch = Batch("gaussian", 40)
    loss, row = batch.loss(**OBJECTIVES["clipped"], value_coef=0.0, entropy_coef=0.1)
    batch.columns |= {"values": None, "returns": None, "old_values": None}
    again, again_row = batch.loss(**OBJECTIVES["clipped"], value_coef=0.5, entropy_coef=0.1)
    assert torch.equal(again, loss)
    stats = dict(zip(STATS, again_row.tolist(), strict=True))
    assert stats["value_loss"] == 0
    assert math.isnan(stats["explained_variance"])
    assert stats["policy_loss"] == row[0]
    assert len(torch.autograd.grad(again, batch.case.leaves)) == 2


def test_ppo_loss_is_the_fused_loss():
    batch = Batch("squashed", 40)
    columns = batch.columns
    settings = OPTIONS["everything"] | {"mask": batch.mask, "weights": columns["weights"]}
    settings["normalize_advantages"] = True
    common = (batch.case.dist, batch.case.actions)
    for clip_range, objective in [(0.2, "clipped"), (None, "importance")]:
        loss, stats = ppo_loss(
            *common,
            columns["old_logp"],
            columns["advantages"],
            columns["values"],
            columns["returns"],
            old_values=columns["old_values"],
            old_dist=batch.case.old_dist,
            clip_range=clip_range,
            **settings,
        )
        expected, row = fused_loss(
            *common,
            columns["advantages"],
            objective=objective,
            old_logp=columns["old_logp"],
            values=columns["values"],
            returns=columns["returns"],
            old_values=columns["old_values"],
            old_dist=batch.case.old_dist,
            clip_range=clip_range,
            **settings,
        )
        assert torch.equal(loss, expected)
        assert [x.item() for x in stats.values()] == row.tolist()
        assert list(stats) == list(STATS)


def test_gradient_of_one_parameter_only():
    batch = Batch("gaussian", 40)
    options = OBJECTIVES["clipped"] | OPTIONS["everything"]
    everything = torch.autograd.grad(batch.loss(**options)[0], batch.leaves())
    for k, leaf in enumerate(batch.leaves()):
        for other in batch.leaves():
            other.requires_grad_(other is leaf)
        loss, _ = batch.loss(**options)
        (alone,) = torch.autograd.grad(loss, leaf)
        assert torch.equal(alone, everything[k])
    for leaf in batch.leaves():
        leaf.requires_grad_(False)
    assert not batch.loss(**options)[0].requires_grad


def test_backward_twice_needs_retain_graph():
    batch = Batch("gaussian", 40)
    loss, _ = batch.loss(**OBJECTIVES["clipped"])
    first = torch.autograd.grad(loss, batch.case.leaves, retain_graph=True)
    again = torch.autograd.grad(2 * loss, batch.case.leaves)
    for a, b in zip(first, again, strict=True):
        torch.testing.assert_close(2 * a, b, rtol=1e-15, atol=0)
    with pytest.raises(RuntimeError, match="second time"):
        torch.autograd.grad(loss, batch.case.leaves)


def test_parameters_and_strides():
    batch = Batch("gaussian", 33, dtype=torch.float32)
    options = OBJECTIVES["clipped"] | OPTIONS["everything"]
    loss, _ = batch.loss(**options)
    mean, log_std = (x.detach() for x in batch.case.leaves)
    wide = mean.t().contiguous().t()
    batch.case.dist = Gaussian(wide, torch.nn.Parameter(log_std))
    batch.case.actions = batch.case.actions.repeat_interleave(2, 1)[:, ::2]
    batch.columns = {
        name: x.detach().repeat_interleave(3)[::3] for name, x in batch.columns.items()
    }
    again, _ = batch.loss(**options)
    assert torch.equal(again, loss)
    assert again.requires_grad


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (
            {"weights": -1.0},
            ValueError,
            "weights must be finite and not negative, got -1.0 for sam",
        ),
        ({"weights": math.nan}, ValueError, "weights must be finite and not negative, got nan for"),
        ({"weights": math.inf}, ValueError, "weights must be finite and not negative, got inf for"),
        ({"weights": 0.0}, ValueError, "weights leaves no sample; at least one must count"),
        ({"mask": False}, ValueError, "mask leaves no sample; at least one must count"),
    ],
)
def test_errors_of_weights(change, error, message):
    batch = Batch("categorical", 8)
    ((name, value),) = change.items()
    if name == "mask":
        batch.mask[:] = value
    else:
        batch.columns["weights"][:] = value
    with pytest.raises(error, match=f"^fused_loss: {message}"):
        batch.loss(**OBJECTIVES["clipped"], **{name: True})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"objective": "ppo"}, ValueError, "objective must be policy_gradient, importance or"),
        ({"clip_range": None}, ValueError, "clip_range is missing; the clipped objective needs it"),
        ({"clip_range": 0}, ValueError, "clip_range must be positive, got 0"),
        ({"clip_range_high": -0.1}, ValueError, "clip_range_high must be positive, got -0.1"),
        ({"dual_clip": 1.0}, ValueError, "dual_clip must be above 1, got 1.0"),
        ({"clip_range_values": 0.0}, ValueError, "clip_range_values must be positive, got 0.0"),
        ({"kl_coef": math.nan}, ValueError, "kl_coef must be finite, got nan"),
        ({"entropy_coef": math.inf}, ValueError, "entropy_coef must be finite, got inf"),
        ({"value_coef": "1"}, TypeError, "value_coef must be a number, got str"),
        ({"normalize_advantages": 1}, TypeError, "normalize_advantages must be True or False"),
        (
            {"objective": "importance", "clip_range": None, "dual_clip": 2.0},
            ValueError,
            "dual_clip has no meaning without the clipped objective",
        ),
    ],
)
def test_errors_of_settings(options, error, message):
    with pytest.raises(error, match=f"^fused_loss: {message}"):
        Batch("categorical", 8).loss(**OBJECTIVES["clipped"] | options)


def test_errors_of_what_is_missing():
    batch = Batch("gaussian", 8)
    batch.columns["old_values"] = None
    with pytest.raises(ValueError, match=r"^fused_loss: old_values is missing; clip_range_values"):
        batch.loss(**OBJECTIVES["clipped"], clip_range_values=0.2)
    common = {"objective": "policy_gradient", "advantages": batch.columns["advantages"]}
    for option in ({"kl_coef": 1.0}, {"kl_hinge": 1.0}):
        with pytest.raises(ValueError, match=r"^fused_loss: old_dist is missing; the KL penalty"):
            fused_loss(batch.case.dist, batch.case.actions, **common, **option)
    with pytest.raises(TypeError, match=r"^fused_loss: old_logp is missing, got None"):
        fused_loss(batch.case.dist, batch.case.actions, **common | {"objective": "importance"})


def test_errors_of_old_dist():
    batch = Batch("gaussian", 8)
    mean, log_std = batch.case.old

    def loss(old_dist):
        batch.case.old_dist = old_dist
        batch.loss(**OBJECTIVES["clipped"])

    with pytest.raises(
        TypeError, match=r"^fused_loss: old_dist must be a Gaussian like dist, got S"
    ):
        loss(SquashedGaussian(mean, log_std))
    with pytest.raises(
        ValueError, match=r"^fused_loss: old_dist.mean must have shape \(8, 5\) like"
    ):
        loss(Gaussian(mean[1:], log_std))
    with pytest.raises(
        TypeError, match=r"^fused_loss: old_dist.mean must be float64 like mean, got"
    ):
        loss(Gaussian(mean.float(), log_std))
    with pytest.raises(TypeError, match=r"^fused_loss: old_dist.log_std must be float64 like mean"):
        loss(Gaussian(mean, log_std.float()))
    with pytest.raises(
        ValueError, match=r"^fused_loss: old_dist.mean row 0 or its log_std holds a"
    ):
        loss(Gaussian(mean, log_std * math.nan))


def test_errors_of_rows():
    batch = Batch("masked", 8)
    batch.case.mask[5] = False
    with pytest.raises(ValueError, match=r"^fused_loss: dist.mask row 5 allows no action$"):
        batch.loss(**OBJECTIVES["clipped"])
    batch = Batch("bernoulli", 8)
    batch.case.actions[3, 1] = 2
    with pytest.raises(
        ValueError, match=r"^fused_loss: actions must be in \[0, 2\) in column 1, got"
    ):
        batch.loss(**OBJECTIVES["clipped"])
    batch.case.actions = batch.case.actions.double()
    with pytest.raises(
        TypeError, match=r"^fused_loss: actions must be int64, got float64; cast with"
    ):
        batch.loss(**OBJECTIVES["clipped"])


def test_mixed_kinds_are_refused():
    batch = Batch("gaussian", 8)
    batch.columns["old_logp"] = batch.columns["old_logp"].numpy()
    with pytest.raises(TypeError, match=r"^fused_loss: old_logp must be a torch tensor like mean"):
        batch.loss(**OBJECTIVES["clipped"])
    arrays = np.zeros((8, 2))
    with pytest.raises(
        TypeError, match=r"^fused_loss: advantages must be a NumPy array, got Tensor"
    ):
        fused_loss(
            Gaussian(arrays, arrays),
            arrays,
            batch.columns["advantages"],
            objective="policy_gradient",
        )
