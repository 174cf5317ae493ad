"""The native learner at sizes that no block and no vector divides: outputs and gradients."""

import numpy as np
import pytest
from algorithm_cases import box, discrete, layout_of
from gymnasium import spaces

torch = pytest.importorskip("torch")

import plain_policies as plain  # noqa: E402
from learner_cases import LOSSES, assert_same_gradients, in_float64, prepared  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def assert_same_outputs(case, count):
    """Values, and the distributions that actions are drawn from, are the model's own."""
    rng = np.random.default_rng(count)
    obs = rng.normal(size=(count, case.obs_size)).astype(np.float32)
    model = in_float64(case.learner, case.config, case.obs_size, case.layout)
    with torch.no_grad():
        dist, values = model(torch.from_numpy(obs).double())
    np.testing.assert_allclose(case.learner.values(obs), values, rtol=1e-5, atol=1e-5)
    actions = np.empty((count, *case.layout.shape), case.layout.dtype)
    logp = np.empty(count, np.float32)
    case.learner.act(obs, actions, logp, step=count)
    taken = torch.from_numpy(actions)
    if taken.is_floating_point():
        taken = taken.double()
    expected = plain.log_probability(dist, taken).detach()
    np.testing.assert_allclose(logp, expected, rtol=1e-4, atol=1e-4)


def assert_equal(case, counts, loss="dual"):
    rng = np.random.default_rng(0)
    for count in counts:
        assert_same_outputs(case, count)
        order = rng.permutation(case.rollout.rewards.size)[:count]
        assert_same_gradients(case, LOSSES[loss], order)


@pytest.mark.parametrize("count", [1, 2, 15, 16, 17, 37, 63, 64, 65, 127, 128, 129, 200, 1000])
@pytest.mark.parametrize("shared_trunk", [False, True])
def test_batches(count, shared_trunk):
    case = prepared(
        box(2), num_steps=40, num_envs=25, hidden_sizes=(16, 16), shared_trunk=shared_trunk
    )
    assert_equal(case, [count], "clipped")


@pytest.mark.parametrize("activation", ["tanh", "relu", "elu", "silu"])
@pytest.mark.parametrize("width", [1, 3, 7, 13, 65])
def test_widths(width, activation):
    case = prepared(
        discrete(3),
        num_steps=13,
        num_envs=10,
        hidden_sizes=(width, width),
        activation=activation,
        shared_trunk=width % 2 == 0,
    )
    assert_equal(case, [1, 37, 129])


@pytest.mark.parametrize("sizes", [(1, 65), (65, 1), (3, 13, 7), (7, 5, 3, 9, 2, 17)])
@pytest.mark.parametrize("shared_trunk", [False, True])
def test_widths_that_differ(sizes, shared_trunk):
    case = prepared(
        layout_of(spaces.MultiDiscrete([3, 2])),
        num_steps=13,
        num_envs=10,
        hidden_sizes=sizes,
        shared_trunk=shared_trunk,
    )
    assert_equal(case, [1, 63, 130])


@pytest.mark.parametrize("layout", [discrete(1), box(1), layout_of(spaces.MultiBinary(1))])
@pytest.mark.parametrize("shared_trunk", [False, True])
def test_one_of_everything(layout, shared_trunk):
    case = prepared(
        layout, 1, num_steps=65, num_envs=1, hidden_sizes=(1,), shared_trunk=shared_trunk
    )
    assert_equal(case, [1, 65])


@pytest.mark.parametrize("shared_trunk", [False, True])
@pytest.mark.parametrize("obs_size", [1, 3, 17])
def test_without_hidden_layers(obs_size, shared_trunk):
    case = prepared(
        discrete(4), obs_size, num_steps=13, num_envs=10, hidden_sizes=(), shared_trunk=shared_trunk
    )
    assert_equal(case, [1, 63, 130])


@pytest.mark.parametrize("obs_size", [1, 376])
def test_few_and_many_observations(obs_size):
    case = prepared(box(17), obs_size, num_steps=13, num_envs=10, hidden_sizes=(20,), log_std=-1.0)
    assert_equal(case, [1, 37, 129])


@pytest.mark.parametrize("obs_size", [7, 8, 9])
@pytest.mark.parametrize("actions", [7, 8, 9])
def test_layers_about_as_wide_as_a_narrow_one(obs_size, actions):
    # Of a narrow layer, gradients are formed another way.
    for hidden_sizes in ((), (20,), (8, 9)):
        case = prepared(
            discrete(actions), obs_size, num_steps=13, num_envs=10, hidden_sizes=hidden_sizes
        )
        assert_equal(case, [1, 63, 130])


@pytest.mark.parametrize("width", [1, 13, 65])
@pytest.mark.parametrize(
    "changes", [{"continuous": "gsde", "log_std": -1.5}, {"state_dependent_std": True}]
)
def test_standard_deviations_of_the_state(changes, width):
    case = prepared(box(3), num_steps=13, num_envs=10, hidden_sizes=(width,), **changes)
    for count in (1, 37, 129):
        order = np.random.default_rng(0).permutation(130)[:count]
        assert_same_gradients(case, LOSSES["kl"], order)


@pytest.mark.parametrize("shared_trunk", [False, True])
def test_wide_layers(shared_trunk):
    case = prepared(
        box(3),
        num_steps=13,
        num_envs=10,
        hidden_sizes=(400, 400),
        activation="relu",
        shared_trunk=shared_trunk,
    )
    assert_equal(case, [1, 130])


@pytest.mark.parametrize("activation", ["tanh", "silu"])
def test_deep_networks(activation):
    case = prepared(
        discrete(2), num_steps=13, num_envs=10, hidden_sizes=(16,) * 6, activation=activation
    )
    assert_equal(case, [1, 65, 130])


def test_large_activations():
    # The tails of the activations: tanh is 1 there, the exp of silu and elu underflows.
    for activation in ("tanh", "relu", "elu", "silu"):
        case = prepared(
            discrete(3), num_steps=13, num_envs=10, hidden_sizes=(8, 8), activation=activation
        )
        case.rollout.obs *= 30
        case.learner.keep_old_policy(case.rollout)
        assert_same_gradients(case, LOSSES["policy gradient"])
