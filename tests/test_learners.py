"""Learners of both engines: flat parameters, and gradient steps equal to those of plain torch."""

import copy
import dataclasses
import math

import numpy as np
import pytest
from algorithm_cases import discrete, obs_rows

from ppo_fast import TrainConfig
from ppo_fast.learners import GradientStep, Loss, make_learner
from ppo_fast.rollout import Rollout
from ppo_fast.surrogate import STATS

torch = pytest.importorskip("torch")

from ppo_fast.learners.native import NativeLearner  # noqa: E402
from ppo_fast.learners.networks import ActorCritic, flatten_parameters  # noqa: E402
from ppo_fast.learners.torch import TorchLearner  # noqa: E402

OBS_SIZE = 5
NUM_ACTIONS = 3
LAYOUT = discrete(NUM_ACTIONS)
NUM_STEPS = 16
NUM_ENVS = 4
SAMPLES = NUM_STEPS * NUM_ENVS
LOSS = Loss(
    objective="clipped",
    clip_range=0.2,
    entropy_coef=0.01,
    value_coef=0.5,
    normalize_advantages=True,
)
STEP = GradientStep(minibatch_size=SAMPLES, learning_rate=1e-2, max_grad_norm=None, stop_kl=None)


@pytest.fixture(params=["torch", "native"])
def make(request):
    """A function that makes learners of an engine."""

    def make_one(seed=0, hidden_sizes=(16, 8), activation="tanh", layout=LAYOUT):
        config = TrainConfig(
            "Any-v0",
            seed=seed,
            hidden_sizes=hidden_sizes,
            activation=activation,
            engine=request.param,
        )
        learner = make_learner(config, obs_rows(OBS_SIZE), layout)
        assert learner.engine == request.param
        return learner

    return make_one


def network(layout=LAYOUT, **changes):
    return ActorCritic(TrainConfig("Any-v0", **changes), obs_rows(OBS_SIZE), layout)


def random_rollout(learner, seed=0, logp_noise=0.3):
    """Random samples whose importance weights are near 1; some are clipped."""
    rng = np.random.default_rng(seed)
    rollout = Rollout(NUM_STEPS, NUM_ENVS, (OBS_SIZE,), LAYOUT)
    rollout.obs[:] = rng.normal(size=rollout.obs.shape)
    rollout.advantages[:] = rng.normal(size=rollout.advantages.shape)
    rollout.returns[:] = rng.normal(size=rollout.returns.shape)
    for t in range(NUM_STEPS):
        learner.act(rollout.obs[t], rollout.actions[t], rollout.logp[t], step=t)
    rollout.logp += rng.normal(size=rollout.logp.shape) * logp_noise
    learner.keep_old_policy(rollout)
    return rollout


def parameters(learner):
    """Name -> a copy."""
    return {name: p.detach().clone() for name, p in learner.model.named_parameters()}


def assert_same_parameters(a, b):
    assert a.keys() == b.keys()
    for name in a:
        assert torch.equal(a[name], b[name]), name


def assert_one_flat_tensor(learner):
    """All parameters share one memory without gaps, and so do their gradients."""
    model = learner.model
    count = sum(p.numel() for p in model.parameters())
    for tensors in ([p.data for p in model.parameters()], [p.grad for p in model.parameters()]):
        assert len({tensor.untyped_storage().data_ptr() for tensor in tensors}) == 1
        assert tensors[0].untyped_storage().nbytes() == 4 * count
        offsets = [tensor.storage_offset() for tensor in tensors]
        assert offsets == np.cumsum([0, *(t.numel() for t in tensors)]).tolist()[:-1]


def test_parameters_are_views_of_one_tensor(make):
    learner = make()
    assert_one_flat_tensor(learner)
    rollout = random_rollout(learner)
    learner.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    assert_one_flat_tensor(learner)
    learner.load_state(copy.deepcopy(make(seed=1).state()))
    assert_one_flat_tensor(learner)


def steps_of(learner):
    """Steps that Adam has counted."""
    (state,) = learner.state()["optimizer"]["state"].values()
    return int(state["step"])


