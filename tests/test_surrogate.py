"""ppo_loss of torch tensors: loss and gradients against autograd, and the operator behind it."""

import math

import numpy as np
import pytest
from test_surrogate_numpy import (
    COEFS,
    assert_equal_stats,
    at_bound,
    gradients_of,
    random_batch,
    reference_of,
)
from test_surrogate_numpy import loss_of as numpy_loss_of

import ppo_fast
from ppo_fast.distributions import Categorical
from ppo_fast.surrogate import STATS

torch = pytest.importorskip("torch")

SIZES = [1, 2, 15, 16, 17, 100, 256]
ACTIONS = [1, 2, 3, 18]
DTYPES = [(torch.float64, 1e-10), (torch.float32, 1e-4)]


def tensors(batch, dtype=torch.float64):
    """The batch as tensors; logits and values ask for gradients."""
    result = {}
    for name, array in batch.items():
        tensor = torch.tensor(array)
        result[name] = tensor if name == "actions" else tensor.to(dtype)
    result["logits"].requires_grad_()
    result["values"].requires_grad_()
    return result


def random_tensors(seed, size, num_actions, dtype=torch.float64):
    # From float32 numbers, which are the same in both dtypes.
    return tensors(random_batch(seed, size, num_actions, np.float32), dtype)


def loss_of(batch, **coefs):
    batch = dict(batch)
    return ppo_fast.ppo_loss(Categorical(batch.pop("logits")), **batch, **COEFS | coefs)


def autograd_loss(
    logits,
    actions,
    old_logp,
    advantages,
    values,
    returns,
    *,
    clip_range,
    entropy_coef,
    value_coef,
    normalize_advantages=False,
):
    """The same loss in plain torch."""
    logp_all = torch.log_softmax(logits, dim=1)
    logp = logp_all.gather(1, actions[:, None])[:, 0]
    if normalize_advantages and len(advantages) > 1:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    ratio = torch.exp(logp - old_logp)
    clipped = torch.clamp(ratio, 1 - clip_range, 1 + clip_range)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = torch.nn.functional.mse_loss(values, returns)
    entropy = -(logp_all.exp() * logp_all).sum(dim=1).mean()
    return policy_loss + value_coef * value_loss - entropy_coef * entropy


def gradients(loss, batch):
    return torch.autograd.grad(loss, (batch["logits"], batch["values"]))


def assert_close(ours, expected, tolerance):
    # Relative to the largest element: small ones are differences of larger terms.
    scale = expected.abs().max().item()
    np.testing.assert_allclose(ours.double(), expected, rtol=tolerance, atol=tolerance * scale)


