"""TRPO: its derivatives against dense ones, and the promises of every step."""

import copy

import numpy as np
import pytest
from algorithm_cases import (
    OBS_SIZE,
    POLICIES,
    at,
    changed,
    discrete,
    make_config,
    obs_rows,
    parameters,
    playing,
)

from ppo_fast import TrainConfig
from ppo_fast.algorithms import make_algorithm
from ppo_fast.algorithms.trpo import conjugate_gradient, improve

torch = pytest.importorskip("torch")

import plain_policies as plain  # noqa: E402

from ppo_fast.learners import GradientStep  # noqa: E402
from ppo_fast.learners.networks import ActorCritic  # noqa: E402
from ppo_fast.learners.trust_region import TorchTrustRegion, marginal  # noqa: E402

SAMPLES = 40
pytestmark = pytest.mark.usefixtures("one_torch_thread")


def trpo(**changes):
    return make_config(algorithm="trpo", **({"num_epochs": 2, "anneal_lr": False} | changes))


# Conjugate gradients


def positive_definite(size, seed, condition=100.0):
    rng = np.random.default_rng(seed)
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    return basis * np.geomspace(1, condition, size) @ basis.T, rng.normal(size=size)


@pytest.mark.parametrize("size", [1, 2, 7, 30])
@pytest.mark.parametrize("seed", range(3))
def test_conjugate_gradient_solves(size, seed):
    matrix, b = positive_definite(size, seed)
    b.setflags(write=False)
    x = conjugate_gradient(lambda v: matrix @ v, b, 3 * size, tolerance=1e-28)
    np.testing.assert_allclose(x, np.linalg.solve(matrix, b), rtol=1e-9, atol=1e-12)


def test_conjugate_gradient_stops_when_it_is_good_enough():
    matrix, b = positive_definite(30, 0)
    asked = []
    x = conjugate_gradient(lambda v: asked.append(1) or matrix @ v, b, 1000)
    # |b - A x|^2 <= 1e-10 |b|^2
    assert np.linalg.norm(b - matrix @ x) <= 1.01e-5 * np.linalg.norm(b)
    assert len(asked) < 60


@pytest.mark.parametrize("steps", [1, 2, 3, 5])
def test_each_step_is_the_best_of_its_subspace(steps):
    # x minimises x A x / 2 - b x over the span of b, A b, A^2 b ... : dense, by its Gram matrix.
    matrix, b = positive_definite(12, 1)
    x = conjugate_gradient(lambda v: matrix @ v, b, steps)
    krylov = np.stack([np.linalg.matrix_power(matrix, k) @ b for k in range(steps)], axis=1)
    krylov, _ = np.linalg.qr(krylov)
    best = krylov @ np.linalg.solve(krylov.T @ matrix @ krylov, krylov.T @ b)
    np.testing.assert_allclose(x, best, rtol=1e-7, atol=1e-10)


def test_conjugate_gradient_of_nothing():
    def product(vector):
        raise AssertionError("asked for")

    np.testing.assert_array_equal(conjugate_gradient(product, np.zeros(4), 10), np.zeros(4))


# Derivatives


def network(config, layout, seed=0):
    """A small policy in float64 whose outputs differ between observations."""
    model = ActorCritic(config, obs_rows(), layout, torch.Generator().manual_seed(seed)).double()
    generator = torch.Generator().manual_seed(seed + 1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.3 * torch.randn(p.shape, generator=generator, dtype=p.dtype))
    return model


def region(family, seed=0, hidden=4):
    """A trust region of a float64 policy, and its actor."""
    changes, layout = POLICIES[family]
    actor = network(trpo(hidden_sizes=(hidden,), **changes), layout, seed).actor
    rng = np.random.default_rng(seed)
    obs = torch.from_numpy(rng.normal(size=(SAMPLES, OBS_SIZE)))
    if layout.kind == "continuous":
        actions = torch.from_numpy(rng.normal(size=(SAMPLES, 2)))
    else:
        actions = torch.from_numpy(rng.integers(0, layout.sizes, (SAMPLES, len(layout.sizes))))
        actions = actions.reshape(SAMPLES, *layout.shape)
    with torch.no_grad():
        dist = actor(obs)
        old_logp = plain.log_probability(dist, actions)
        old = copy.deepcopy(marginal(dist))
    advantages = torch.from_numpy(rng.normal(size=SAMPLES))
    return TorchTrustRegion(actor, obs, actions, old_logp, advantages, old), actor


