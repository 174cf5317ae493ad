"""The losses on a CUDA device, or on the CPU in its place (conftest.py: `device`)."""

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from distribution_cases import FAMILIES, assert_close, distribution  # noqa: E402
from surrogate_cases import OBJECTIVES, OPTIONS, Batch  # noqa: E402

from ppo_fast.distributions import Categorical, MultiCategorical  # noqa: E402
from ppo_fast.surrogate import (  # noqa: E402
    STATS,
    clipped_surrogate,
    fused_loss,
    importance_surrogate,
    kl_penalty_surrogate,
    ppo_loss,
)

DTYPES = [(torch.float64, 1e-12), (torch.float32, 1e-5)]
OF_ONE_COMPONENT = [family for family in FAMILIES if "multi" not in family]


class Moved:
    """A batch of `surrogate_cases` on the device."""

    def __init__(self, batch, device):
        self.batch = batch
        case = batch.case
        self.leaves = [x.detach().to(device).requires_grad_() for x in batch.leaves()]
        self.mask = None if case.mask is None else case.mask.to(device)
        self.dist = distribution(case.family, self.leaves[:-1], self.mask)
        self.old_dist = distribution(case.family, [x.to(device) for x in case.old], self.mask)
        self.actions = case.actions.to(device)
        self.columns = {k: x.to(device) for k, x in batch.columns.items()}
        self.device = device

    def arguments(self, options):
        given = self.batch.arguments(options)
        given |= {k: x for k, x in self.columns.items() if k in given and k not in options}
        given["values"] = self.leaves[-1]
        return {k: x.to(self.device) if torch.is_tensor(x) else x for k, x in given.items()}

    def loss(self, **options):
        return fused_loss(
            self.dist, self.actions, old_dist=self.old_dist, **self.arguments(options)
        )


def loss_and_gradients(loss_of, leaves):
    loss, row = loss_of()
    return loss, row, torch.autograd.grad(loss, leaves)


def assert_equals_cpu(batch, device, on_cpu, options, tolerance):
    moved = Moved(batch, device)
    ours = loss_and_gradients(lambda: moved.loss(**options), moved.leaves)
    expected = on_cpu(lambda: loss_and_gradients(lambda: batch.loss(**options), batch.leaves()))
    assert ours[0].device.type == ours[1].device.type == device
    assert (ours[0].dtype, ours[1].dtype) == (expected[0].dtype, torch.float64)
    close = {"rel": tolerance, "abs": tolerance / 10, "nan_ok": True}
    assert ours[0].item() == pytest.approx(expected[0].item(), **close)
    assert ours[1].tolist() == pytest.approx(expected[1].tolist(), **close)
    for a, b in zip(ours[2], expected[2], strict=True):
        assert_close(a.cpu(), b, tolerance)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("objective", list(OBJECTIVES))
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_cpu(family, objective, options, dtype, tolerance, device, on_cpu):
    batch = Batch(family, 45, seed=3, dtype=dtype)
    assert_equals_cpu(batch, device, on_cpu, OBJECTIVES[objective] | OPTIONS[options], tolerance)


# Four columns of float32 are kept in registers, more of them and all of float64 in memory.
@pytest.mark.parametrize("options", list(OPTIONS))
@pytest.mark.parametrize("dims", [1, 2, 4])
@pytest.mark.parametrize("family", OF_ONE_COMPONENT)
def test_few_columns(family, dims, options, device, on_cpu):
    batch = Batch(family, 45, seed=dims, dtype=torch.float32, dims=dims)
    assert_equals_cpu(batch, device, on_cpu, OBJECTIVES["clipped"] | OPTIONS[options], 1e-5)


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("family", ["categorical", "gaussian"])
@pytest.mark.parametrize("size", [1, 2, 31, 32, 33, 1000])
def test_all_sizes(size, family, dtype, tolerance, device, on_cpu):
    options = dict(OPTIONS["everything"])
    if size == 1:
        options |= {"weights": False, "mask": False}
    batch = Batch(family, size, seed=size, dtype=dtype)
    assert_equals_cpu(batch, device, on_cpu, OBJECTIVES["clipped"] | options, tolerance)


