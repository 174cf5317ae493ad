"""TorchRL trains to the same bits with our GAE as with its own."""

import pytest

pytest.importorskip("torchrl")
import torch
from tensordict import TensorDict
from tensordict.nn import ProbabilisticTensorDictModule, ProbabilisticTensorDictSequential
from tensordict.nn import TensorDictModule as Mod
from torch import nn
from torchrl.envs import GymEnv, StepCounter, TransformedEnv
from torchrl.modules import OneHotCategorical
from torchrl.objectives import ClipPPOLoss, ValueEstimators
from torchrl.objectives.value import GAE, advantages, functional

import ppo_fast.cuda
from ppo_fast import integrations
from ppo_fast.integrations import torchrl as ours
from ppo_fast.integrations.torchrl import FastGAE

LOOP = functional.generalized_advantage_estimate
VECTORIZED = functional.vec_generalized_advantage_estimate
ITERATIONS, FRAMES = 3, 256


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


def random_case(shape, seed=0, dtype=torch.float32, flags="both"):
    """Positional arguments after gamma and lambda; done where terminated or truncated."""
    generator = torch.Generator().manual_seed(seed)
    value, next_value, reward = (
        torch.randn(shape, generator=generator, dtype=dtype) for _ in range(3)
    )
    terminated, truncated = (torch.rand(shape, generator=generator) < 0.1 for _ in range(2))
    done = {"none": terminated & False, "terminated": terminated, "truncated": truncated}.get(
        flags, terminated | truncated
    )
    return value, next_value, reward, done, terminated & done


def assert_same_bits(result, expected):
    for a, b in zip(result, expected, strict=True):
        assert a.dtype == b.dtype
        assert a.shape == b.shape
        assert torch.equal(a, b)


@pytest.mark.parametrize("flags", ["none", "terminated", "truncated", "both"])
@pytest.mark.parametrize(
    ("shape", "time_dim"),
    [
        ((4, 20, 1), -2),
        ((1, 1, 1), -2),
        ((20, 1), -2),
        ((4, 20, 3), -2),
        ((4, 20, 3), 1),
        ((2, 3, 20, 1), -2),
        ((20, 4, 1), 0),
        ((2, 20, 5, 1), -3),
        ((4, 20), -1),
        ((2, 5000, 1), -2),
        ((0, 5, 1), -2),
    ],
)
def test_functions_agree(shape, time_dim, flags, calls):
    for seed, (gamma, lmbda) in enumerate([(0.99, 0.95), (0.9, 1.0), (1.0, 0.0), (0.995, 0.97)]):
        case = random_case(shape, seed, flags=flags)
        for g, m in ((gamma, lmbda), (torch.tensor(gamma), torch.tensor(lmbda))):
            expected = LOOP(g, m, *case, time_dim=time_dim)
            result = ours.generalized_advantage_estimate(g, m, *case, time_dim=time_dim)
            assert_same_bits(result, expected)
            result = ours.vec_generalized_advantage_estimate(g, m, *case, time_dim=time_dim)
            assert_same_bits(result, expected)
            if result[0].numel() and gamma * lmbda > 0:
                # TorchRL's convolution drops weights below 1e-7, and fails where all are 0.
                close = VECTORIZED(g, m, *case, time_dim=time_dim)
                torch.testing.assert_close(result, close, rtol=1e-4, atol=1e-4)
    assert len(calls) == 16


def test_float64_agrees_to_the_rounding_of_gamma(calls):
    # TorchRL rounds gamma to float32 whatever the dtype of the data.
    case = random_case((4, 50, 1), dtype=torch.float64)
    result = ours.generalized_advantage_estimate(0.99, 0.95, *case)
    torch.testing.assert_close(result, LOOP(0.99, 0.95, *case), rtol=1e-6, atol=1e-6)
    exact = ours.generalized_advantage_estimate(0.5, 0.75, *case)
    assert_same_bits(exact, LOOP(0.5, 0.75, *case))
    assert len(calls) == 2


def test_terminated_is_done_by_default(calls):
    value, next_value, reward, done, _ = random_case((4, 20, 1))
    expected = LOOP(0.99, 0.95, value, next_value, reward, done)
    result = ours.generalized_advantage_estimate(0.99, 0.95, value, next_value, reward, done)
    assert_same_bits(result, expected)
    by_name = ours.generalized_advantage_estimate(
        gamma=0.99,
        lmbda=0.95,
        state_value=value,
        next_state_value=next_value,
        reward=reward,
        done=done,
    )
    assert_same_bits(by_name, expected)
    assert len(calls) == 2


