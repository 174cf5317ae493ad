"""ActorCritic for every kind of action, and what a TorchLearner does with it."""

import copy
import dataclasses

import numpy as np
import pytest
from algorithm_cases import (
    OBS_SIZE,
    POLICIES,
    at,
    box,
    changed,
    discrete,
    layout_of,
    make_config,
    make_rollout,
    obs_rows,
    parameters,
    play,
    playing,
)
from gymnasium import spaces

from ppo_fast.algorithms import make_algorithm
from ppo_fast.learners import GradientStep, Loss, make_learner
from ppo_fast.surrogate import STATS

torch = pytest.importorskip("torch")

import plain_policies as plain  # noqa: E402

from ppo_fast.learners.networks import ActorCritic  # noqa: E402

pytestmark = pytest.mark.usefixtures("one_torch_thread")


def network(layout=None, **changes):
    config = make_config(**({"hidden_sizes": (8, 6)} | changes))
    return ActorCritic(config, obs_rows(), layout or discrete(3), torch.Generator().manual_seed(0))


def random_obs(count=7, seed=0):
    return torch.from_numpy(
        np.random.default_rng(seed).normal(size=(count, OBS_SIZE)).astype(np.float32)
    )


def shapes(module):
    return {name: tuple(p.shape) for name, p in module.named_parameters()}


# Networks


@pytest.mark.parametrize(
    ("changes", "layout", "family", "outputs"),
    [
        ({}, discrete(5), "Categorical", 5),
        ({}, layout_of(spaces.MultiDiscrete([3, 2, 4])), "MultiCategorical", 9),
        ({}, layout_of(spaces.MultiBinary(6)), "Bernoulli", 6),
        ({}, box(4), "Gaussian", 4),
        ({"state_dependent_std": True}, box(4), "Gaussian", 8),
        ({"continuous": "squashed"}, box(4, squashed=True), "SquashedGaussian", 4),
        (
            {"continuous": "squashed", "state_dependent_std": True},
            box(4, squashed=True),
            "SquashedGaussian",
            8,
        ),
        ({"continuous": "gsde"}, box(4), "StateDependentNoise", 4),
        # Settings of continuous actions mean nothing elsewhere.
        ({"continuous": "gsde"}, discrete(5), "Categorical", 5),
    ],
)
def test_families(changes, layout, family, outputs):
    model = network(layout, **changes)
    dist, values = model(random_obs())
    assert type(dist).__name__ == family
    assert model.actor.head.weight.shape == (outputs, 6)
    assert values.shape == (7,)
    first = dist.logits if hasattr(dist, "logits") else dist.mean
    expected = outputs // 2 if "state_dependent_std" in changes else outputs
    assert first.shape == (7, expected)
    assert model.policy(random_obs()).__class__ is dist.__class__
    assert torch.equal(model.values(random_obs()), values)
    has_own_std = layout.kind == "continuous" and "state_dependent_std" not in changes
    assert ("actor.log_std" in shapes(model)) is has_own_std


def test_own_trunks():
    assert shapes(network()) == {
        "actor.hidden.0.weight": (8, 3),
        "actor.hidden.0.bias": (8,),
        "actor.hidden.2.weight": (6, 8),
        "actor.hidden.2.bias": (6,),
        "actor.head.weight": (3, 6),
        "actor.head.bias": (3,),
        "critic.0.weight": (8, 3),
        "critic.0.bias": (8,),
        "critic.2.weight": (6, 8),
        "critic.2.bias": (6,),
        "critic.4.weight": (1, 6),
        "critic.4.bias": (1,),
    }


