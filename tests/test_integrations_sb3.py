"""stable-baselines3 and sb3-contrib train to the same bits with our buffers as with their own."""

import gymnasium as gym
import numpy as np
import pytest

pytest.importorskip("stable_baselines3")
import torch
from gymnasium import spaces
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.env_util import make_vec_env

from ppo_fast import integrations
from ppo_fast.integrations import sb3

METHOD = "compute_returns_and_advantage"
OWN = vars(RolloutBuffer)[METHOD]
BUFFERS = [
    ("sb3", "FastRolloutBuffer"),
    ("sb3", "FastDictRolloutBuffer"),
    ("sb3_contrib", "FastMaskableRolloutBuffer"),
    ("sb3_contrib", "FastMaskableDictRolloutBuffer"),
    ("sb3_contrib", "FastRecurrentRolloutBuffer"),
    ("sb3_contrib", "FastRecurrentDictRolloutBuffer"),
]
VECTOR = spaces.Box(-1, 1, (3,))
N_STEPS, N_ENVS, ROLLOUTS = 64, 2, 3


def buffer_class(module, name):
    if module == "sb3_contrib":
        pytest.importorskip("sb3_contrib")
    return getattr(getattr(integrations, module), name)


def random_buffer(make, n_steps, n_envs, gamma, gae_lambda, seed):
    space = spaces.Dict({"a": VECTOR}) if "Dict" in make.__name__ else VECTOR
    hidden = [(n_steps, 1, n_envs, 4)] if "Recurrent" in make.__name__ else []
    buffer = make(n_steps, space, spaces.Discrete(2), *hidden, "cpu", gae_lambda, gamma, n_envs)
    rng = np.random.default_rng(seed)
    buffer.rewards[:] = rng.normal(size=(n_steps, n_envs))
    buffer.values[:] = rng.normal(size=(n_steps, n_envs))
    # Long episodes in long rollouts: an end hides what was rounded differently after it.
    buffer.episode_starts[:] = rng.random((n_steps, n_envs)) < min(0.1, 10 / n_steps)
    return buffer, torch.from_numpy(rng.normal(size=(n_envs, 1)).astype(np.float32)), rng


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the rewards that our function was called with."""
    shapes = []
    ours = sb3.gae

    def counting(rewards, *args, **kwargs):
        shapes.append(rewards.shape)
        return ours(rewards, *args, **kwargs)

    monkeypatch.setattr(sb3, "gae", counting)
    return shapes


@pytest.mark.parametrize(("module", "name"), BUFFERS)
@pytest.mark.parametrize(
    ("n_steps", "n_envs"),
    [(1, 1), (1, 3), (5, 1), (128, 8), (512, 17), (2048, 1), (5000, 1), (5000, 2)],
)
def test_buffer_has_the_bits_of_the_original(module, name, n_steps, n_envs):
    make = buffer_class(module, name)
    for seed, (gamma, gae_lambda) in enumerate(
        [(0.99, 0.95), (0.995, 0.9), (0.98, 0.8), (0.9, 1.0), (1, 1), (0.99, 0.0), (0.0, 0.5)]
    ):
        ours, last_values, rng = random_buffer(make, n_steps, n_envs, gamma, gae_lambda, seed)
        theirs, *_ = random_buffer(make, n_steps, n_envs, gamma, gae_lambda, seed)
        dones = rng.random(n_envs) < 0.5
        OWN(theirs, last_values, dones)
        ours.compute_returns_and_advantage(last_values=last_values, dones=dones)
        assert np.any(ours.advantages)
        for array in ("advantages", "returns", "rewards", "values", "episode_starts"):
            a, b = getattr(ours, array), getattr(theirs, array)
            assert a.dtype == b.dtype
            assert a.tobytes() == b.tobytes(), array


def test_zeros_differ_in_sign_at_most():
    for seed in range(20):
        ours, _, rng = random_buffer(sb3.FastRolloutBuffer, 20, 4, 0.9, 0.9, seed)
        for array in (ours.rewards, ours.values):
            array[:] = rng.choice([0.0, -0.0, 1.0, -1.0], array.shape)
        theirs, *_ = random_buffer(RolloutBuffer, 20, 4, 0.9, 0.9, seed)
        theirs.rewards[:], theirs.values[:] = ours.rewards, ours.values
        last_values, dones = torch.tensor([0.0, -0.0, 1.0, -1.0]), rng.random(4) < 0.5
        ours.compute_returns_and_advantage(last_values, dones)
        theirs.compute_returns_and_advantage(last_values, dones)
        np.testing.assert_array_equal(ours.advantages, theirs.advantages)
        np.testing.assert_array_equal(ours.returns, theirs.returns)


def test_nan_stays_within_its_episode():
    buffer, last_values, _ = random_buffer(sb3.FastRolloutBuffer, 6, 1, 0.9, 0.9, 0)
    buffer.values[3:] = np.nan
    buffer.episode_starts[:] = [[0], [0], [0], [1], [0], [0]]
    buffer.compute_returns_and_advantage(last_values, np.array([False]))
    assert np.isfinite(buffer.advantages[:3]).all()
    assert np.isnan(buffer.advantages[3:]).all()


def test_by_hand():
    buffer, _, _ = random_buffer(sb3.FastRolloutBuffer, 2, 2, 0.5, 0.5, 0)
    buffer.rewards[:] = [[1, 1], [2, 2]]
    buffer.values[:] = [[4, 4], [8, 8]]
    buffer.episode_starts[:] = [[1, 1], [0, 1]]  # the second environment's first step was its last
    buffer.compute_returns_and_advantage(torch.tensor([16.0, 16.0]), np.array([False, True]))
    # 2 + 16/2 - 8 = 2 and 2 - 8 = -6; then 1 + 8/2 - 4 + 2/4 = 1.5 and 1 - 4 = -3.
    np.testing.assert_array_equal(buffer.advantages, [[1.5, -3], [2, -6]])
    np.testing.assert_array_equal(buffer.returns, [[5.5, 1], [10, 2]])


def test_numpy_numbers_as_factors_agree_to_rounding():
    factors = np.float64(0.99), np.float64(0.95)
    ours, last_values, _ = random_buffer(sb3.FastRolloutBuffer, 256, 4, *factors, 0)
    theirs, *_ = random_buffer(RolloutBuffer, 256, 4, *factors, 0)
    dones = np.zeros(4, bool)
    ours.compute_returns_and_advantage(last_values, dones)
    theirs.compute_returns_and_advantage(last_values, dones)
    np.testing.assert_allclose(ours.advantages, theirs.advantages, rtol=0, atol=1e-5)
    np.testing.assert_allclose(ours.returns, theirs.returns, rtol=0, atol=1e-5)


def test_wrong_arguments():
    buffer, last_values, _ = random_buffer(sb3.FastRolloutBuffer, 8, 2, 0.99, 0.95, 0)
    with pytest.raises(ValueError, match=r"last_values must have shape \(2,\)"):
        buffer.compute_returns_and_advantage(torch.zeros(3), np.zeros(2, bool))
    with pytest.raises(ValueError, match=r"last_done must have shape \(2,\)"):
        buffer.compute_returns_and_advantage(last_values, np.zeros(8, bool))
    buffer.gamma = 1.5
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]"):
        buffer.compute_returns_and_advantage(last_values, np.zeros(2, bool))


class DictObservations(gym.ObservationWrapper):
    """CartPole's observation in two parts, with a mask that forbids going far to the right."""

    def __init__(self, env):
        super().__init__(env)
        self.observation_space = spaces.Dict({"cart": spaces.Box(-9, 9, (2,)), "pole": VECTOR})

    def observation(self, observation):
        return {"cart": observation[:2], "pole": np.append(observation[2:], np.float32(1))}

    def action_masks(self):
        return np.array([True, self.unwrapped.state[0] < 0.05])