def test_strided_arrays_and_untouched_inputs(calls):
    case = random_case((20, 4, 1))
    turned = tuple(x.transpose(0, 1) for x in case)
    copies = [x.clone() for x in case]
    result = ours.generalized_advantage_estimate(0.99, 0.95, *turned)
    assert_same_bits(result, LOOP(0.99, 0.95, *turned))
    assert all(torch.equal(a, b) for a, b in zip(case, copies, strict=True))
    assert calls == [(20, 4)]


@pytest.mark.parametrize("name", [LOOP.__name__, VECTORIZED.__name__])
def test_gradients_are_left_to_torchrl(name, calls):
    gradients = []
    for function in (getattr(ours, name), getattr(functional, name)):
        case = random_case((4, 20, 1))
        case[0].requires_grad_()
        advantage, _ = function(0.99, 0.95, *case)
        advantage.pow(2).sum().backward()
        gradients.append(case[0].grad)
    assert_same_bits(gradients[:1], gradients[1:])
    assert not calls
    with torch.no_grad():
        assert_same_bits(getattr(ours, name)(0.99, 0.95, *case), LOOP(0.99, 0.95, *case))
    assert len(calls) == 1


@pytest.mark.parametrize("time_dim", [-1, 0])
def test_rows_of_one_axis_are_left_to_torchrl(time_dim, calls):
    case = random_case((20,))
    for name in (LOOP.__name__, VECTORIZED.__name__):
        expected = getattr(functional, name)(0.99, 0.95, *case, time_dim=time_dim)
        result = getattr(ours, name)(0.99, 0.95, *case, time_dim=time_dim)
        assert_same_bits(result, expected)
    assert not calls


@pytest.mark.parametrize(
    "change",
    ["gamma per step", "lambda per step", "gamma with gradient", "mixed", "half", "flags"],
)
def test_what_has_no_kernel_is_left_to_torchrl(change, calls):
    value, next_value, reward, done, terminated = random_case((4, 20, 1))
    gamma = lmbda = 0.9
    if change == "gamma per step":
        gamma = torch.full_like(reward, 0.9) ** torch.randint(1, 3, reward.shape)
    elif change == "lambda per step":
        lmbda = torch.rand_like(reward)
    elif change == "gamma with gradient":
        gamma = torch.tensor(0.9, requires_grad=True)
    elif change == "mixed":
        reward = reward.double()
    elif change == "half":
        value, next_value, reward = (x.bfloat16() for x in (value, next_value, reward))
    else:
        done, terminated = done.int() - 1, terminated.int() - 1  # ~ of which is 0 or 1
    arguments = (gamma, lmbda, value, next_value, reward, done, terminated)
    for name in (LOOP.__name__, VECTORIZED.__name__):
        if (name, change) != (VECTORIZED.__name__, "flags"):
            expected = getattr(functional, name)(*arguments)
            assert_same_bits(getattr(ours, name)(*arguments), expected)
    assert not calls


@pytest.mark.parametrize("name", [LOOP.__name__, VECTORIZED.__name__])
def test_tensors_on_a_gpu_have_the_same_bits(name, device, calls):
    for turn in (False, True):
        case = [x.transpose(0, 1) if turn else x for x in random_case((5, 30, 1))]
        moved = [x.to(device) for x in case]
        for factors in ((0.99, 0.95), (torch.tensor(0.99), torch.tensor(0.95))):
            expected = LOOP(*factors, *case)
            factors = (x.to(device) if isinstance(x, torch.Tensor) else x for x in factors)
            result = getattr(ours, name)(*factors, *moved)
            assert all(x.device.type == device for x in result)
            assert_same_bits([x.cpu() for x in result], expected)
    assert len(calls) == 4


def test_a_gpu_without_kernels_is_left_to_torchrl(calls, monkeypatch):
    monkeypatch.setattr(ppo_fast.cuda, "holds", lambda tensor: True)
    monkeypatch.setattr(ppo_fast.cuda, "usable", lambda: (None, "cannot be used here"))
    case = random_case((4, 20, 1))
    for name in (LOOP.__name__, VECTORIZED.__name__):
        expected = getattr(functional, name)(0.99, 0.95, *case)
        assert_same_bits(getattr(ours, name)(0.99, 0.95, *case), expected)
    assert not calls


def test_capture_is_left_to_torchrl_where_it_would_wait(device, calls, monkeypatch):
    monkeypatch.setattr(ppo_fast.cuda, "is_captured", lambda: True)
    case = [x.to(device) for x in random_case((4, 20, 1))]
    on_device = torch.tensor([0.99, 0.95], device=device).unbind()
    for factors, count in ((on_device, 0), ((0.99, 0.95), 1)):
        result = ours.generalized_advantage_estimate(*factors, *case)
        torch.testing.assert_close(result, LOOP(*factors, *case))
        assert len(calls) == count