def test_shared_trunk():
    model = network(shared_trunk=True)
    assert shapes(model) == {
        "trunk.0.weight": (8, 3),
        "trunk.0.bias": (8,),
        "trunk.2.weight": (6, 8),
        "trunk.2.bias": (6,),
        "actor.head.weight": (3, 6),
        "actor.head.bias": (3,),
        "critic.0.weight": (1, 6),
        "critic.0.bias": (1,),
    }
    features = model.trunk(random_obs())
    dist, values = model(random_obs())
    assert torch.equal(dist.logits, model.actor.head(features))
    assert torch.equal(values, model.critic(features).squeeze(-1))
    # Both losses reach it; with trunks of their own each reaches its own only.
    for shared in (True, False):
        model = network(shared_trunk=shared)
        hidden = model.trunk if shared else model.actor.hidden
        (gradient,) = torch.autograd.grad(
            model.values(random_obs()).sum(), hidden[0].weight, allow_unused=True
        )
        assert (gradient is not None) is shared


def test_both_share_the_first_layers_when_there_are_none():
    model = network(shared_trunk=True, hidden_sizes=())
    assert shapes(model)["actor.head.weight"] == (3, 3)
    assert model(random_obs())[1].shape == (7,)


@pytest.mark.parametrize(
    ("activation", "function"),
    [
        ("tanh", torch.tanh),
        ("relu", torch.relu),
        ("elu", torch.nn.functional.elu),
        ("silu", torch.nn.functional.silu),
    ],
)
def test_activations(activation, function):
    model = network(activation=activation)
    latent = random_obs()
    for k in (0, 2):
        latent = function(model.actor.hidden[k](latent))
    logits = model.actor.head(latent)
    torch.testing.assert_close(model.policy(random_obs()).logits, logits)


def test_own_log_std():
    model = network(box(4), log_std=-0.7)
    dist = model.policy(random_obs())
    assert torch.equal(dist.log_std.expand(7, 4), torch.full((7, 4), -0.7))
    assert shapes(model)["actor.log_std"] == (4,)


def test_log_std_of_the_state():
    model = network(box(4), state_dependent_std=True, log_std=-0.7)
    dist = model.policy(random_obs())
    assert dist.log_std.shape == (7, 4)
    # Near the start's everywhere, but not the same for all states.
    assert (dist.log_std + 0.7).abs().max() < 0.1
    assert (dist.log_std[0] != dist.log_std[1]).any()
    with torch.no_grad():
        outputs = model.actor.head(model.actor.hidden(random_obs()))
    torch.testing.assert_close(dist.mean, outputs[:, :4])
    torch.testing.assert_close(dist.log_std, outputs[:, 4:] - 0.7)
    # Within limits, however far the network goes.
    with torch.no_grad():
        model.actor.head.bias[4:] = torch.tensor([1e3, -1e3, 0, 0])
        log_std = model.policy(random_obs()).log_std
    assert (log_std[:, 0] == 2).all()
    assert (log_std[:, 1] == -20).all()


def test_noise_of_the_state():
    model = network(box(4), continuous="gsde", log_std=-1.5)
    assert shapes(model)["actor.log_std"] == (6, 4)  # latent features x actions
    dist = model.policy(random_obs())
    assert dist.latent.shape == (7, 6)
    torch.testing.assert_close(dist.latent, model.actor.hidden(random_obs()))
    # std^2 = sum over features of latent^2 exp(2 log_std) + 1e-6
    variance = (dist.latent**2).sum(-1, keepdim=True) * np.exp(-3.0) + 1e-6
    expected = (0.5 * torch.log(variance)).expand(7, 4)
    torch.testing.assert_close(dist.gaussian().log_std, expected)
    # With a shared trunk the features are the trunk's; without layers, the observation.
    shared = network(box(4), continuous="gsde", shared_trunk=True)
    torch.testing.assert_close(shared.policy(random_obs()).latent, shared.trunk(random_obs()))
    flat = network(box(4), continuous="gsde", hidden_sizes=())
    assert shapes(flat)["actor.log_std"] == (OBS_SIZE, 4)


# Learners