@pytest.mark.parametrize("assign", [False, True])
def test_what_torch_itself_loads_is_learned_on_from(assign, make):
    # With `assign` the parameters are others.
    learner, source = make(), make(seed=1)
    rollout = random_rollout(source)
    source.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    state = copy.deepcopy(source.state())
    learner.model.load_state_dict(state["model"], assign=assign)
    assert_one_flat_tensor(learner)
    assert_same_parameters(parameters(learner), parameters(source))
    np.testing.assert_array_equal(learner.values(rollout.obs[0]), source.values(rollout.obs[0]))
    learner.load_state(state)  # the moments, which are other tensors then
    for each in (learner, source):
        each.keep_old_policy(rollout)
        each.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    assert steps_of(learner) == steps_of(source) == 2
    assert_same_parameters(parameters(learner), parameters(source))


def test_a_copy_of_the_model_is_a_module_of_its_own(make):
    learner = make()
    twin = copy.deepcopy(learner.model)
    twin.double().load_state_dict(make(seed=1).model.state_dict())
    assert {p.dtype for p in twin.parameters()} == {torch.float64}
    assert_same_parameters(parameters(learner), parameters(make()))


def test_networks_are_float32_whatever_the_default(make):
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        learner = make()
        rollout = random_rollout(learner)
        learner.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    finally:
        torch.set_default_dtype(before)
    assert {p.dtype for p in learner.model.parameters()} == {torch.float32}


def test_steps_move_the_model_after_load_state(make):
    # Were the views broken, the optimiser would move memory that the model no longer reads.
    learner = make()
    rollout = random_rollout(learner)
    learner.load_state(copy.deepcopy(make(seed=1).state()))
    before = parameters(learner)
    learner.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    for name, p in parameters(learner).items():
        assert not torch.equal(p, before[name]), name


def test_flatten_parameters_changes_no_value():
    model = network(hidden_sizes=(7,), activation="relu")
    obs = torch.randn(4, OBS_SIZE)
    before = [p.detach().clone() for p in model.parameters()]
    dist, values = model(obs)
    flat = flatten_parameters(model)
    assert torch.equal(flat.detach(), torch.cat([p.reshape(-1) for p in before]))
    assert flat.grad.shape == flat.shape
    assert torch.equal(model(obs)[0].logits, dist.logits)
    assert torch.equal(model(obs)[1], values)


def plain_loss(model, batch, loss):
    """The loss of the definitions page with torch's own operations."""
    obs, actions, old_logp, advantages, returns = batch
    policy, values = model(obs)
    dist = torch.distributions.Categorical(logits=policy.logits)
    ratio = torch.exp(dist.log_prob(actions) - old_logp)
    if loss.normalize_advantages:
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    clipped = torch.clamp(ratio, 1 - loss.clip_range, 1 + loss.clip_range)
    policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
    value_loss = ((values - returns) ** 2).mean()
    return policy_loss + loss.value_coef * value_loss - loss.entropy_coef * dist.entropy().mean()


def plain_epoch(model, optimizer, rollout, order, loss, step):
    """`TorchLearner.epoch` with nothing of ours but the network."""
    samples = [
        torch.from_numpy(x.reshape(SAMPLES, *x.shape[2:]))
        for x in (
            rollout.obs[:-1],
            rollout.actions,
            rollout.logp,
            rollout.advantages,
            rollout.returns,
        )
    ]
    for first in range(0, SAMPLES, step.minibatch_size):
        chosen = torch.from_numpy(order[first : first + step.minibatch_size])
        optimizer.zero_grad()
        plain_loss(model, [x[chosen] for x in samples], loss).backward()
        if step.max_grad_norm is not None:
            torch.nn.utils.clip_grad_norm_(model.parameters(), step.max_grad_norm)
        for group in optimizer.param_groups:
            group["lr"] = step.learning_rate
        optimizer.step()


