"""Gradients of the native learner equal those of torch's autograd: activations, heads, losses."""

import dataclasses

import numpy as np
import pytest
from algorithm_cases import box, discrete, layout_of
from gymnasium import spaces

torch = pytest.importorskip("torch")

from learner_cases import LOSSES, assert_same_gradients, prepared  # noqa: E402

from ppo_fast.learners import GradientStep  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")

HEADS = {
    "one action": ({}, discrete(1)),
    "two actions": ({}, discrete(2)),
    "18 actions": ({}, discrete(18)),
    "multi-categorical": ({}, layout_of(spaces.MultiDiscrete([3, 2, 4]))),
    "bits": ({}, layout_of(spaces.MultiBinary(5))),
    "gaussian": ({}, box(1)),
    "3 gaussians": ({"log_std": -0.5}, box(3)),
    "17 gaussians": ({"log_std": -1.0}, box(17)),
    "std of the state": ({"state_dependent_std": True, "log_std": -0.5}, box(3)),
    "noise of the state": ({"continuous": "gsde", "log_std": -1.0}, box(2)),
    "squashed": ({"continuous": "squashed", "log_std": -0.5}, box(2, squashed=True)),
    "gaussians of the state": ({"state_dependent_std": True, "log_std": -0.5}, box(3)),
    "squashed of the state": (
        {"continuous": "squashed", "state_dependent_std": True, "log_std": -0.5},
        box(2, squashed=True),
    ),
    "gsde": ({"continuous": "gsde", "log_std": -1.5}, box(3)),
}
# 96 samples: a whole block and half of one.
SIZES = {"num_steps": 16, "num_envs": 6, "hidden_sizes": (12, 9)}


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("head", HEADS)
def test_heads_and_losses(head, loss):
    changes, layout = HEADS[head]
    case = prepared(layout, **SIZES, **changes)
    stats = assert_same_gradients(case, LOSSES[loss])
    # The formulas were put to the test: some samples are clipped, the hinge is passed.
    if loss in ("clipped", "dual"):
        assert 0.1 < stats["clip_fraction"] < 0.99
    if loss == "kl" and head != "one action":
        assert stats["kl"] > 10 * LOSSES["kl"].kl_hinge_from


@pytest.mark.parametrize("shared_trunk", [False, True])
@pytest.mark.parametrize(
    "head",
    ["two actions", "multi-categorical", "bits", "3 gaussians", "gaussians of the state", "gsde"],
)
@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
def test_activations_and_trunks(activation, head, shared_trunk):
    changes, layout = HEADS[head]
    case = prepared(layout, activation=activation, shared_trunk=shared_trunk, **SIZES, **changes)
    assert_same_gradients(case, LOSSES["kl"])
    assert_same_gradients(case, LOSSES["clipped values"])


@pytest.mark.parametrize("limit", [0.01, 100.0])
def test_values_at_their_limit_are_not_learned(limit):
    case = prepared(discrete(2), **SIZES)
    obs = case.rollout.obs[:-1].reshape(-1, case.obs_size)
    moved = np.abs(case.learner.values(obs) - case.rollout.old_values.reshape(-1))
    assert 0.01 < np.median(moved) < 100
    loss = dataclasses.replace(LOSSES["clipped values"], clip_range_values=limit)
    assert_same_gradients(case, loss)


def test_the_gradient_of_a_second_minibatch_is_its_own():
    # Nothing of the batch before is added up, nor left over in the work space.
    case = prepared(box(3), **SIZES)
    for count in (96, 40, 1, 70):
        order = np.random.default_rng(count).permutation(96)[:count]
        assert_same_gradients(case, LOSSES["importance"], order)


def test_a_sample_that_comes_twice_counts_twice():
    case = prepared(discrete(3), **SIZES)
    assert_same_gradients(case, LOSSES["importance"], np.array([5, 5, 5, 17, 90]))


def test_moments_of_adam_after_one_step():
    # m = (1 - beta1) g and v = (1 - beta2) g^2, with 1 - beta rounded once.
    case = prepared(discrete(3), **SIZES)
    step = GradientStep(minibatch_size=96, learning_rate=1e-3, max_grad_norm=None)
    case.learner._optimizer.state.clear()
    case.learner._link()
    case.learner.epoch(case.rollout, np.arange(96), LOSSES["clipped"], step)
    gradient = case.learner._flat.grad.numpy()
    state = case.learner._optimizer.state[case.learner._flat]
    assert state["step"] == 1
    np.testing.assert_allclose(state["exp_avg"], 0.1 * gradient, rtol=3e-7)
    squares = 0.001 * gradient.astype(np.float64) ** 2
    np.testing.assert_allclose(state["exp_avg_sq"], squares, rtol=3e-7, atol=1e-44)