@pytest.mark.parametrize("family", POLICIES)
def test_sampled_log_probabilities(family):
    changes, layout = POLICIES[family]
    learner, rollout = playing(make_config(**changes), layout)
    obs = torch.from_numpy(rollout.obs[:-1].reshape(-1, OBS_SIZE))
    actions = torch.from_numpy(rollout.actions.reshape(30, *layout.shape))
    assert rollout.actions.dtype == layout.dtype
    with torch.no_grad():
        dist = learner.model.policy(obs)
        expected = plain.log_probability(dist, actions).numpy()
    np.testing.assert_allclose(rollout.logp.reshape(-1), expected, rtol=1e-4, atol=1e-5)
    # Fresh ratios are 1, fresh divergences 0.
    change = learner.policy_change(rollout)
    assert change.kl == pytest.approx(0, abs=1e-7)
    assert change.effective_sample_size == pytest.approx(1, abs=1e-6)
    with torch.no_grad():
        entropy = plain.entropy(dist).mean().item()
    assert change.entropy == pytest.approx(entropy, rel=1e-4)


@pytest.mark.parametrize("family", POLICIES)
def test_deterministic_actions_are_the_mode(family):
    changes, layout = POLICIES[family]
    learner = make_learner(make_config(**changes), obs_rows(), layout)
    with torch.no_grad():
        learner.model.actor.head.weight.mul_(100)
    obs = random_obs(20)
    actions = np.empty((20, *layout.shape), layout.dtype)
    logp = np.empty(20, np.float32)
    learner.act(obs.numpy(), actions, logp, step=3, deterministic=True)
    with torch.no_grad():
        dist = learner.model.policy(obs)
        kind, *tensors = plain.parts(dist)
        if kind == "choices":
            expected = torch.stack([x.argmax(-1) for x in tensors], -1)
            expected = expected.reshape(20, *layout.shape).numpy()
        else:
            expected = dist.mean.numpy()
    # The native engine's own mean differs from torch's in its last bits.
    atol = 1e-6 if learner.engine == "native" and kind != "choices" else 0
    np.testing.assert_allclose(actions, expected, rtol=0, atol=atol)


@pytest.mark.parametrize("family", POLICIES)
def test_the_old_policy_stays_what_it_was(family):
    changes, layout = POLICIES[family]
    config = make_config(learning_rate=0.05, num_epochs=3, **changes)
    learner, rollout = playing(config, layout)
    before = copy.deepcopy(learner.model)
    make_algorithm(config).update(learner, rollout, at(config))
    # Every part of the policy moved, and the KL is the one between both networks.
    moved = changed(
        {name: p.detach() for name, p in before.named_parameters()}, parameters(learner)
    )
    assert {name for name in parameters(learner) if name.startswith("actor")} <= moved
    obs = torch.from_numpy(rollout.obs[:-1].reshape(-1, OBS_SIZE))
    with torch.no_grad():
        old, new = before.policy(obs), learner.model.policy(obs)
        expected = plain.kl(plain.detached(old), new).mean().item()
    change = learner.policy_change(rollout)
    assert change.kl == pytest.approx(expected, rel=1e-4)
    assert expected > 1e-3
    actions = torch.from_numpy(rollout.actions.reshape(30, *layout.shape))
    with torch.no_grad():
        logp = plain.log_probability(new, actions)
    ratio = (logp.numpy() - rollout.logp.reshape(-1)).astype(np.float64)
    ratio = np.exp(ratio)
    size = ratio.sum() ** 2 / (30 * (ratio**2).sum())
    assert change.effective_sample_size == pytest.approx(size, rel=1e-3)


@pytest.mark.parametrize("family", POLICIES)
def test_the_kl_of_a_minibatch_is_the_exact_one(family):
    # Minibatches of 8 in an order of their own: each must meet its own rows of the old policy.
    changes, layout = POLICIES[family]
    config = make_config(**changes)
    learner, rollout = playing(config, layout)
    before = copy.deepcopy(learner.model)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, p in learner.model.actor.named_parameters():
            if name != "log_std":  # see test_the_old_policy_stays_what_it_was
                p.add_(0.3 * torch.randn(p.shape, generator=generator))
    rollout.advantages[:] = 0
    order = np.random.default_rng(0).permutation(30)
    loss = Loss("importance", entropy_coef=0.0, value_coef=0.0, kl_coef=1.0)
    result = learner.epoch(rollout, order, loss, GradientStep(8, 1e-12, None))
    obs = torch.from_numpy(rollout.obs[:-1].reshape(-1, OBS_SIZE))
    with torch.no_grad():
        kl = plain.kl(plain.detached(before.policy(obs)), learner.model.policy(obs)).numpy()
    expected = [kl[order[k : k + 8]].mean() for k in range(0, 30, 8)]
    np.testing.assert_allclose(result.stats[:, STATS.index("kl")], expected, rtol=1e-3)