@pytest.mark.parametrize("normalize_advantages", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("num_actions", ACTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_equals_reference(size, num_actions, dtype, tolerance, normalize_advantages):
    batch = random_tensors(size, size, num_actions, dtype)
    loss, stats = loss_of(batch, normalize_advantages=normalize_advantages)
    expected, expected_stats = reference_of(
        {name: tensor.detach().numpy() for name, tensor in batch.items()},
        normalize_advantages=normalize_advantages,
    )
    # Terms of both signs may add up to nearly 0: `abs` allows for terms of about 1.
    close = {"rel": tolerance, "abs": tolerance / 100, "nan_ok": True}
    assert loss.dtype == dtype
    assert loss.shape == ()
    assert loss.item() == pytest.approx(expected, **close)
    assert list(stats) == list(STATS[:-1])  # all but kl, which needs an old_dist
    for name, value in stats.items():
        assert value.dtype == torch.float64
        assert not value.requires_grad
        assert value.item() == pytest.approx(expected_stats[name], **close), name


@pytest.mark.parametrize("normalize_advantages", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("num_actions", ACTIONS)
@pytest.mark.parametrize("size", SIZES)
def test_gradients_equal_autograd(size, num_actions, dtype, tolerance, normalize_advantages):
    coefs = {"entropy_coef": 0.1, "normalize_advantages": normalize_advantages}
    batch = random_tensors(100 + size, size, num_actions, dtype)
    exact = random_tensors(100 + size, size, num_actions)
    loss, _ = loss_of(batch, **coefs)
    expected_loss = autograd_loss(**exact, **COEFS | coefs)
    assert loss.item() == pytest.approx(expected_loss.item(), rel=tolerance)
    ours, expected = gradients(loss, batch), gradients(expected_loss, exact)
    for a, b in zip(ours, expected, strict=True):
        assert a.dtype == dtype
        assert_close(a, b, tolerance)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_torch_and_numpy_agree_bitwise(dtype):
    batch = random_tensors(1, 40, 3, dtype)
    arrays = {name: tensor.detach().numpy() for name, tensor in batch.items()}
    loss, stats = loss_of(batch)
    expected, expected_stats = numpy_loss_of(arrays)
    assert loss.item() == torch.tensor(expected, dtype=dtype).item()
    assert_equal_stats({name: value.item() for name, value in stats.items()}, expected_stats)
    for a, b in zip(gradients(loss, batch), gradients_of(arrays), strict=True):
        assert a.numpy().tobytes() == b.tobytes()


@pytest.mark.parametrize("normalize_advantages", [False, True])
def test_gradcheck(normalize_advantages):
    batch = random_tensors(2, 6, 3)

    def loss(logits, values):
        return loss_of(
            batch | {"logits": logits, "values": values},
            entropy_coef=0.1,
            normalize_advantages=normalize_advantages,
        )[0]

    assert torch.autograd.gradcheck(loss, (batch["logits"], batch["values"]))


@pytest.mark.parametrize("advantage", [-1.0, 0.0, 1.0])
@pytest.mark.parametrize("side", [-1, 1])
@pytest.mark.parametrize("outside", [0, 1])
def test_gradient_at_the_bounds_is_that_of_clamp(side, outside, advantage):
    batch = tensors(at_bound(side, outside, np.float64) | {"advantages": np.array([advantage])})
    loss, stats = loss_of(batch, entropy_coef=0.0)
    # torch's own exp might miss the bound by a bit, so its part begins at the ratio.
    ratio = stats["ratio_mean"].clone().requires_grad_()
    clipped = torch.clamp(ratio, 1 - COEFS["clip_range"], 1 + COEFS["clip_range"])
    objective = torch.min(ratio * advantage, clipped * advantage)
    (slope,) = torch.autograd.grad(objective, ratio)
    # d loss / d logits = -(dJ / dr) r ([k = a] - p), where a = 0 and p = 1/2.
    expected = -slope * ratio.detach() * torch.tensor([[0.5, -0.5]], dtype=torch.float64)
    torch.testing.assert_close(gradients(loss, batch)[0], expected, rtol=1e-14, atol=0)


def test_zero_advantages_give_no_policy_gradient():
    batch = random_tensors(3, 40, 3) | {"advantages": torch.zeros(40, dtype=torch.float64)}
    loss, _ = loss_of(batch, entropy_coef=0.0, normalize_advantages=True)
    assert not gradients(loss, batch)[0].any()


def test_single_sample_with_normalized_advantages():
    # std(ddof=1) of one number is undefined; the sample is left as it is.
    batch = random_tensors(4, 1, 3)
    loss, _ = loss_of(batch, normalize_advantages=True)
    expected = autograd_loss(**batch, **COEFS, normalize_advantages=False)
    assert loss.item() == pytest.approx(expected.item(), rel=1e-12)
    for a, b in zip(gradients(loss, batch), gradients(expected, batch), strict=True):
        assert_close(a, b, 1e-12)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
def test_impossible_actions_get_no_gradient(dtype, tolerance):
    # Autograd has NaN for a logit of -infinity; it is asked without these columns.
    batch = random_tensors(5, 40, 3, dtype)
    exact = random_tensors(5, 40, 3)
    wide = torch.full((40, 5), -math.inf, dtype=dtype)
    wide[:, [0, 2, 3]] = batch["logits"].detach()
    masked = batch | {
        "logits": wide.requires_grad_(),
        "actions": torch.tensor([0, 2, 3])[batch["actions"]],
    }
    loss, _ = loss_of(masked)
    expected = autograd_loss(**exact, **COEFS)
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    gradient, _ = gradients(loss, masked)
    assert (gradient[:, [1, 4]] == 0).all()
    assert_close(gradient[:, [0, 2, 3]], gradients(expected, exact)[0], tolerance)


@pytest.mark.parametrize("old_logp", [-math.inf, -1.0])
def test_impossible_action_taken_gives_no_nan(old_logp):
    batch = random_batch(6, 20, 3)
    batch["logits"][4] = [0.5, -math.inf, 0]
    batch["actions"][4] = 1
    batch["old_logp"][4] = old_logp
    batch = tensors(batch)
    loss, stats = loss_of(batch)
    assert torch.isfinite(loss)
    assert stats["limited_fraction"].item() == pytest.approx(1 / 20)
    for gradient in gradients(loss, batch):
        assert torch.isfinite(gradient).all()


@pytest.mark.parametrize("shift", [100.0, -100.0])
def test_limited_fraction_counts_huge_log_ratios(shift):
    batch = random_tensors(7, 8, 3)
    batch["old_logp"][[1, 5]] += shift
    loss, stats = loss_of(batch, entropy_coef=0.0)
    assert stats["limited_fraction"].item() == 2 / 8
    gradient, _ = gradients(loss, batch)
    assert torch.isfinite(gradient).all()
    assert not gradient[[1, 5]].any()


def test_backward_multiplies_by_what_comes_in():
    batch = random_tensors(8, 40, 3)
    once = gradients(loss_of(batch)[0], batch)
    (3 * loss_of(batch)[0]).backward()
    for gradient, name in zip(once, ("logits", "values"), strict=True):
        torch.testing.assert_close(batch[name].grad, 3 * gradient, rtol=1e-15, atol=0)


def test_gradients_go_on_to_what_made_the_logits():
    batch = random_tensors(9, 40, 3)
    layer = torch.nn.Linear(5, 3, dtype=torch.float64)
    obs = torch.linspace(-1, 1, 200, dtype=torch.float64).view(40, 5)
    loss_of(batch | {"logits": layer(obs)})[0].backward()
    (expected,) = torch.autograd.grad(
        autograd_loss(**batch | {"logits": layer(obs)}, **COEFS), layer.weight
    )
    assert_close(layer.weight.grad, expected, 1e-10)


@pytest.mark.parametrize("wanted", ["logits", "values"])
def test_gradient_of_one_input_only(wanted):
    batch = random_tensors(10, 40, 3)
    both = dict(zip(("logits", "values"), gradients(loss_of(batch)[0], batch), strict=True))
    other = {"logits": "values", "values": "logits"}[wanted]
    batch[other] = batch[other].detach()
    (gradient,) = torch.autograd.grad(loss_of(batch)[0], batch[wanted])
    assert torch.equal(gradient, both[wanted])


def test_no_gradient_is_asked_for():
    batch = random_tensors(11, 40, 3)
    with torch.no_grad():
        assert not loss_of(batch)[0].requires_grad
    assert loss_of(batch)[0].requires_grad


@pytest.mark.parametrize("is_weighted", [False, True])
def test_second_derivatives_are_refused(is_weighted):
    batch = random_tensors(12, 8, 3)
    # torch's own refusal looks at whether the gradient that comes in could be differentiated.
    weight = torch.ones((), dtype=torch.float64, requires_grad=is_weighted)
    loss = weight * loss_of(batch)[0] if is_weighted else loss_of(batch)[0]
    (gradient,) = torch.autograd.grad(loss, batch["logits"], create_graph=True)
    assert torch.equal(gradient.detach(), gradients(loss_of(batch)[0], batch)[0])
    with pytest.raises(RuntimeError, match="differentiate twice"):
        gradient.sum().backward()


@pytest.mark.parametrize("name", ["old_logp", "advantages", "returns"])
def test_gradients_that_would_be_lost_are_refused(name):
    batch = random_tensors(15, 8, 3)
    with pytest.raises(RuntimeError, match=rf"^ppo_loss: {name} requires grad, .*; pass {name}\.d"):
        loss_of(batch | {name: batch[name].requires_grad_()})
    with torch.no_grad():
        loss_of(batch)


def test_coefficients_that_would_lose_a_gradient_are_refused():
    alpha = torch.tensor(0.01, requires_grad=True)
    with pytest.raises(
        RuntimeError, match=r"^ppo_loss: entropy_coef requires grad, but is a const"
    ):
        loss_of(random_tensors(16, 8, 3), entropy_coef=alpha)


def test_gradients_may_be_changed_between_two_passes():
    batch = random_tensors(17, 8, 3)
    loss, _ = loss_of(batch)
    leaves = (batch["logits"], batch["values"])
    first = torch.autograd.grad(loss, leaves, retain_graph=True)
    expected = [x.clone() for x in first]
    for x in first:
        x.zero_()
    for x, y in zip(torch.autograd.grad(loss, leaves), expected, strict=True):
        assert torch.equal(x, y)


# Dynamo itself makes an autograd.Function and meant to silence the warning about that.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_compiled_coefficients_may_be_tensors():
    batch = random_tensors(18, 8, 3)
    rest = {name: x for name, x in batch.items() if name not in ("logits", "values")}
    graphs = []

    def count(module, _):
        graphs.append(module)
        return module

    @torch.compile(backend=count, fullgraph=True)
    def compiled(logits, values, clip_range, entropy_coef):
        coefs = COEFS | {"clip_range": clip_range, "entropy_coef": entropy_coef}
        return ppo_fast.ppo_loss(Categorical(logits), values=values, **rest, **coefs)[0]

    for k in range(1, 5):
        numbers = (0.2 / k, 0.01 * k)
        coefs = [torch.tensor(x, dtype=torch.float64) for x in numbers]
        ours = compiled(batch["logits"], batch["values"], *coefs)
        theirs, _ = loss_of(batch, clip_range=numbers[0], entropy_coef=numbers[1])
        assert torch.equal(ours, theirs)
        for x, y in zip(gradients(ours, batch), gradients(theirs, batch), strict=True):
            assert torch.equal(x, y)
    assert len(graphs) == 1


# Dynamo itself makes an autograd.Function and meant to silence the warning about that.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_one_tensor_may_be_several_compiled_coefficients():
    batch = random_tensors(19, 8, 3)
    batch["old_values"] = batch["values"].detach() + 0.3
    rest = {name: x for name, x in batch.items() if name != "logits"}
    coefs = {"entropy_coef": 0.0, "value_coef": 0.5}

    @torch.compile(backend="eager", fullgraph=True)
    def compiled(logits, clip):
        clips = {"clip_range": clip, "clip_range_values": clip}
        return ppo_fast.ppo_loss(Categorical(logits), **rest, **clips, **coefs)[0]

    clip = torch.tensor(0.2, dtype=torch.float64)
    expected, _ = loss_of(batch, clip_range=0.2, clip_range_values=0.2, **coefs)
    assert torch.equal(compiled(batch["logits"], clip), expected)
    with pytest.raises(Exception, match="clip_range must be a number, got a tensor on meta"):
        compiled(batch["logits"], clip.to("meta"))


def test_transforms_are_refused():
    batch = random_tensors(13, 8, 3)
    logits = batch.pop("logits").detach()

    def loss(x):
        return loss_of(batch | {"logits": x})[0]

    words = r"^ppo_loss: logits is a tensor of torch\.func's grad, vmap"
    with pytest.raises(RuntimeError, match=words):
        torch.func.grad(loss)(logits)
    with pytest.raises(RuntimeError, match=words):
        torch.vmap(loss)(logits[None])
    with pytest.raises(RuntimeError, match=r"^evaluate: logits is a tensor of torch\.func"):
        torch.func.grad(lambda x: Categorical(x).evaluate(batch["actions"])[0].sum())(logits)


def test_transforms_are_refused_of_tensors_that_they_do_not_touch():
    batch = random_tensors(13, 8, 3)
    dist = Categorical(batch["logits"])
    calls = {
        "ppo_loss": lambda: loss_of(batch)[0],
        "evaluate": lambda: dist.evaluate(batch["actions"])[0].sum(),
        "kl": lambda: dist.kl(dist).sum(),
    }
    for name, call in calls.items():
        words = rf"^{name}: is called within torch\.func's grad, vmap"
        with pytest.raises(RuntimeError, match=words):
            torch.func.grad(lambda x, call=call: x * call())(torch.ones(()))
        with pytest.raises(RuntimeError, match=words):
            torch.vmap(lambda x, call=call: x * call())(torch.ones(3))


def test_tensors_without_plain_memory():
    batch = random_tensors(14, 8, 3)
    with pytest.raises(TypeError, match=r"^ppo_loss: advantages must be a dense tensor, got torch"):
        loss_of(batch | {"advantages": batch["advantages"].to_sparse()})
    negated = torch._neg_view(-batch["returns"]).view(2, 4).transpose(0, 1)[0]
    with pytest.raises(TypeError, match=r"^ppo_loss: returns has its negative bit set; pass ret"):
        loss_of(batch | {"returns": negated})
    one = random_tensors(14, 1, 3)
    imaginary = torch.complex(one["returns"], one["returns"]).conj().imag
    with pytest.raises(TypeError, match=r"^ppo_loss: returns has its negative bit set; pass ret"):
        loss_of(one | {"returns": imaginary})


def test_imaginary_parts_of_conjugates_are_refused_by_distributions():
    batch = random_tensors(14, 8, 3)
    logits = batch["logits"].detach()
    imaginary = torch.complex(logits, logits).conj().imag
    with pytest.raises(TypeError, match=r"^evaluate: logits has its negative bit set; pass"):
        Categorical(imaginary).evaluate(batch["actions"])
    with pytest.raises(TypeError, match=r"^kl: logits has its negative bit set; pass"):
        Categorical(imaginary).kl(Categorical(logits))
    logp, _ = Categorical(batch["logits"]).evaluate(batch["actions"])
    with pytest.raises(TypeError, match=r"resolve_neg"):
        logp.backward(torch.complex(logp, logp).detach().conj().imag)


def test_a_mistake_is_told_once():
    logits = torch.zeros(4, 3)
    with pytest.raises(TypeError, match=r"actions must be int64, got int32") as caught:
        Categorical(logits).evaluate(torch.zeros(4, dtype=torch.int32))
    assert caught.value.__context__ is None


def test_strides_change_no_bit():
    batch = random_tensors(13, 33, 5)
    loss, _ = loss_of(batch)
    expected = gradients(loss, batch)
    wide = {name: x.detach().repeat_interleave(3, dim=0) for name, x in batch.items()}
    others = [
        {"logits": batch["logits"].detach().t().contiguous().t()},
        {name: x[::3] for name, x in wide.items()},
    ]
    for other in others:
        call = batch | other
        for name in ("logits", "values"):
            call[name] = call[name].detach().requires_grad_()
        again, _ = loss_of(call)
        assert torch.equal(again, loss)
        for a, b in zip(gradients(again, call), expected, strict=True):
            assert torch.equal(a, b)


def test_expanded_values():
    # One number for all samples, with a stride of 0: its gradient is the sum.
    batch = random_tensors(14, 33, 5)
    ours, theirs = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss_of(batch | {"values": ours.expand(33)})[0].backward()
    autograd_loss(**batch | {"values": theirs.expand(33)}, **COEFS).backward()
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=1e-10, atol=0)


def test_inputs_are_not_written():
    batch = random_tensors(15, 33, 5)
    before = {name: tensor.detach().clone() for name, tensor in batch.items()}
    loss_of(batch, normalize_advantages=True)[0].backward()
    for name, tensor in batch.items():
        assert torch.equal(tensor, before[name]), name


# Dynamo itself makes an autograd.Function and meant to silence the warning about that.
@pytest.mark.filterwarnings("ignore:.* should not be instantiated:DeprecationWarning")
def test_compiles_to_one_graph():
    batch = random_tensors(17, 40, 3)
    rest = {name: batch[name] for name in ("actions", "old_logp", "advantages", "returns")}

    def doubled(logits, values):
        loss, stats = ppo_fast.ppo_loss(Categorical(logits), values=values, **rest, **COEFS)
        return 2 * loss, stats

    torch._dynamo.reset()
    compiled = torch.compile(doubled, fullgraph=True, backend="aot_eager")
    loss, stats = compiled(batch["logits"], batch["values"])
    expected, expected_stats = doubled(batch["logits"], batch["values"])
    assert torch.equal(loss, expected)
    assert stats.keys() == expected_stats.keys()
    for name, value in stats.items():
        torch.testing.assert_close(value, expected_stats[name], rtol=0, atol=0, equal_nan=True)
    for a, b in zip(gradients(loss, batch), gradients(expected, batch), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("logits", lambda x: x.half(), "must be float32 or float64, got float16"),
        ("logits", lambda x: x.bfloat16(), "must be float32 or float64, got bfloat16"),
        ("logits", lambda x: x.long(), "must be float32 or float64, got int64"),
        ("actions", lambda x: x.int(), "must be int64, got int32"),
        ("actions", lambda x: x.double(), "must be int64, got float64"),
        ("actions", lambda x: x.numpy(), "must be .*, got ndarray"),
        ("old_logp", lambda x: x.float(), "must be float64 like logits, got float32"),
        ("advantages", lambda x: x.long(), "must be float64 like logits, got int64"),
        ("values", lambda x: x.float(), "must be float64 like logits, got float32"),
        ("values", lambda x: x.bfloat16(), "must be float64 like logits, got bfloat16"),
        ("returns", lambda x: x.half(), "must be float64 like logits, got float16"),
        ("advantages", lambda _: None, "is missing, got None"),
        ("old_logp", lambda _: None, "is missing, got None"),
    ],
)
def test_type_errors(name, change, message):
    batch = {name: x.detach() for name, x in random_tensors(18, 4, 3).items()}
    with pytest.raises(TypeError, match=f"^ppo_loss: {name} {message}"):
        loss_of(batch | {name: change(batch[name])})


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("logits", lambda x: x[0], r"must have shape \(B, actions\), got \(3,\)"),
        ("logits", lambda x: x[:0], r"must have at least one sample, got \(0, 3\)"),
        ("actions", lambda x: x[:, None], r"must have shape \(4,\) .*, got \(4, 1\)"),
        ("actions", lambda x: x + 3, r"must be in \[0, 3\), got . for sample 0"),
        ("actions", lambda x: x - 3, r"must be in \[0, 3\), got -. for sample 0"),
        ("old_logp", lambda x: x[1:], r"must have shape \(4,\) \(one per sample\), got \(3,\)"),
        ("advantages", lambda x: x[:, None], r"must have shape \(4,\) .*, got \(4, 1\)"),
        ("values", lambda x: x[:, None], r"must have shape \(4,\) .*, got \(4, 1\)"),
        ("returns", lambda x: x[1:], r"must have shape \(4,\) .*, got \(3,\)"),
        ("returns", lambda _: None, "is missing; the value loss needs values and returns"),
    ],
)
def test_value_errors(name, change, message):
    batch = {name: x.detach() for name, x in random_tensors(19, 4, 3).items()}
    with pytest.raises(ValueError, match=f"^ppo_loss: {name} {message}"):
        loss_of(batch | {name: change(batch[name])})


@pytest.mark.parametrize("clip_range", [0.0, -0.1, math.nan])
def test_clip_range_must_be_positive(clip_range):
    with pytest.raises(ValueError, match=r"^ppo_loss: clip_range must be positive, got "):
        loss_of(random_tensors(20, 4, 3), clip_range=clip_range)


def test_dist_must_be_one_of_ours():
    batch = random_tensors(21, 4, 3)
    logits = batch.pop("logits")
    for dist in (logits, torch.distributions.Categorical(logits=logits)):
        with pytest.raises(TypeError, match=r"^ppo_loss: dist must be one of .*, got "):
            ppo_fast.ppo_loss(dist, **batch, **COEFS)