def functions_of(policy, actor):
    """J and the mean KL as functions of flat parameters, in plain torch."""
    names = list(dict(actor.named_parameters()))
    shapes = [p.shape for p in actor.parameters()]
    old = plain.detached(policy._old)

    def dist_at(flat):
        sizes = [shape.numel() for shape in shapes]
        parts = [part.view(shape) for part, shape in zip(flat.split(sizes), shapes, strict=True)]
        mapping = dict(zip(names, parts, strict=True))
        return torch.func.functional_call(actor, mapping, (policy._obs,))

    def surrogate(flat):
        ratio = (plain.log_probability(dist_at(flat), policy._actions) - policy._old_logp).exp()
        return (ratio * policy._advantages).mean()

    return surrogate, lambda flat: plain.kl(old, dist_at(flat)).mean()


@pytest.mark.parametrize("family", POLICIES)
def test_parameters_go_there_and_back(family):
    policy, actor = region(family)
    start = policy.parameters()
    assert start.dtype == np.float64
    assert start.size == sum(p.numel() for p in actor.parameters())
    other = np.random.default_rng(0).normal(size=start.size)
    policy.set_parameters(other)
    np.testing.assert_array_equal(policy.parameters(), other)
    flat = torch.cat([p.detach().reshape(-1) for p in actor.parameters()]).numpy()
    np.testing.assert_array_equal(flat, other)
    policy.set_parameters(start)
    np.testing.assert_array_equal(policy.parameters(), start)


@pytest.mark.parametrize("moved", [0.0, 0.1])
@pytest.mark.parametrize("family", POLICIES)
def test_surrogate_kl_and_gradient_equal_autograd(family, moved):
    policy, actor = region(family)
    start = policy.parameters()
    point = start + moved * np.random.default_rng(2).normal(size=start.size)
    policy.set_parameters(point)
    surrogate, kl = functions_of(policy, actor)
    flat = torch.from_numpy(point).requires_grad_()
    value = surrogate(flat)
    (gradient,) = torch.autograd.grad(value, flat)
    ours, our_kl = policy.surrogate_and_kl()
    assert ours == pytest.approx(value.item(), rel=1e-10, abs=1e-12)
    assert our_kl == pytest.approx(kl(flat).item(), rel=1e-9, abs=1e-12)
    np.testing.assert_allclose(policy.gradient(), gradient.numpy(), rtol=1e-8, atol=1e-12)
    assert np.abs(policy.gradient()).max() > 1e-3


@pytest.mark.parametrize("family", POLICIES)
def test_fisher_product_is_that_of_the_dense_hessian(family):
    policy, actor = region(family)
    start = policy.parameters()
    _, kl = functions_of(policy, actor)
    dense = torch.autograd.functional.hessian(kl, torch.from_numpy(start)).numpy()
    ours = np.stack([policy.fisher_product(unit) for unit in np.eye(start.size)])
    np.testing.assert_allclose(ours, dense, rtol=1e-8, atol=1e-11)
    np.testing.assert_allclose(ours, ours.T, atol=1e-12)
    assert np.linalg.eigvalsh(dense).min() > -1e-12
    assert np.abs(dense).max() > 1e-2


@pytest.mark.parametrize("family", POLICIES)
def test_direction_equals_a_dense_solve(family):
    policy, actor = region(family)
    start = policy.parameters()
    _, kl = functions_of(policy, actor)
    dense = torch.autograd.functional.hessian(kl, torch.from_numpy(start)).numpy()
    dense += 0.1 * np.eye(start.size)
    gradient = policy.gradient()
    x = conjugate_gradient(
        lambda v: policy.fisher_product(v) + 0.1 * v, gradient, start.size, tolerance=1e-26
    )
    np.testing.assert_allclose(x, np.linalg.solve(dense, gradient), rtol=1e-6, atol=1e-9)