@pytest.mark.parametrize("family", POLICIES)
def test_a_learner_goes_on_from_a_state(family):
    changes, layout = POLICIES[family]
    config = make_config(normalize_obs=True, **changes)
    ours, rollout = playing(config, layout)
    make_algorithm(config).update(ours, rollout, at(config))
    ours.observe(rollout)
    theirs = make_learner(dataclasses.replace(config, seed=5), obs_rows(), layout)
    theirs.load_state(copy.deepcopy(ours.state()))
    theirs.seed = ours.seed
    runs = []
    for learner in (ours, theirs):
        again = play(learner, make_rollout(config, layout), seed=7)
        learner.keep_old_policy(again)
        metrics = make_algorithm(config).update(learner, again, at(config, 1))
        runs.append((parameters(learner), again.actions.copy(), metrics))
    assert changed(runs[0][0], runs[1][0]) == set()
    assert runs[0][1].tobytes() == runs[1][1].tobytes()
    np.testing.assert_equal(runs[0][2], runs[1][2])


def test_noise_stays_for_some_steps():
    # gSDE: from one observation the same action follows until the noise is drawn anew.
    config = make_config(continuous="gsde", noise_steps=3)
    learner = make_learner(config, obs_rows(), box())
    obs = np.tile(random_obs(1).numpy(), (4, 1))
    drawn = np.empty((9, 4, 2), np.float32)
    for step in range(9):
        learner.act(obs, drawn[step], np.empty(4, np.float32), step=step)
    for first in (0, 3, 6):
        np.testing.assert_array_equal(drawn[first], drawn[first + 1])
        np.testing.assert_array_equal(drawn[first], drawn[first + 2])
    assert (drawn[2] != drawn[3]).all()
    assert (drawn[5] != drawn[6]).all()
    # Each environment has its own.
    assert (drawn[0, 0] != drawn[0, 1]).all()


# Settings of the loss


def first_row(config, learner, rollout, loss):
    step = GradientStep(30, 1e-12, None)
    result = learner.epoch(rollout, np.arange(30), loss, step)
    return dict(zip(STATS, result.stats[0], strict=True))


@pytest.mark.parametrize("limit", [None, 0.05, 100.0])
def test_value_clipping_reaches_the_loss(limit):
    config = make_config()
    learner, rollout = playing(config, discrete(3))
    rollout.estimate_advantages(learner, gamma=0.9, gae_lambda=0.9)
    rollout.old_values[:] = rollout.values[:-1]
    with torch.no_grad():  # away from the old values
        learner.model.critic[-1].bias.add_(0.3)
    values = learner.values(rollout.obs[:-1].reshape(-1, OBS_SIZE))
    old, returns = rollout.values[:-1].reshape(-1), rollout.returns.reshape(-1)
    near = values if limit is None else old + np.clip(values - old, -limit, limit)
    loss = Loss("importance", entropy_coef=0.0, value_coef=1.0, clip_range_values=limit)
    row = first_row(config, learner, rollout, loss)
    assert row["value_loss"] == pytest.approx(((near - returns) ** 2).mean(), rel=1e-4)
    gradient = learner.model.critic[-1].bias.grad.item()
    # 0.3 is beyond 0.05: nothing is to be gained there, so nothing is learned.
    expected = 0 if limit == 0.05 else 2 * (values - returns).mean()
    assert gradient == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_value_clipping_is_about_the_values_before_the_update():
    # Also where advantages are estimated anew: the limit is for the update, not for an epoch.
    config = make_config(
        recompute_advantages=True,
        clip_range_values=0.01,
        num_epochs=6,
        minibatch_size=30,
        learning_rate=0.05,
        anneal_lr=False,
        max_grad_norm=None,
        value_coef=1.0,
    )
    learner, rollout = playing(config, discrete(3))
    obs = rollout.obs[:-1].reshape(-1, OBS_SIZE)
    before = learner.values(obs)
    pairs = []
    epoch = learner.epoch

    def spy(rollout, *rest):
        near = before + np.clip(learner.values(obs) - before, -0.01, 0.01)
        expected = ((near - rollout.returns.reshape(-1)) ** 2).mean()
        result = epoch(rollout, *rest)
        pairs.append((result.stats[0, STATS.index("value_loss")], expected))
        return result

    learner.epoch = spy
    make_algorithm(config).update(learner, rollout, at(config))
    ours, expected = np.array(pairs).T
    np.testing.assert_allclose(ours, expected, rtol=1e-4)