def test_more_samples_than_lanes(device, on_cpu):
    # 2,048 warps take part at most. Without a GPU that is twenty seconds of threads.
    batch = Batch("gaussian", 66000, seed=7, dtype=torch.float64)
    options = OBJECTIVES["clipped"] | OPTIONS["everything"]
    assert_equals_cpu(batch, device, on_cpu, options, 1e-12)


def logp_batch(size, dtype, device):
    generator = torch.Generator().manual_seed(size)

    def normal():
        return torch.randn(size, generator=generator, dtype=dtype).to(device)

    batch = {"logp": normal(), "old_logp": normal(), "advantages": normal(), "kl": normal().abs()}
    batch["weights"] = normal().abs()
    batch["mask"] = torch.arange(size, device=device) % 3 != 1
    return batch


@pytest.mark.parametrize(("dtype", "tolerance"), DTYPES)
@pytest.mark.parametrize("use", [(), ("weights",), ("mask",), ("weights", "mask")])
@pytest.mark.parametrize("name", ["importance", "clipped", "kl_penalty"])
def test_policies_known_by_their_logp(name, use, dtype, tolerance, device, on_cpu):
    function = {
        "importance": importance_surrogate,
        "clipped": clipped_surrogate,
        "kl_penalty": kl_penalty_surrogate,
    }[name]
    results = []
    for where, call in ((device, lambda f: f()), ("cpu", on_cpu)):
        batch = logp_batch(100, dtype, where)
        leaves = [batch["logp"].requires_grad_()]
        arguments = [batch["logp"], batch["old_logp"], batch["advantages"]]
        options = {k: batch[k] for k in use} | {"normalize_advantages": True}
        if name == "clipped":
            options |= {"clip_range": 0.2, "dual_clip": 1.5}
        if name == "kl_penalty":
            leaves.append(batch["kl"].requires_grad_())
            arguments.append(batch["kl"])
            options["beta"] = 0.3

        def run(arguments=arguments, options=options, leaves=leaves):
            loss, stats = function(*arguments, **options)
            return loss, stats, torch.autograd.grad(loss, leaves)

        results.append(call(run))
    (loss, stats, gradients), (expected, other_stats, other_gradients) = results
    assert loss.item() == pytest.approx(expected.item(), rel=tolerance)
    assert {k: x.item() for k, x in stats.items()} == pytest.approx(
        {k: x.item() for k, x in other_stats.items()}, rel=tolerance
    )
    for a, b in zip(gradients, other_gradients, strict=True):
        assert_close(a.cpu(), b, tolerance)