@pytest.mark.parametrize("family", POLICIES)
def test_full_step_by_hand(family):
    # sqrt(2 delta / (x . F x)) x from dense matrices: where it keeps the promises, we are there.
    config = trpo(trust_region=1e-4, cg_steps=60, cg_damping=0.1)
    policy, actor = region(family, hidden=3)
    start = policy.parameters()
    surrogate, kl = functions_of(policy, actor)
    dense = torch.autograd.functional.hessian(kl, torch.from_numpy(start)).numpy()
    dense += 0.1 * np.eye(start.size)
    x = np.linalg.solve(dense, policy.gradient())
    full = np.sqrt(2 * config.trust_region / (x @ dense @ x)) * x
    step = improve(policy, config)
    assert step.size in {0.8**k for k in range(config.line_search_steps)}
    # CG stops at a relative residual of 1e-5.
    np.testing.assert_allclose(policy.parameters(), start + step.size * full, atol=1e-5)
    here = torch.from_numpy(policy.parameters())
    assert step.surrogate == pytest.approx(surrogate(here).item(), rel=1e-9)
    assert step.kl == pytest.approx(kl(here).item(), rel=1e-6)


# Promises


def judge(before, after, rollout, advantages):
    """J before and after, and KL, of two models on a rollout; plain torch in float64."""
    obs = torch.from_numpy(rollout.obs[:-1].reshape(-1, OBS_SIZE)).double()
    actions = torch.from_numpy(rollout.actions.reshape(len(obs), *rollout.actions.shape[2:]))
    weights = torch.from_numpy(advantages.reshape(-1)).double()
    with torch.no_grad():
        old, new = (copy.deepcopy(model).double().policy(obs) for model in (before, after))
        old_logp, logp = (plain.log_probability(dist, actions) for dist in (old, new))
        change = (((logp - old_logp).exp() - 1) * weights).mean()
        return change.item(), plain.kl(plain.detached(old), new).mean().item()


@pytest.mark.parametrize("delta", [0.003, 0.05])
@pytest.mark.parametrize("family", POLICIES)
def test_every_step_keeps_its_promises(family, delta):
    changes, layout = POLICIES[family]
    accepted = 0
    for seed in range(5):
        config = trpo(
            trust_region=delta,
            seed=seed,
            num_epochs=1,
            num_steps=20,
            value_coef=1.0,
            hidden_sizes=(16,),
            **changes,
        )
        learner, rollout = playing(config, layout, seed)
        algorithm = make_algorithm(config)
        for number in range(2):  # the second from a policy that is no fresh one
            before = copy.deepcopy(learner.model)
            learner.keep_old_policy(rollout)
            metrics = algorithm.update(learner, rollout, at(config, number))
            change, kl = judge(before, learner.model, rollout, rollout.advantages)
            assert metrics["kl"] == pytest.approx(kl, rel=1e-3, abs=1e-7)
            if metrics["step_size"] == 0:
                continue
            accepted += 1
            assert kl < delta
            assert change > -1e-6  # to the accuracy of float32
            assert kl > delta / 100  # a step it was
            # The actions stay those of the first policy, so do their log-probabilities.
            with torch.no_grad():
                obs = torch.from_numpy(rollout.obs[:-1].reshape(-1, OBS_SIZE))
                actions = torch.from_numpy(rollout.actions.reshape(-1, *layout.shape))
                logp = plain.log_probability(learner.model.policy(obs), actions)
                rollout.logp[:] = logp.numpy().reshape(rollout.logp.shape)
    assert accepted >= 8


def test_a_rejected_step_leaves_every_bit():
    # One try only: the full step has a KL near delta, so about half of them are too long.
    sizes = []
    for seed in range(16):
        config = trpo(seed=seed, line_search_steps=1, trust_region=0.3, cg_damping=1e-3)
        learner, rollout = playing(config, discrete(3), seed)
        before = parameters(learner)
        metrics = make_algorithm(config).update(learner, rollout, at(config))
        sizes.append(metrics["step_size"])
        moved = {name.split(".")[0] for name in changed(before, parameters(learner))}
        assert moved == ({"critic"} if sizes[-1] == 0 else {"actor", "critic"})
        if sizes[-1] == 0:
            assert metrics["kl"] == 0
            # Actions were drawn six at a time, whose logits may be rounded otherwise.
            assert metrics["effective_sample_size"] == pytest.approx(1, rel=1e-9)
    assert set(sizes) == {0, 1}