def test_batch_normalisation_is_once_for_all_minibatches():
    config = make_config(normalize_advantages="batch", num_epochs=1)
    learner, rollout = playing(config, discrete(3))
    make_algorithm(config).update(learner, rollout, at(config))
    assert rollout.advantages.mean() == pytest.approx(0, abs=1e-6)
    assert rollout.advantages.std(ddof=1) == pytest.approx(1, rel=1e-5)


@pytest.mark.parametrize("family", POLICIES)
@pytest.mark.parametrize("changes", [{}, {"normalize_obs": True}])
def test_large_observations_are_seen_in_parts(changes, family, monkeypatch):
    fields, layout = POLICIES[family]
    learner, rollout = playing(make_config(engine="torch", **fields, **changes), layout)
    obs = rollout.obs.reshape(-1, OBS_SIZE)
    values, old = learner.values(obs), plain.detached(learner._old)
    seen = []
    for part in (learner.model.actor, learner.model.critic):
        part.register_forward_pre_hook(lambda module, args: seen.append(len(args[0])))
    monkeypatch.setattr("ppo_fast.learners.torch._MOST_AT_ONCE", 8 * OBS_SIZE + 1)
    np.testing.assert_allclose(learner.values(obs), values, rtol=1e-5, atol=1e-6)
    assert seen == [8, 8, 8, 8, 4]
    learner.keep_old_policy(rollout)
    assert seen[5:] == [8, 8, 8, 6]
    for one, other in zip(plain.detached(learner._old)[1:], old[1:], strict=True):
        torch.testing.assert_close(one, other)
    assert learner.policy_change(rollout).kl == pytest.approx(0, abs=1e-7)


def test_no_observations_have_no_values():
    learner = make_learner(make_config(engine="torch"), obs_rows(), discrete())
    assert learner.values(np.zeros((0, OBS_SIZE), np.float32)).shape == (0,)


@pytest.mark.parametrize("normalize_obs", [False, True])
def test_large_observations_are_gathered_a_minibatch_at_a_time(normalize_obs, monkeypatch):
    config = make_config(engine="torch", normalize_obs=normalize_obs)
    learner, rollout = playing(config, discrete())
    learner.observe(rollout)
    index = torch.tensor([7, 0, 29, 3, 1])
    everything = learner._seen(rollout.obs[:-1].reshape(-1, OBS_SIZE))
    gathered = []
    seen_by = learner._seen_by
    monkeypatch.setattr(
        learner, "_seen_by", lambda *args: (gathered.append(len(args[1])), seen_by(*args))[1]
    )
    for most, sizes in ((5 * OBS_SIZE, [5]), (5 * OBS_SIZE - 1, [2, 2, 1])):
        monkeypatch.setattr("ppo_fast.learners.torch._MOST_AT_ONCE", most)
        gathered.clear()
        parts = list(learner._obs_by(rollout, index, 2))
        assert (gathered, [len(part) for part in parts]) == (sizes, [2, 2, 1])
        assert torch.equal(torch.cat(parts), everything[index])