def test_the_same_bits_every_time(device):
    moved = Moved(Batch("gaussian", 5000, dtype=torch.float32), device)
    options = OBJECTIVES["clipped"] | OPTIONS["everything"]
    first, again = (loss_and_gradients(lambda: moved.loss(**options), moved.leaves) for _ in "12")
    for a, b in zip([*first[:2], *first[2]], [*again[:2], *again[2]], strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


def test_strides_change_no_bit(device):
    batch = logp_batch(70, torch.float32, device)
    apart = {k: torch.stack([x, x], 1)[:, 0] for k, x in batch.items()}
    results = []
    for given in (batch, apart):
        logits = torch.stack([given["logp"], given["old_logp"]], 1)
        if given is apart:
            logits = logits.t().contiguous().t()
        logits = logits.detach().requires_grad_()
        loss, row = fused_loss(
            Categorical(logits),
            given["mask"].long(),
            given["advantages"],
            objective="clipped",
            clip_range=0.2,
            old_logp=given["old_logp"],
            weights=given["weights"],
        )
        results.append((loss, row, *torch.autograd.grad(loss, logits)))
    for a, b in zip(*results, strict=True):
        assert torch.equal(a.nan_to_num(), b.nan_to_num())


COEFFICIENTS = {
    "clip_range": 0.2,
    "clip_range_high": 0.3,
    "dual_clip": 1.3,
    "clip_range_values": 0.25,
    "kl_coef": 0.7,
    "kl_hinge": 5.0,
    "kl_hinge_from": 0.01,
    "entropy_coef": 0.05,
    "value_coef": 0.5,
}


@pytest.mark.parametrize("names", [list(COEFFICIENTS), ["clip_range"], ["kl_coef", "value_coef"]])
def test_coefficients_in_device_memory(names, device):
    moved = Moved(Batch("categorical", 64), device)
    tensors = {k: torch.zeros((), dtype=torch.float64, device=device) for k in names}
    given = COEFFICIENTS if names != ["clip_range"] else COEFFICIENTS | {"clip_range_high": None}
    for scale in (1.0, 1.1):
        numbers = {k: x if x is None else scale * x for k, x in given.items()}
        for k, x in tensors.items():
            x.fill_(numbers[k])
        expected = loss_and_gradients(
            lambda numbers=numbers: moved.loss(objective="clipped", **numbers), moved.leaves
        )
        ours = loss_and_gradients(
            lambda numbers=numbers: moved.loss(objective="clipped", **(numbers | tensors)),
            moved.leaves,
        )
        for a, b in zip([*expected[:2], *expected[2]], [*ours[:2], *ours[2]], strict=True):
            assert torch.equal(a.nan_to_num(), b.nan_to_num())


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"kl_coef": torch.zeros(())}, TypeError, "kl_coef must be a number or a float64 tensor"),
        ({"value_coef": torch.zeros(2).double()}, ValueError, r"value_coef must have shape \(\)"),
        ({"clip_range": -1.0}, ValueError, "clip_range must be positive, got -1.0"),
        ({"advantages": torch.zeros(9).double()}, ValueError, r"advantages must have shape \(8,\)"),
        ({"advantages": torch.zeros(8)}, TypeError, "advantages must be float64 like logits"),
        ({"old_logp": None}, TypeError, "old_logp is missing"),
        (
            {"old_logp": torch.zeros(8, dtype=torch.float64, device="meta")},
            ValueError,
            "old_logp must be on .*, got meta",
        ),
    ],
)
def test_errors(options, error, message, device):
    moved = Moved(Batch("categorical", 8), device)
    options = {
        k: x.to(device) if torch.is_tensor(x) and x.device.type == "cpu" else x
        for k, x in options.items()
    }
    arguments = moved.arguments({}) | {"objective": "clipped", "clip_range": 0.2} | options
    with pytest.raises(error, match=f"^fused_loss: {message}"):
        fused_loss(moved.dist, moved.actions, old_dist=moved.old_dist, **arguments)


def test_too_many_components(device):
    logits = torch.zeros(4, 258, device=device)
    dist = MultiCategorical(logits, [2] * 129)
    column = torch.zeros(4, device=device)
    actions = torch.zeros(4, 129, dtype=torch.int64, device=device)
    with pytest.raises(ValueError, match="nvec must have at most 128 choices on a GPU, got 129"):
        fused_loss(dist, actions, column, objective="importance", old_logp=column)


def test_what_the_cpu_refuses_is_nan(device):
    def run(bad=None, **options):
        moved = Moved(Batch("categorical", 40), device)
        if bad == "action":
            moved.actions[7] = 99
        if bad == "logits":
            with torch.no_grad():
                moved.leaves[0][7] = -torch.inf
        settings = OBJECTIVES["clipped"] | {"value_coef": 0.5}
        arguments = moved.arguments(settings) | options
        loss, _ = fused_loss(moved.dist, moved.actions, old_dist=moved.old_dist, **arguments)
        return loss, torch.autograd.grad(loss, moved.leaves)

    assert run()[0].isfinite()
    for bad in ("action", "logits"):
        loss, (logits, values) = run(bad)
        assert loss.isnan()
        rows = logits.isnan().any(1)
        assert rows[7] or bad == "logits"
        assert not rows[:7].any()
        assert not rows[8:].any()
        assert values.isfinite().all()
    weights = torch.ones(40, dtype=torch.float64, device=device)
    for weight in (-1.0, torch.nan, torch.inf):
        weights[3] = weight
        assert run(weights=weights)[0].isnan()
    nothing = torch.zeros(40, dtype=torch.bool, device=device)
    assert run(mask=nothing)[0].isnan()