def test_other_devices_are_left_to_torchrl(calls):
    case = [x.to("meta") for x in random_case((4, 20, 1))]
    result = ours.generalized_advantage_estimate(0.99, 0.95, *case)
    assert all(x.is_meta and x.shape == (4, 20, 1) for x in result)
    assert not calls


def test_errors_are_torchrls():
    value, next_value, reward, done, terminated = random_case((4, 20, 1))
    for time_dim, arrays in (
        (-2, (value, next_value[1:], reward, done, terminated)),
        (-2, (value, next_value.to("meta"), reward, done, terminated)),
        (-4, (value, next_value, reward, done, terminated)),
        (-2, (value[0, :, 0], next_value[0, :, 0], reward[0, :, 0], done[0, :, 0])),
    ):
        for function in (ours.generalized_advantage_estimate, LOOP):
            with pytest.raises((RuntimeError, IndexError, ValueError)):
                function(0.9, 0.9, *arrays, time_dim=time_dim)
    with pytest.raises(ValueError, match=r"gamma must be in \[0, 1\]"):
        ours.generalized_advantage_estimate(1.5, 0.9, value, next_value, reward, done, terminated)


def critic(seed=0):
    torch.manual_seed(seed)
    return Mod(nn.Linear(3, 1), in_keys=["obs"], out_keys=["state_value"])


def batch(shape=(4, 20), seed=0, **entries):
    generator = torch.Generator().manual_seed(seed)
    obs = torch.randn((shape[0], shape[1] + 1, 3), generator=generator)
    terminated, truncated = (torch.rand((*shape, 1), generator=generator) < 0.1 for _ in range(2))
    next_entries = {
        "obs": obs[:, 1:],
        "reward": torch.randn((*shape, 1), generator=generator),
        "done": terminated | truncated,
        "terminated": terminated,
        "truncated": truncated & ~terminated,
    }
    return TensorDict({"obs": obs[:, :-1], "next": next_entries, **entries}, shape)


OPTIONS = [
    {},
    {"vectorized": True},
    {"vectorized": False},
    {"average_gae": True},
    {"differentiable": True},
    {"auto_reset_env": True},
    {"shifted": True, "shifted_budget": 20},
    {"time_dim": 1},
    {"skip_existing": True},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_module_agrees(options, calls):
    outputs = []
    for kind in (GAE, FastGAE):
        estimator = kind(gamma=0.99, lmbda=0.95, value_network=critic(), **options)
        data = batch()
        targets = estimator.value_estimate(batch())
        result = estimator(data)
        assert result is data
        assert len(calls) == (0 if kind is GAE else 2)
        outputs.append([data["advantage"], data["value_target"], targets])
    if options.get("vectorized"):
        torch.testing.assert_close(*outputs, rtol=1e-4, atol=1e-4)
    else:
        # value_estimate goes by the vectorized form whatever the option.
        assert_same_bits(outputs[1][:2], outputs[0][:2])
        torch.testing.assert_close(outputs[1][2], outputs[0][2], rtol=1e-4, atol=1e-4)


def test_module_takes_plain_tensors(calls):
    data = batch()
    tensors = {
        "obs": data["obs"],
        "next_reward": data["next", "reward"],
        "next_done": data["next", "done"],
        "next_terminated": data["next", "terminated"],
        "next_obs": data["next", "obs"],
    }
    theirs, mine = (
        kind(gamma=0.99, lmbda=0.95, value_network=critic())(**tensors) for kind in (GAE, FastGAE)
    )
    assert_same_bits(mine[:2], theirs[:2])
    assert len(calls) == 1


def test_module_on_a_gpu(device, calls):
    # GAE moves its own gamma and lmbda to the device of the data.
    outputs = []
    for kind, place in ((GAE, "cpu"), (FastGAE, device)):
        data = batch().to(place)
        kind(gamma=0.99, lmbda=0.95, value_network=critic().to(place))(data)
        outputs.append([data["advantage"].cpu(), data["value_target"].cpu()])
        assert data["advantage"].device.type == place
    torch.testing.assert_close(outputs[1], outputs[0], rtol=1e-4, atol=1e-4)
    assert calls == [(20, 4)]


def test_module_with_n_step_returns_is_torchrls(calls):
    data = [batch(steps_to_next_obs=torch.full((4, 20, 1), 3)) for _ in range(2)]
    for kind, tensordict in zip((GAE, FastGAE), data, strict=True):
        kind(gamma=0.99, lmbda=0.95, value_network=critic())(tensordict)
    assert_same_bits([data[1]["advantage"]], [data[0]["advantage"]])
    assert not calls


def test_module_without_network(calls):
    data = batch()
    for tensordict in (data, data["next"]):
        tensordict["state_value"] = torch.randn(4, 20, 1)
    theirs = GAE(gamma=0.99, lmbda=0.95, value_network=None)(data.clone())
    mine = FastGAE(gamma=0.99, lmbda=0.95, value_network=None)(data.clone())
    assert_same_bits([mine["advantage"]], [theirs["advantage"]])
    assert calls == [(20, 4)]


def train(estimator):
    """Parameters after a few iterations of PPO on CartPole with truncation after 15 steps."""
    torch.manual_seed(1)
    env = TransformedEnv(GymEnv("CartPole-v1"), StepCounter(max_steps=15))
    env.set_seed(1)
    actor = ProbabilisticTensorDictSequential(
        Mod(
            nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 2)),
            in_keys=["observation"],
            out_keys=["logits"],
        ),
        ProbabilisticTensorDictModule(
            in_keys=["logits"],
            out_keys=["action"],
            distribution_class=OneHotCategorical,
            return_log_prob=True,
            default_interaction_type="random",
        ),
    )
    value = Mod(
        nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 1)),
        in_keys=["observation"],
        out_keys=["state_value"],
    )
    loss, before = ClipPPOLoss(actor, value), None
    if isinstance(estimator, ValueEstimators):
        loss.make_value_estimator(estimator, gamma=0.99, lmbda=0.95)
    elif estimator[1] == "class":
        loss.make_value_estimator(estimator[0], gamma=0.99, lmbda=0.95, value_network=value)
    elif estimator[1] == "instance":
        loss.make_value_estimator(estimator[0](gamma=0.99, lmbda=0.95, value_network=value))
    else:
        before = estimator[0](gamma=0.99, lmbda=0.95, value_network=value)
    optimizer = torch.optim.Adam(loss.parameters(), 3e-3)
    truncations = 0
    for _ in range(ITERATIONS):
        with torch.no_grad():
            data = env.rollout(FRAMES, actor, break_when_any_done=False)
        truncations += int((data["next", "truncated"] & ~data["next", "terminated"]).sum())
        if before is not None:
            before(data)
        for _ in range(3):
            terms = loss(data)
            total = terms["loss_objective"] + terms["loss_critic"] + terms["loss_entropy"]
            optimizer.zero_grad()
            total.backward()
            optimizer.step()
            if before is None:
                data.exclude("advantage", "value_target", inplace=True)
    assert truncations
    return [p.detach().clone() for p in loss.parameters()]