class Stub:
    """A trust region with the identity as Fisher matrix; J and KL are the given functions."""

    def __init__(self, surrogate, kl, gradient=(3.0, 4.0), sign=1.0):
        self.at = np.array([1.0, 2.0])
        self.tried = []
        self._surrogate, self._kl = surrogate, kl
        self._gradient, self._sign = np.array(gradient), sign

    def parameters(self):
        return self.at.copy()

    def set_parameters(self, parameters):
        self.at = parameters.copy()
        self.tried.append(parameters.copy())

    def gradient(self):
        return self._gradient.copy()

    def fisher_product(self, vector):
        return self._sign * vector

    def surrogate_and_kl(self):
        moved = np.linalg.norm(self.at - [1, 2])
        return self._surrogate(moved), self._kl(moved)


# No damping: the direction is (3, 4), of curvature 25, so with delta = 1/2 the full step is
# sqrt(2 / 2 / 25) (3, 4) = (0.6, 0.8), of length 1.
PLAIN = {"trust_region": 0.5, "cg_damping": 0.0, "line_search_steps": 5}


def test_line_search_by_hand():
    # The KL is 3/4 length^2, which is not below 1/2 at length 1; it is 0.48 at 0.8.
    stub = Stub(lambda length: 5 * length, lambda length: 0.75 * length**2)
    step = improve(stub, trpo(**PLAIN))
    assert step.size == 0.8
    assert step.surrogate == pytest.approx(4)
    assert step.kl == pytest.approx(0.48)
    np.testing.assert_allclose(stub.at, [1.48, 2.64])
    assert len(stub.tried) == 2


def test_an_equal_surrogate_has_not_fallen():
    stub = Stub(lambda length: 7.0, lambda length: 0.0)
    step = improve(stub, trpo(**PLAIN))
    assert (step.size, step.surrogate) == (1, 7)


@pytest.mark.parametrize(
    ("surrogate", "kl"),
    [
        (lambda length: -length, lambda length: 0.0),  # falls
        (lambda length: length, lambda length: 0.5 if length else 0.0),  # KL = delta, not below
        (lambda length: np.nan if length else 0.0, lambda length: 0.0),
        (lambda length: length, lambda length: np.nan),
        (lambda length: -np.inf if length else 0.0, lambda length: np.inf),
    ],
    ids=["falling", "too far", "surrogate nan", "kl nan", "no distribution"],
)
def test_given_up_steps(surrogate, kl):
    stub = Stub(surrogate, kl)
    step = improve(stub, trpo(**PLAIN))
    assert (step.size, step.surrogate, step.kl) == (0, 0, 0)
    assert stub.at.tolist() == [1, 2]
    # Five tries, each 0.8 of the last, and back.
    lengths = [np.linalg.norm(at - [1, 2]) for at in stub.tried]
    np.testing.assert_allclose(lengths, [1, 0.8, 0.64, 0.512, 0.4096, 0], atol=1e-12)


@pytest.mark.parametrize("family", POLICIES)
def test_steps_without_a_distribution_are_rejected(family):
    # Far beyond float32: the outputs of the network are no parameters of a distribution.
    changes, layout = POLICIES[family]
    config = trpo(trust_region=1e80, **changes)
    learner, rollout = playing(config, layout)
    rollout.advantages[:] = np.random.default_rng(0).normal(size=rollout.advantages.shape)
    policy = learner.trust_region(rollout)
    start = policy.parameters()
    step = improve(policy, config)
    assert (step.size, step.kl) == (0, 0)
    np.testing.assert_array_equal(policy.parameters(), start)
    policy.set_parameters(np.full_like(start, np.inf))
    assert policy.surrogate_and_kl() == (-np.inf, np.inf)
    with pytest.raises(FloatingPointError):
        policy.gradient()


def test_a_start_that_is_no_number():
    stub = Stub(lambda length: np.nan, lambda length: 0.0)
    with pytest.raises(FloatingPointError, match="the surrogate before the step is nan"):
        improve(stub, trpo(**PLAIN))
    assert stub.tried == []


def test_no_gradient_no_step():
    stub = Stub(lambda length: 0.0, lambda length: 0.0, gradient=(0.0, 0.0))
    assert improve(stub, trpo(**PLAIN)).size == 0
    assert stub.at.tolist() == [1, 2]


def test_negative_curvature_is_no_step():
    stub = Stub(lambda length: length, lambda length: 0.0, sign=-1.0)
    assert improve(stub, trpo(**PLAIN)).size == 0
    assert stub.at.tolist() == [1, 2]