@pytest.mark.parametrize("family", FAMILIES)
def test_what_has_no_weight_is_not_looked_at(family, device):
    batch = Batch(family, 40)
    moved = Moved(batch, device)
    mask = torch.arange(40, device=device) % 5 != 3
    options = OBJECTIVES["clipped"] | OPTIONS["everything"] | {"weights": False, "mask": False}
    arguments = moved.arguments(options) | {"mask": mask}
    expected = fused_loss(moved.dist, moved.actions, old_dist=moved.old_dist, **arguments)
    with torch.no_grad():
        for x in arguments.values():
            if torch.is_tensor(x) and x.is_floating_point():
                x[~mask] = torch.nan
        for leaf in moved.leaves:
            if len(leaf) == 40:
                leaf[~mask] = torch.nan
    loss, row = fused_loss(moved.dist, moved.actions, old_dist=moved.old_dist, **arguments)
    assert torch.equal(loss, expected[0])
    assert torch.equal(row, expected[1])
    for gradient in torch.autograd.grad(loss, moved.leaves):
        assert gradient.isfinite().all()
        if len(gradient) == 40:
            assert not gradient[~mask].any()


@pytest.mark.parametrize("shift", [-500.0, -70.0, 70.0, 500.0])
def test_sample_size_beyond_the_limit(shift, device, on_cpu):
    rows = []
    for where, call in ((device, lambda f: f()), ("cpu", on_cpu)):
        logp = torch.linspace(0, 1, 70, dtype=torch.float64, device=where)
        old_logp = torch.zeros_like(logp)
        old_logp[::3] = -shift

        def run(logp=logp, old_logp=old_logp):
            return importance_surrogate(logp, old_logp, torch.ones_like(logp))[1]

        rows.append({k: x.item() for k, x in call(run).items()})
    assert rows[0]["limited_fraction"] > 0
    assert rows[0] == pytest.approx(rows[1], rel=1e-12)


def test_backward_multiplies_by_what_comes_in(device):
    moved = Moved(Batch("gaussian", 20), device)
    options = OBJECTIVES["clipped"] | {"value_coef": 0.5}
    plain = torch.autograd.grad(moved.loss(**options)[0], moved.leaves)
    tripled = torch.autograd.grad(3 * moved.loss(**options)[0], moved.leaves)
    for a, b in zip(plain, tripled, strict=True):
        torch.testing.assert_close(3 * a, b)


def test_ppo_loss(device):
    moved = Moved(Batch("categorical", 20), device)
    columns = moved.arguments({})
    loss, stats = ppo_loss(
        moved.dist,
        moved.actions,
        columns["old_logp"],
        columns["advantages"],
        columns["values"],
        columns["returns"],
        clip_range=0.2,
        entropy_coef=0.01,
        value_coef=0.5,
    )
    loss.backward()
    assert set(stats) == set(STATS) - {"kl"}
    assert all(x.device.type == device for x in stats.values())
    assert moved.leaves[0].grad.device.type == device


@pytest.mark.filterwarnings("ignore:Synchronization debug mode")
@pytest.mark.filterwarnings("ignore:The AccumulateGrad node's stream does not match")
def test_it_waits_for_nothing_and_can_be_captured(device):
    if device != "cuda":
        pytest.skip("the CPU has no graphs")
    moved = Moved(Batch("categorical", 64), device)
    clip = torch.tensor(0.2, dtype=torch.float64, device=device)

    def step():
        loss, row = moved.loss(objective="clipped", clip_range=clip, entropy_coef=0.01)
        return loss, row, *torch.autograd.grad(loss, moved.leaves[0])

    try:
        torch.cuda.set_sync_debug_mode("error")
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")
    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for value in (0.1, 0.4):
        clip.fill_(value)
        graph.replay()
        for a, b in zip(captured, step(), strict=True):
            np.testing.assert_array_equal(a.detach().cpu(), b.detach().cpu())