def cartpole():
    return make_vec_env("CartPole-v1", N_ENVS, seed=0)


def pendulum():
    # Short episodes, all of them truncated.
    return make_vec_env("Pendulum-v1", N_ENVS, seed=0, env_kwargs={"max_episode_steps": 25})


def dict_cartpole():
    return make_vec_env("CartPole-v1", N_ENVS, seed=0, wrapper_class=DictObservations)


def masked():
    from sb3_contrib.common.envs import InvalidActionEnvDiscrete

    return make_vec_env(
        lambda: InvalidActionEnvDiscrete(dim=12, n_invalid_actions=4), N_ENVS, seed=0
    )


def trained(algorithm, policy, make_env, rollout_buffer_class=None, gamma=0.98, **settings):
    if rollout_buffer_class is not None:
        settings["rollout_buffer_class"] = rollout_buffer_class
    policy_kwargs = {"net_arch": [8]}
    if policy.endswith("LstmPolicy"):
        policy_kwargs["lstm_hidden_size"] = 8
    env = make_env()
    model = algorithm(
        policy,
        env,
        n_steps=N_STEPS,
        gamma=gamma,
        gae_lambda=0.9,
        seed=1,
        device="cpu",
        policy_kwargs=policy_kwargs,
        **settings,
    )
    initial = {name: tensor.clone() for name, tensor in model.policy.state_dict().items()}
    model.learn(ROLLOUTS * N_STEPS * N_ENVS)
    env.close()
    final = model.policy.state_dict()
    assert any(not torch.equal(final[name], initial[name]) for name in final)
    return model


