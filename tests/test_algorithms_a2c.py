"""A2C: one step on the whole rollout, along the gradient of the weighted log-probabilities."""

from types import SimpleNamespace

import numpy as np
import pytest
from algorithm_cases import (
    OBS_SIZE,
    POLICIES,
    at,
    discrete,
    make_config,
    make_rollout,
    play,
    playing,
)

from ppo_fast.algorithms import make_algorithm
from ppo_fast.learners import EpochResult, PolicyChange
from ppo_fast.surrogate import STATS

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def config_of(**changes):
    return make_config(algorithm="a2c", **changes)


def recorder():
    calls = []

    def epoch(rollout, order, loss, step):
        calls.append(SimpleNamespace(order=order.copy(), loss=loss, step=step))
        return EpochResult(np.ones((1, len(STATS))), stopped=False)

    return SimpleNamespace(
        epoch=epoch,
        act=lambda obs, actions, logp, *, step: None,
        values=lambda obs: obs[:, 0] / 2,
        policy_change=lambda rollout: PolicyChange(0.1, 0.2, 0.3),
        read=dict,
        calls=calls,
    )


def test_one_step_on_the_whole_rollout():
    config = config_of(num_epochs=7, minibatch_size=2, max_grad_norm=0.4)
    algorithm = make_algorithm(config)
    assert not algorithm.whole_episodes
    assert algorithm.state() == {}
    learner = recorder()
    rollout = play(learner, make_rollout(config, discrete()))
    metrics = algorithm.update(learner, rollout, at(config, 5))
    (call,) = learner.calls
    np.testing.assert_array_equal(call.order, np.arange(30))
    assert call.step.minibatch_size == 30
    assert call.step.max_grad_norm == 0.4
    assert call.step.stop_kl is None
    assert call.loss.objective == "policy_gradient"
    assert metrics["learning_rate"] == call.step.learning_rate == config.learning_rate / 2
    assert (metrics["kl"], metrics["entropy"], metrics["effective_sample_size"]) == (0.1, 0.2, 0.3)


def test_weights_are_advantages_by_hand():
    # lambda = 0, gamma = 1/2, V(obs) = obs / 2: A = r + V' / 2 - V.
    config = config_of(
        num_steps=3, num_envs=1, gamma=0.5, gae_lambda=0.0, normalize_advantages="none"
    )
    learner = recorder()
    rollout = make_rollout(config, discrete(), obs_size=1)
    rollout.obs[:, 0, 0] = [2, 4, 8, 16]
    rollout.rewards[:, 0] = [1, 2, 3]
    rollout.truncated[1] = True
    rollout.final_obs[1] = 6
    make_algorithm(config).update(learner, rollout, at(config))
    # 1 + 2/2 - 1, then cut: 2 + 3/2 - 2, then 3 + 8/2 - 4.
    np.testing.assert_array_equal(rollout.advantages[:, 0], [1, 1.5, 3])
    np.testing.assert_array_equal(rollout.returns[:, 0], [2, 3.5, 7])


@pytest.mark.parametrize("where", ["minibatch", "batch", "none"])
@pytest.mark.parametrize("family", POLICIES)
def test_gradient_equals_autograd(family, where):
    torch = pytest.importorskip("torch")
    import plain_policies as plain

    changes, layout = POLICIES[family]
    config = config_of(
        normalize_advantages=where,
        entropy_coef=0.03,
        value_coef=0.7,
        max_grad_norm=None,
        learning_rate=1e-12,  # the parameters stay where they are
        **changes,
    )
    learner, rollout = playing(config, layout, seed=4)
    make_algorithm(config).update(learner, rollout, at(config))
    model = learner.model
    ours = {name: p.grad.clone() for name, p in model.named_parameters()}

    rollout.estimate_advantages(learner, gamma=config.gamma, gae_lambda=config.gae_lambda)
    advantages = torch.from_numpy(rollout.advantages.reshape(-1))
    if where != "none":
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    dist, values = model(torch.from_numpy(rollout.obs[:-1].reshape(-1, OBS_SIZE)))
    actions = torch.from_numpy(rollout.actions.reshape(30, *layout.shape))
    returns = torch.from_numpy(rollout.returns.reshape(-1))
    loss = (
        -(advantages * plain.log_probability(dist, actions)).mean()
        + 0.7 * ((values - returns) ** 2).mean()
        - 0.03 * plain.entropy(dist).mean()
    )
    model.zero_grad(set_to_none=False)
    loss.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(ours[name], p.grad, rtol=1e-4, atol=2e-6)
        assert p.grad.abs().max() > 0, name