@pytest.fixture(scope="module")
def expected():
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    result = {way: train((GAE, way)) for way in ("class", "before")}
    result["enum"] = train(ValueEstimators.GAE)
    torch.set_num_threads(threads)
    return result


def test_training_depends_on_the_advantages(expected):
    assert not torch.equal(expected["class"][0], expected["before"][0])


@pytest.mark.parametrize("way", ["class", "instance", "before"])
def test_training_with_fast_gae(way, expected, calls):
    parameters = train((FastGAE, way))
    assert_same_bits(parameters, expected["class" if way == "instance" else way])
    updates = ITERATIONS if way == "before" else 3 * ITERATIONS
    assert calls == [(FRAMES, 1)] * updates


def test_training_with_patch(expected, calls):
    with integrations.patch("torchrl") as patch:
        assert "generalized_advantage_estimate" in str(patch)
        parameters = train(ValueEstimators.GAE)
    assert_same_bits(parameters, expected["enum"])
    assert calls == [(FRAMES, 1)] * (3 * ITERATIONS)
    assert advantages.generalized_advantage_estimate is LOOP
    assert advantages.vec_generalized_advantage_estimate is VECTORIZED
    del calls[:]
    GAE(gamma=0.99, lmbda=0.95, value_network=critic())(batch())
    assert not calls


def test_fast_gae_is_the_same_class_of_thing():
    assert issubclass(FastGAE, GAE)
    assert FastGAE.forward.__doc__ == GAE.forward.__doc__
    assert GAE.forward.__globals__["generalized_advantage_estimate"] is not (
        ours.generalized_advantage_estimate
    )
    state = GAE(gamma=0.9, lmbda=0.8, value_network=critic(1)).state_dict()
    estimator = FastGAE(gamma=0.99, lmbda=0.95, value_network=critic(2))
    estimator.load_state_dict(state)
    assert float(estimator.lmbda) == pytest.approx(0.8)


def test_a_torchrl_that_computes_otherwise_is_refused():
    with pytest.raises(ImportError, match=r"GAE.value_estimate does not call gen.*_estimate"):
        ours._calling(GAE.value_estimate, ours.generalized_advantage_estimate)