def same_parameters(one, other):
    a, b = one.policy.state_dict(), other.policy.state_dict()
    assert a.keys() == b.keys()
    return all(a[name].numpy().tobytes() == b[name].numpy().tobytes() for name in a)


def contrib(name):
    return getattr(pytest.importorskip("sb3_contrib"), name)


EPOCHS = {"batch_size": 32, "n_epochs": 2}
CASES = {
    "PPO": lambda: (PPO, "MlpPolicy", cartpole, BUFFERS[0], EPOCHS),
    "PPO truncated": lambda: (PPO, "MlpPolicy", pendulum, BUFFERS[0], EPOCHS),
    "PPO dict": lambda: (PPO, "MultiInputPolicy", dict_cartpole, BUFFERS[1], EPOCHS),
    "A2C": lambda: (A2C, "MlpPolicy", cartpole, BUFFERS[0], {}),
    "A2C dict": lambda: (A2C, "MultiInputPolicy", dict_cartpole, BUFFERS[1], {}),
    "TRPO": lambda: (contrib("TRPO"), "MlpPolicy", cartpole, BUFFERS[0], {"batch_size": 32}),
    "MaskablePPO": lambda: (contrib("MaskablePPO"), "MlpPolicy", masked, BUFFERS[2], EPOCHS),
    "MaskablePPO dict": lambda: (
        contrib("MaskablePPO"),
        "MultiInputPolicy",
        dict_cartpole,
        BUFFERS[3],
        EPOCHS,
    ),
    "RecurrentPPO": lambda: (contrib("RecurrentPPO"), "MlpLstmPolicy", cartpole, None, EPOCHS),
    "RecurrentPPO dict": lambda: (
        contrib("RecurrentPPO"),
        "MultiInputLstmPolicy",
        dict_cartpole,
        None,
        EPOCHS,
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_training_ends_with_the_same_bits(case, calls):
    algorithm, policy, make_env, buffer, settings = CASES[case]()
    theirs = trained(algorithm, policy, make_env, **settings)
    assert calls == []

    if buffer is not None:
        make = buffer_class(*buffer)
        ours = trained(algorithm, policy, make_env, rollout_buffer_class=make, **settings)
        assert type(ours.rollout_buffer) is make
        assert calls == [(N_STEPS, N_ENVS)] * ROLLOUTS
        assert same_parameters(ours, theirs)
        calls.clear()

    with integrations.patch("sb3"):
        patched = trained(algorithm, policy, make_env, **settings)
    assert calls == [(N_STEPS, N_ENVS)] * ROLLOUTS
    assert same_parameters(patched, theirs)
    assert vars(RolloutBuffer)[METHOD] is OWN


def test_parameters_would_tell_a_difference():
    one, other = (
        trained(PPO, "MlpPolicy", cartpole, sb3.FastRolloutBuffer, gamma=gamma, **EPOCHS)
        for gamma in (0.98, 0.9800001)
    )
    assert not same_parameters(one, other)


def test_a_saved_model_keeps_its_buffer_class(tmp_path, calls):
    trained(PPO, "MlpPolicy", cartpole, sb3.FastRolloutBuffer, **EPOCHS).save(tmp_path / "model")
    calls.clear()
    model = PPO.load(tmp_path / "model", env=cartpole(), device="cpu")
    assert type(model.rollout_buffer) is sb3.FastRolloutBuffer
    model.learn(N_STEPS * N_ENVS)
    assert calls == [(N_STEPS, N_ENVS)]


def test_one_method_serves_all_rollout_buffers():
    for module, name in BUFFERS:
        bases = buffer_class(module, name).__mro__
        assert [base for base in bases if METHOD in vars(base)] == [
            sb3.FastAdvantages,
            RolloutBuffer,
        ]
    (target,) = sb3.targets()
    assert str(target) == (
        f"stable_baselines3.common.buffers.RolloutBuffer.{METHOD} -> "
        f"ppo_fast.integrations.sb3.FastAdvantages.{METHOD}"
    )


def test_contrib_points_to_the_patch_that_covers_it():
    pytest.importorskip("sb3_contrib")
    with pytest.raises(
        ValueError, match=r"^patch: 'sb3_contrib' has nothing to patch; patch\(\"sb3\"\) covers"
    ):
        integrations.patch("sb3_contrib")
