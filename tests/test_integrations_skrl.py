"""skrl trains as before with our compute_gae, up to the rounding of a sum in another order."""

import importlib
import inspect

import pytest

pytest.importorskip("skrl")
import gymnasium as gym
import torch
from skrl.agents.torch.a2c import A2C
from skrl.agents.torch.ppo import PPO
from skrl.envs.wrappers.torch import wrap_env
from skrl.memories.torch import RandomMemory
from skrl.models.torch import DeterministicMixin, GaussianMixin, Model
from skrl.resources.preprocessors.torch import RunningStandardScaler
from skrl.trainers.torch import SequentialTrainer
from torch import nn

from ppo_fast import integrations
from ppo_fast.integrations import skrl as ours

MODULES = [importlib.import_module(f"skrl.{name}") for name in ours._MODULES]
OWN = [module.compute_gae for module in MODULES]
PPO_GAE = OWN[ours._MODULES.index("agents.torch.ppo.ppo")]
NUM_ENVS, NUM_STEPS, UPDATES = 4, 32, 3
# (r - V) + gamma (V' + lambda A) against (r + gamma V' - V) + gamma lambda A, in float32.
TOLERANCE = {"rtol": 1e-4, "atol": 1e-5}


pytestmark = pytest.mark.usefixtures("one_torch_thread")


@pytest.fixture
def calls(monkeypatch):
    """The shapes of the rewards that the kernel was called with."""
    shapes = []
    kernel = ours.gae

    def counting(rewards, *args, **kwargs):
        shapes.append(tuple(rewards.shape))
        return kernel(rewards, *args, **kwargs)

    monkeypatch.setattr(ours, "gae", counting)
    return shapes


def random_case(shape, seed=0, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    rewards, values = (torch.randn(shape, generator=generator, dtype=dtype) for _ in range(2))
    terminated, truncated = (torch.rand(shape, generator=generator) < 0.1 for _ in range(2))
    last_values = torch.randn(shape[1:], generator=generator, dtype=dtype)
    return {
        "rewards": rewards,
        "values": values,
        "terminated": terminated,
        "truncated": truncated,
        "last_values": last_values,
    }


def for_version(function, case):
    """The keywords under the names of 2.0 where the function is of 2.0, as those with RNN are."""
    if "next_values" not in inspect.signature(function).parameters:
        return case
    renamed = {"last_values": "next_values"}
    return {renamed.get(name, name): x for name, x in case.items() if name != "truncated"}


@pytest.mark.filterwarnings("ignore:.*degrees of freedom:UserWarning")  # of a single item
@pytest.mark.parametrize("index", range(len(MODULES)), ids=ours._MODULES)
@pytest.mark.parametrize("shape", [(1, 1, 1), (32, 4, 1), (200, 17, 1)])
def test_function_agrees(index, shape, calls):
    theirs = OWN[index]
    new = "time_limit_bootstrap" in inspect.signature(theirs).parameters
    for seed, bootstrap in enumerate([False, True] if new else [False]):
        case = for_version(theirs, random_case(shape, seed))
        options = {"time_limit_bootstrap": bootstrap} if new else {}
        for gamma, lam in ((0.99, 0.95), (0.9, 1.0), (1.0, 0.0)):
            factors = {"discount_factor": gamma, "lambda_coefficient": lam}
            copies = {name: x.clone() for name, x in case.items()}
            result = ours.compute_gae(**case, **factors, **options)
            assert all(torch.equal(x, copies[name]) for name, x in case.items())
            expected = theirs(**case, **factors, **options)
            torch.testing.assert_close(result, expected, equal_nan=True, **TOLERANCE)
    assert len(calls) == (6 if new else 3)


def test_function_is_exact_in_float64(calls):
    case = random_case((100, 5, 1), dtype=torch.float64)
    # Factors that float32 holds exactly: skrl rounds gamma to float32.
    factors = {"discount_factor": 0.96875, "lambda_coefficient": 0.9}
    for bootstrap in (False, True):
        result = ours.compute_gae(**case, **factors, time_limit_bootstrap=bootstrap)
        expected = PPO_GAE(**case, **factors, time_limit_bootstrap=bootstrap)
        torch.testing.assert_close(result, expected, rtol=1e-11, atol=1e-12)
    assert len(calls) == 2


def test_tensors_on_a_gpu_stay_there(device, on_cpu, calls):
    case = random_case((100, 5, 1))
    expected = on_cpu(lambda: ours.compute_gae(**case, time_limit_bootstrap=True))
    moved = {name: x.to(device) for name, x in case.items()}
    result = ours.compute_gae(**moved, time_limit_bootstrap=True)
    assert all(x.device.type == device for x in result)
    torch.testing.assert_close([x.cpu() for x in result], list(expected), **TOLERANCE)
    assert len(calls) == 2


def test_truncation_matters_only_with_bootstrap():
    case = random_case((100, 5, 1))
    with_it, without = (
        ours.compute_gae(**case, time_limit_bootstrap=bootstrap)[0] for bootstrap in (True, False)
    )
    assert not torch.allclose(with_it, without)
    case["truncated"] = case["truncated"] & False
    for bootstrap in (True, False):
        assert torch.equal(ours.compute_gae(**case, time_limit_bootstrap=bootstrap)[0], without)


def test_one_of_last_values_and_next_values():
    case = random_case((8, 2, 1))
    last_values = case.pop("last_values")
    assert torch.equal(
        ours.compute_gae(**case, last_values=last_values)[0],
        ours.compute_gae(**case, next_values=last_values)[0],
    )
    for wrong in ({}, {"last_values": last_values, "next_values": last_values}):
        with pytest.raises(TypeError, match="pass one of last_values"):
            ours.compute_gae(**case, **wrong)


class Policy(GaussianMixin, Model):
    def __init__(self, env):
        Model.__init__(
            self,
            observation_space=env.observation_space,
            action_space=env.action_space,
            device=env.device,
        )
        GaussianMixin.__init__(self)
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))
        self.log_std = nn.Parameter(torch.zeros(1))

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {"log_std": self.log_std}