@pytest.mark.parametrize("minibatch_size", [SAMPLES, 24])  # 24 leaves a last one of 16
@pytest.mark.parametrize("max_grad_norm", [None, 0.05, 1e6])
@pytest.mark.parametrize("normalize_advantages", [True, False])
def test_gradient_steps_equal_plain_torch(
    minibatch_size, max_grad_norm, normalize_advantages, make
):
    learner = make(seed=3)
    model = network(hidden_sizes=(16, 8))
    model.load_state_dict(copy.deepcopy(learner.model.state_dict()))
    optimizer = torch.optim.Adam(model.parameters(), lr=1.0, eps=1e-5, fused=False)
    rollout = random_rollout(learner)
    loss = dataclasses.replace(LOSS, normalize_advantages=normalize_advantages)
    before = parameters(learner)
    for epoch, learning_rate in enumerate((1e-3, 5e-4)):
        order = np.random.default_rng(epoch).permutation(SAMPLES)
        step = GradientStep(minibatch_size, learning_rate, max_grad_norm, None)
        result = learner.epoch(rollout, order, loss, step)
        plain_epoch(model, optimizer, rollout, order, loss, step)
        assert result.stats.shape == (math.ceil(SAMPLES / minibatch_size), len(STATS))
        assert not result.stopped
    moved = 0.0
    for name, p in parameters(learner).items():
        torch.testing.assert_close(p, dict(model.named_parameters())[name], rtol=0, atol=1e-6)
        moved = max(moved, (p - before[name]).abs().max().item())
    # Equal because both moved, not because neither did; and some samples were clipped.
    assert moved > 1e-3
    assert result.stats[0, STATS.index("clip_fraction")] > 0


# The native engine's own are in test_learner_failures.py: its norm has the range of a double.
@pytest.mark.parametrize("make", ["torch"], indirect=True)
@pytest.mark.parametrize("max_grad_norm", [None, 0.5])
def test_a_gradient_that_is_not_finite_is_no_step(max_grad_norm, make):
    learner = make()
    rollout = random_rollout(learner)
    before = parameters(learner)
    step = dataclasses.replace(STEP, max_grad_norm=max_grad_norm)
    loss = dataclasses.replace(LOSS, objective="importance", normalize_advantages=False)
    # The loss is finite still, but not the sum of the squares of its derivatives.
    rollout.advantages *= np.float32(1e30)
    with pytest.raises(FloatingPointError, match="the norm of the gradient is inf"):
        learner.epoch(rollout, np.arange(SAMPLES), loss, step)
    # Nor is its error in the critic: (1e18)^2 fits.
    rollout.returns[:] = 1e18
    with pytest.raises(FloatingPointError, match="the norm of the gradient is inf"):
        learner.value_epoch(rollout, np.arange(SAMPLES), 1e6, step)
    assert_same_parameters(parameters(learner), before)


@pytest.mark.parametrize("steps", [0, 3])
def test_undo(steps, make):
    # Before Adam's first step, and later; the learner goes on as if there had been no update.
    learner, other = make(), make()
    rollout = random_rollout(learner)
    for each in (learner, other):
        each.keep_old_policy(rollout)
        for _ in range(steps):
            each.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    learner.keep_old_policy(rollout)
    before = copy.deepcopy(learner.state())
    learner.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    learner.undo()
    now = learner.state()
    torch.testing.assert_close(now["model"], before["model"], rtol=0, atol=0)
    moments, moments_before = (state["optimizer"]["state"] for state in (now, before))
    torch.testing.assert_close(moments, moments_before, rtol=0, atol=0)
    assert_one_flat_tensor(learner)
    for each in (learner, other):
        each.epoch(rollout, np.arange(SAMPLES), LOSS, STEP)
    assert_same_parameters(parameters(learner), parameters(other))


@pytest.mark.parametrize("hidden_sizes", [(64, 64), (3, 20), (20, 3), ()])
def test_orthogonal_initialisation(hidden_sizes, make):
    model = make(hidden_sizes=hidden_sizes).model
    for part, last_gain in ((model.actor, 0.01), (model.critic, 1.0)):
        linears = [layer for layer in part.modules() if isinstance(layer, torch.nn.Linear)]
        gains = [math.sqrt(2)] * len(hidden_sizes) + [last_gain]
        for linear, gain in zip(linears, gains, strict=True):
            w = linear.weight.detach().double()
            # Rows or columns are orthogonal, whichever are fewer.
            product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
            expected = gain**2 * torch.eye(len(product), dtype=torch.float64)
            torch.testing.assert_close(product, expected, rtol=0, atol=1e-6)
            assert not linear.bias.any()


