"""What a trained policy can be asked for besides actions, and when a run ends."""

import copy

import numpy as np
import pytest

import ppo_fast
from ppo_fast import TrainConfig
from ppo_fast.distributions import Categorical
from ppo_fast.training import evaluate

torch = pytest.importorskip("torch")

FEW = {
    "total_steps": 1024,
    "num_envs": 4,
    "num_steps": 64,
    "minibatch_size": 64,
    "eval_episodes": 2,
}
KINDS = {
    "discrete": ("CartPole-v1", {}),
    "normalised": ("CartPole-v1", {"normalize_obs": True, "shared_trunk": True}),
    "gaussian": ("Pendulum-v1", {"state_dependent_std": True}),
    "gsde": ("Pendulum-v1", {"continuous": "gsde"}),
    "squashed": ("Pendulum-v1", {"continuous": "squashed", "normalize_obs": True}),
}


@pytest.fixture(
    scope="module", params=[(k, e) for k in KINDS for e in ("native", "torch")], ids=str
)
def policy(request, tmp_path_factory):
    kind, engine = request.param
    env_id, changes = KINDS[kind]
    out = tmp_path_factory.mktemp("policy") / "run"
    return ppo_fast.train(TrainConfig(env_id, out=out, engine=engine, **FEW | changes)).policy


def observations(policy, count):
    return np.random.default_rng(0).normal(size=(count, policy.observations.size)) * 0.1


def test_values(policy):
    obs = observations(policy, 5)
    values = policy.values(obs)
    assert values.shape == (5,)
    assert values.dtype == np.float32
    assert len(set(values)) == 5
    # A single row goes another way through the kernels.
    np.testing.assert_allclose([policy.values(each) for each in obs], values, rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="values: obs must have shape"):
        policy.values(np.zeros(9))
    with pytest.raises(ValueError, match="values: obs must be finite, got nan in row 1"):
        policy.values(np.where(np.arange(5)[:, None] == 1, np.nan, obs))


def test_the_network_is_what_the_policy_acts_by(policy):
    obs = observations(policy, 7)
    network = policy.network()
    outputs, values = network(torch.tensor(obs, dtype=torch.float32))
    np.testing.assert_allclose(values.detach(), policy.values(obs), rtol=1e-5, atol=1e-6)
    actions = policy.predict(obs)
    config = policy.config
    if config.env_id == "CartPole-v1":
        np.testing.assert_array_equal(outputs.argmax(-1), actions)
    else:
        mean = outputs[:, :1].detach().numpy()
        expected = 2 * np.tanh(mean) if config.continuous == "squashed" else np.clip(mean, -2, 2)
        np.testing.assert_allclose(actions, expected, rtol=1e-5, atol=1e-6)
    assert outputs.shape[1] == (2 if config.env_id == "CartPole-v1" else 1) + (
        config.state_dependent_std
    )


def test_the_network_is_a_copy_that_learns_and_travels(policy):
    obs = torch.tensor(observations(policy, 3), dtype=torch.float32)
    network = policy.network()
    before = policy.values(obs.numpy())
    network(obs)[1].sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.3)
    np.testing.assert_array_equal(policy.values(obs.numpy()), before)
    expected = network(obs)
    traced = torch.export.export(network, (obs,)).module()
    loaded = copy.deepcopy(network)
    loaded.load_state_dict(network.state_dict())
    wide = copy.deepcopy(network).double()(obs.double())
    for a, b in zip(wide, expected, strict=True):
        torch.testing.assert_close(a.float(), b)
    for other in (traced, loaded):
        for a, b in zip(other(obs), expected, strict=True):
            torch.testing.assert_close(a, b)


def test_log_probabilities_by_the_network(tmp_path):
    policy = ppo_fast.train(TrainConfig("CartPole-v1", out=tmp_path / "run", **FEW)).policy
    obs = observations(policy, 6).astype(np.float32)
    logits = policy.network()(torch.from_numpy(obs))[0]
    logp, _ = Categorical(logits).evaluate(torch.zeros(6, dtype=torch.int64))
    torch.testing.assert_close(logp, torch.log_softmax(logits, -1)[:, 0])


@pytest.mark.parametrize("answer", [False, None, True, 0])
def test_only_false_ends_a_run(answer, tmp_path):
    seen = []

    def on_update(row):
        seen.append(row["update"])
        return answer if row["update"] == 2 else None

    config = TrainConfig("CartPole-v1", out=tmp_path / "run", anneal_lr=False, **FEW)
    result = ppo_fast.train(config, on_update=on_update)
    assert len(seen) == (2 if answer is False else 4)
    assert result.evaluation is not None
    assert (config.out / "summary.json").is_file()
    if answer is not False:
        return
    with pytest.raises(ValueError, match="has finished its 512 steps; to go on, give it more"):
        ppo_fast.train(resume=config.out)
    longer = ppo_fast.train(resume=config.out, total_steps=1024)
    whole = ppo_fast.train(TrainConfig("CartPole-v1", out=tmp_path / "w", anneal_lr=False, **FEW))
    np.testing.assert_array_equal(longer.metrics["kl"], whole.metrics["kl"])


def test_who_is_told_to_end_has_its_target_still(tmp_path):
    config = TrainConfig("CartPole-v1", out=tmp_path / "run", target_return=12.0, **FEW)
    ppo_fast.train(config, on_update=lambda row: False)
    longer = ppo_fast.train(resume=config.out, total_steps=100_000)
    assert longer.config.target_return == 12.0
    assert longer.metrics["steps"][-1] < 100_000


def test_checkpoints_of_version_1(tmp_path):
    """They had the shape of a box, or its size alone, and could not be told to end."""
    config = TrainConfig("CartPole-v1", out=tmp_path / "run", **FEW)
    policy = ppo_fast.train(config).policy
    obs = observations(policy, 9)
    path = config.out / "checkpoint.pt"
    new = torch.load(path, weights_only=True)
    old = {name: x for name, x in new.items() if name not in ("observations", "told_to_end")}
    for older in ({"obs_size": 4}, {"obs_size": 4, "obs_shape": [2, 2]}):
        torch.save(old | {"version": 1} | older, path)
        loaded = ppo_fast.load(config.out)
        np.testing.assert_array_equal(loaded.predict(obs), policy.predict(obs))
        assert evaluate(loaded, episodes=3).returns.tolist()  # whatever shape the environment has
    np.testing.assert_array_equal(loaded.predict(obs.reshape(9, 2, 2)), policy.predict(obs))
    longer = ppo_fast.train(resume=config.out, total_steps=2048)
    assert longer.metrics["steps"][-1] == 2048