class Value(DeterministicMixin, Model):
    def __init__(self, env):
        Model.__init__(
            self,
            observation_space=env.observation_space,
            action_space=env.action_space,
            device=env.device,
        )
        DeterministicMixin.__init__(self)
        self.net = nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 1))

    def compute(self, inputs, role):
        return self.net(inputs["observations"]), {}


def train(algorithm, directory, **options):
    """Parameters after a few updates on Pendulum, whose episodes are truncated after 25 steps."""
    torch.manual_seed(1)
    env = wrap_env(
        gym.make_vec("Pendulum-v1", NUM_ENVS, vectorization_mode="sync", max_episode_steps=25),
        verbose=False,
    )
    env.reset()
    models = {"policy": Policy(env), "value": Value(env)}
    agent = algorithm(
        models=models,
        memory=RandomMemory(memory_size=NUM_STEPS, num_envs=NUM_ENVS, device=env.device),
        observation_space=env.observation_space,
        action_space=env.action_space,
        device=env.device,
        cfg={
            "rollouts": NUM_STEPS,
            "experiment": {
                "directory": str(directory),
                "write_interval": 0,
                "checkpoint_interval": 0,
            },
            "value_preprocessor": RunningStandardScaler,
            "value_preprocessor_kwargs": {"size": 1},
            **options,
        },
    )
    trainer = SequentialTrainer(
        env=env,
        agents=agent,
        cfg={
            "timesteps": UPDATES * NUM_STEPS,
            "headless": True,
            "disable_progressbar": True,
            "close_environment_at_exit": False,
        },
    )
    trainer.train()
    env.close()
    return [p.detach().clone() for model in models.values() for p in model.parameters()]


def largest_difference(a, b):
    return max(float((x - y).abs().max()) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("algorithm", [PPO, A2C])
@pytest.mark.parametrize("bootstrap", [False, True])
def test_training(algorithm, bootstrap, tmp_path, calls):
    options = {"time_limit_bootstrap": bootstrap}
    expected = train(algorithm, tmp_path, **options)
    assert not calls
    again = train(algorithm, tmp_path, **options)
    assert all(torch.equal(a, b) for a, b in zip(again, expected, strict=True))
    with integrations.patch("skrl"):
        parameters = train(algorithm, tmp_path, **options)
    assert calls == [(NUM_STEPS, NUM_ENVS, 1)] * UPDATES
    assert largest_difference(parameters, expected) < 1e-5
    other = train(algorithm, tmp_path, **options, gae_lambda=0.9)
    assert largest_difference(other, expected) > 1e-3


def test_patch_and_undo(calls):
    with integrations.patch("skrl") as patch:
        assert [target.owner for target in patch.targets] == MODULES
        assert all(module.compute_gae is ours.compute_gae for module in MODULES)
        assert "skrl.agents.torch.ppo.ppo.compute_gae" in str(patch)
    assert [module.compute_gae for module in MODULES] == OWN
    MODULES[0].compute_gae(**for_version(OWN[0], random_case((8, 2, 1))))
    assert not calls


def test_no_other_module_has_a_compute_gae():
    import skrl

    root = importlib.resources.files(skrl)
    found = {
        str(path.relative_to(root).with_suffix("")).replace("/", ".")
        for path in root.rglob("*.py")
        if "def compute_gae(" in path.read_text()
    }
    assert found == set(ours._MODULES)