def test_seed_decides_the_initialisation(make):
    torch.manual_seed(0)
    first = parameters(make(seed=5))
    # The process-wide generator of torch has no part in it.
    torch.manual_seed(1)
    assert_same_parameters(parameters(make(seed=5)), first)
    other = parameters(make(seed=6))
    assert not torch.equal(other["actor.hidden.0.weight"], first["actor.hidden.0.weight"])
    make(seed=2**64 - 1)  # the largest seed of a config


@pytest.mark.parametrize(
    ("activation", "kind"), [("tanh", "Tanh"), ("relu", "ReLU"), ("elu", "ELU"), ("silu", "SiLU")]
)
def test_layers(activation, kind, make):
    model = make(hidden_sizes=(6, 7), activation=activation).model
    hidden = ["Linear", kind, "Linear", kind]
    assert [type(layer).__name__ for layer in model.actor.hidden] == hidden
    assert [type(layer).__name__ for layer in model.critic] == [*hidden, "Linear"]
    assert model.actor.head.weight.shape == (NUM_ACTIONS, 7)
    assert len(model.trunk) == 0
    assert [tuple(p.shape) for p in model.critic.parameters()][::2] == [(6, 5), (7, 6), (1, 7)]


@pytest.mark.parametrize(
    ("engine", "kind"),
    [("auto", NativeLearner), ("native", NativeLearner), ("torch", TorchLearner)],
)
def test_make_learner(engine, kind):
    config = TrainConfig("Any-v0", engine=engine)
    assert type(make_learner(config, obs_rows(OBS_SIZE), LAYOUT)) is kind


@pytest.mark.parametrize(
    "make_state",
    [
        pytest.param(lambda make: make(hidden_sizes=(16, 9)).state(), id="wider"),
        pytest.param(lambda make: make(hidden_sizes=(16, 8, 8)).state(), id="deeper"),
        pytest.param(lambda make: make(hidden_sizes=(16,)).state(), id="flatter"),
        pytest.param(
            lambda make: make(layout=discrete(NUM_ACTIONS + 1)).state(), id="more actions"
        ),
        pytest.param(lambda make: {}, id="empty"),
        pytest.param(lambda make: {"model": make().state()["model"]}, id="no optimizer"),
        pytest.param(
            lambda make: {"model": {"actor.hidden.0.weight": 3}, "optimizer": {}}, id="no tensors"
        ),
        pytest.param(lambda make: {"model": [1, 2], "optimizer": None}, id="no mapping"),
    ],
)
def test_state_of_another_network(make_state, make):
    with pytest.raises(ValueError, match=r"^the state is not of this network: .") as error:
        make().load_state(make_state(make))
    assert len(str(error.value).splitlines()) == 1


def test_a_learner_goes_on_from_a_state(make):
    learner = make()
    rollout = random_rollout(learner)
    step = GradientStep(16, 1e-2, 0.5, None)
    learner.epoch(rollout, np.arange(SAMPLES), LOSS, step)
    other = make(seed=9)
    other.load_state(copy.deepcopy(learner.state()))
    other.keep_old_policy(rollout)
    # Equal bits after more steps, so the moments of Adam came along, too.
    for each in (learner, other):
        each.epoch(rollout, np.arange(SAMPLES)[::-1].copy(), LOSS, step)
    assert_same_parameters(parameters(other), parameters(learner))


def act(learner, obs, **keywords):
    actions = np.empty(len(obs), np.int64)
    logp = np.empty(len(obs), np.float32)
    learner.act(obs, actions, logp, **keywords)
    return actions, logp


def log_probabilities(learner, obs):
    with torch.no_grad():
        return torch.log_softmax(
            learner.model.policy(torch.from_numpy(obs)).logits.double(), -1
        ).numpy()