def test_curvature_that_is_no_number():
    stub = Stub(lambda length: length, lambda length: 0.0, gradient=(np.nan, 1.0))
    with pytest.raises(FloatingPointError, match="the curvature of the KL along the step is nan"):
        improve(stub, trpo(**PLAIN))


@pytest.mark.parametrize("seed", range(4))
def test_without_damping(seed):
    # The Fisher matrix of a softmax is singular; the gradient lies in its range.
    config = trpo(seed=seed, cg_damping=0.0, cg_steps=30, num_steps=20)
    learner, rollout = playing(config, discrete(3), seed)
    metrics = make_algorithm(config).update(learner, rollout, at(config))
    assert metrics["kl"] < config.trust_region


# The critic, and what is reported


@pytest.mark.parametrize("family", POLICIES)
def test_value_epochs_do_not_move_the_policy(family):
    changes, layout = POLICIES[family]
    config = trpo(**changes)
    learner, rollout = playing(config, layout)
    make_algorithm(config).update(learner, rollout, at(config))
    before = parameters(learner)
    step = GradientStep(7, 1e-2, 0.5)
    errors = [learner.value_epoch(rollout, np.arange(30), 0.5, step) for _ in range(5)]
    moved = changed(before, parameters(learner))
    assert moved == {name for name in before if name.startswith("critic")}
    assert errors[-1] < errors[0]


@pytest.mark.parametrize("max_grad_norm", [None, 0.05])
def test_value_epochs_equal_plain_torch(max_grad_norm):
    config = trpo()
    learner, rollout = playing(config, discrete())
    rollout.estimate_advantages(learner, gamma=0.9, gae_lambda=0.9)
    critic = copy.deepcopy(learner.model).critic
    optimizer = torch.optim.Adam(critic.parameters(), lr=1e-2, eps=1e-5)
    obs = torch.from_numpy(rollout.obs[:-1].reshape(-1, OBS_SIZE))
    returns = torch.from_numpy(rollout.returns.reshape(-1))
    order = np.random.default_rng(0).permutation(30)
    for _ in range(3):
        error = learner.value_epoch(rollout, order, 0.7, GradientStep(8, 1e-2, max_grad_norm))
        losses = []
        for part in torch.from_numpy(order).split(8):
            optimizer.zero_grad()
            loss = ((critic(obs[part]).squeeze(-1) - returns[part]) ** 2).mean()
            (0.7 * loss).backward()
            if max_grad_norm is not None:
                torch.nn.utils.clip_grad_norm_(critic.parameters(), max_grad_norm)
            optimizer.step()
            losses.append(loss.item())
        assert error == pytest.approx(np.mean(losses), rel=1e-5)
    for ours, theirs in zip(learner.model.critic.parameters(), critic.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("where", ["minibatch", "batch", "none"])
def test_advantages_are_normalised_once(where):
    config = trpo(normalize_advantages=where)
    learner, rollout = playing(config, discrete())
    rollout.estimate_advantages(learner, gamma=config.gamma, gae_lambda=config.gae_lambda)
    expected = rollout.advantages.astype(np.float64)
    if where != "none":
        expected = (expected - expected.mean()) / (expected.std(ddof=1) + 1e-8)
    make_algorithm(config).update(learner, rollout, at(config))
    np.testing.assert_allclose(rollout.advantages, expected, rtol=1e-4, atol=1e-5)


def test_metrics():
    config = trpo()
    algorithm = make_algorithm(config)
    assert not algorithm.whole_episodes
    assert algorithm.state() == {}
    learner, rollout = playing(config, discrete())
    metrics = algorithm.update(learner, rollout, at(config))
    assert set(metrics) == {
        "policy_loss",
        "value_loss",
        "step_size",
        "kl",
        "effective_sample_size",
        "entropy",
        "explained_variance",
        "learning_rate",
    }
    assert all(type(value) is float for value in metrics.values())
    assert 0 < metrics["effective_sample_size"] <= 1


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2])
def test_learns_cartpole(seed, tmp_path):
    import ppo_fast

    config = TrainConfig.preset(
        "CartPole-v1", algorithm="trpo", seed=seed, total_steps=200_000, out=tmp_path / "run"
    )
    result = ppo_fast.train(config)
    assert (result.metrics["kl"] < config.trust_region).all()
    assert result.evaluation.mean_return >= 475