def uneven(make, seed=0):
    """A learner whose actions are not equally probable."""
    learner = make(seed)
    with torch.no_grad():
        learner.model.actor.head.weight.mul_(100)
    return learner


def test_deterministic_actions_are_the_most_probable(make):
    learner = uneven(make)
    obs = np.random.default_rng(0).normal(size=(50, OBS_SIZE)).astype(np.float32)
    expected = log_probabilities(learner, obs)
    actions, logp = act(learner, obs, step=0, deterministic=True)
    np.testing.assert_array_equal(actions, expected.argmax(-1))
    np.testing.assert_allclose(logp, expected.max(-1), atol=1e-6)
    assert len(set(actions.tolist())) == NUM_ACTIONS
    np.testing.assert_array_equal(act(learner, obs, step=9, deterministic=True)[0], actions)


def test_sampled_actions_follow_the_policy(make):
    learner = uneven(make)
    rows = 20_000
    obs = np.tile(np.linspace(-1, 1, OBS_SIZE, dtype=np.float32), (rows, 1))
    expected = log_probabilities(learner, obs)
    actions, logp = act(learner, obs, step=0)
    np.testing.assert_allclose(logp, expected[np.arange(rows), actions], atol=1e-6)
    probabilities = np.exp(expected[0])
    frequencies = np.bincount(actions, minlength=NUM_ACTIONS) / rows
    deviations = np.sqrt(probabilities * (1 - probabilities) / rows)
    assert (np.abs(frequencies - probabilities) < 4 * deviations).all()
    assert probabilities.min() > 0.05


def test_draws_depend_on_seed_step_and_row_only(make):
    learner = uneven(make)
    obs = np.tile(np.linspace(-1, 1, OBS_SIZE, dtype=np.float32), (64, 1))
    actions, _ = act(learner, obs, step=7)
    np.testing.assert_array_equal(act(learner, obs, step=7)[0], actions)
    np.testing.assert_array_equal(act(learner, obs[:10], step=7)[0], actions[:10])
    assert (act(learner, obs, step=8)[0] != actions).any()
    other = uneven(make, seed=1)
    other.load_state(copy.deepcopy(learner.state()))
    assert (act(other, obs, step=7)[0] != actions).any()


def test_values(make):
    learner = make()
    obs = np.random.default_rng(0).normal(size=(9, OBS_SIZE)).astype(np.float32)
    values = learner.values(obs)
    assert values.shape == (9,)
    assert values.dtype == np.float32
    expected = learner.model.values(torch.from_numpy(obs)).detach().numpy()
    atol = 0 if learner.engine == "torch" else 1e-6
    np.testing.assert_allclose(values, expected, rtol=0, atol=atol)


def test_stop_kl_stops_before_the_step(make):
    learner = make()
    rollout = random_rollout(learner, logp_noise=1.0)
    before = parameters(learner)
    step = GradientStep(16, 1e-2, 0.5, stop_kl=1e-3)
    result = learner.epoch(rollout, np.arange(SAMPLES), LOSS, step)
    assert result.stopped
    assert result.stats.shape == (1, len(STATS))
    assert result.stats[0, STATS.index("approx_kl")] > 1e-3
    assert_same_parameters(parameters(learner), before)


def test_stop_kl_keeps_the_steps_before_it(make):
    learner = make()
    rollout = random_rollout(learner, logp_noise=0)
    # The second minibatch of 16 samples looks as if the policy had moved far.
    rollout.logp[4:8] -= 1
    step = GradientStep(16, 1e-3, 0.5, stop_kl=0.05)
    result = learner.epoch(rollout, np.arange(SAMPLES), LOSS, step)
    assert result.stopped
    assert result.stats.shape[0] == 2
    first_only = make()
    first_rows = Rollout(4, NUM_ENVS, (OBS_SIZE,), LAYOUT)
    for name in ("obs", "actions", "logp", "advantages", "returns"):
        rows = getattr(first_rows, name)
        rows[:] = getattr(rollout, name)[: len(rows)]
    first_only.keep_old_policy(first_rows)
    assert not first_only.epoch(first_rows, np.arange(16), LOSS, step).stopped
    assert_same_parameters(parameters(learner), parameters(first_only))
