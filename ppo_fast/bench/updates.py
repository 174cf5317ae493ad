"""One gradient step of PPO on a minibatch, as each contender takes it.

All start from the same 64x64 tanh actor-critic (4 observations, 2 actions), the same samples and
the same order of them. The plain torch contenders gather the samples of a pass at once and compute
no statistics, which most training loops log.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import gymnasium
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ppo_fast.actions import ActionLayout
from ppo_fast.config import TrainConfig
from ppo_fast.learners import GradientStep, Loss
from ppo_fast.learners.native import NativeLearner
from ppo_fast.learners.torch import TorchLearner
from ppo_fast.observations import ObsLayout
from ppo_fast.rollout import Rollout

ENV_ID = "CartPole-v1"
OBS_SIZE, NUM_ACTIONS = 4, 2
HIDDEN_SIZES = (64, 64)
CLIP_RANGE, ENTROPY_COEF, VALUE_COEF = 0.2, 0.01, 0.5
_ADAM_EPS = 1e-5


@dataclass(frozen=True)
class Samples:
    """The columns of a rollout of S samples.

    Attributes:
        obs: [S, 4] float32.
        actions: [S] int64.
        logp: [S] float32, and so are advantages and returns.
    """

    obs: Tensor
    actions: Tensor
    logp: Tensor
    advantages: Tensor
    returns: Tensor

    def __len__(self) -> int:
        return len(self.actions)

    @property
    def columns(self) -> tuple[Tensor, ...]:
        return self.obs, self.actions, self.logp, self.advantages, self.returns

    def double(self) -> "Samples":
        """The same numbers in float64."""
        return Samples(*(x.double() if x.is_floating_point() else x for x in self.columns))


@dataclass(frozen=True)
class Updater:
    """A contender.

    Attributes:
        parameters: Weight and bias of each layer of the policy, then of the critic.
        epoch: Takes gradient steps on the samples in the given order, a minibatch each.
    """

    parameters: Sequence[Tensor]
    epoch: Callable[[NDArray[np.int64], GradientStep], object]

    def load(self, values: Sequence[Tensor]) -> None:
        """Set all parameters."""
        with torch.no_grad():
            for parameter, value in zip(self.parameters, values, strict=True):
                parameter.copy_(value)

    def gradients(self) -> list[Tensor]:
        """Of the last step, in float64."""
        gradients = []
        for parameter in self.parameters:
            assert parameter.grad is not None
            gradients.append(parameter.grad.double())
        return gradients


# Makes a contender for samples; every call gives one whose optimiser has taken no step.
MakeUpdater = Callable[[Samples], Updater]


def make_samples(size: int) -> Samples:
    """Random samples, in which about half of the ratios are clipped."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    return Samples(
        obs=normal(size, OBS_SIZE),
        actions=torch.randint(NUM_ACTIONS, (size,), generator=generator),
        logp=0.3 * normal(size) - float(np.log(NUM_ACTIONS)),
        advantages=normal(size),
        returns=1 + normal(size),
    )


def first_parameters() -> list[Tensor]:
    """Random parameters of which every one has a gradient that matters."""
    generator = torch.Generator().manual_seed(1)
    return [
        torch.randn(p.shape, generator=generator) * (p.shape[-1] ** -0.5 if p.ndim == 2 else 0.1)
        for p in _PlainAgent().parameters()
    ]


def flops_per_sample() -> int:
    """Of the layers of one gradient step, 2 per multiply-add: outputs, and gradients of weights and
    of inputs, of which a first layer needs none.
    """
    total = 0
    for outputs in (NUM_ACTIONS, 1):
        for k, (before, after) in enumerate(pairwise((OBS_SIZE, *HIDDEN_SIZES, outputs))):
            total += 2 * before * after * (2 if k == 0 else 3)
    return total


def make_layout() -> ActionLayout:
    """CartPole's actions."""
    return ActionLayout.of(ENV_ID, gymnasium.spaces.Discrete(NUM_ACTIONS))


def make_ours(config: TrainConfig) -> NativeLearner | TorchLearner:
    """The learner of a config's engine."""
    kind = NativeLearner if config.engine == "native" else TorchLearner
    box = gymnasium.spaces.Box(-np.inf, np.inf, (OBS_SIZE,))
    return kind(config, ObsLayout.of(ENV_ID, box), make_layout())


def native(samples: Samples, num_threads: int = 1) -> Updater:
    """Our native engine."""
    return _ours(samples, engine="native", num_threads=num_threads)


def torch_engine(samples: Samples) -> Updater:
    """Our torch engine."""
    return _ours(samples, engine="torch")


def _ours(samples: Samples, **settings: Any) -> Updater:
    size = len(samples)
    config = TrainConfig(
        ENV_ID, num_envs=1, num_steps=size, minibatch_size=1, hidden_sizes=HIDDEN_SIZES, **settings
    )
    learner = make_ours(config)
    rollout = Rollout(size, 1, (OBS_SIZE,), make_layout())
    rollout.obs[:-1, 0] = samples.obs.numpy()
    rollout.actions[:, 0] = samples.actions.numpy()
    rollout.logp[:, 0] = samples.logp.numpy()
    rollout.advantages[:, 0] = samples.advantages.numpy()
    rollout.returns[:, 0] = samples.returns.numpy()
    learner.keep_old_policy(rollout)
    loss = Loss(
        objective="clipped",
        entropy_coef=ENTROPY_COEF,
        value_coef=VALUE_COEF,
        clip_range=CLIP_RANGE,
        normalize_advantages=True,
    )

    def epoch(order: NDArray[np.int64], step: GradientStep) -> object:
        return learner.epoch(rollout, order, loss, step)

    return Updater(list(learner.model.parameters()), epoch)


class _PlainAgent(nn.Module):
    """The networks as everybody writes them."""

    def __init__(self) -> None:
        super().__init__()
        self.actor = _mlp(NUM_ACTIONS)
        self.critic = _mlp(1)

    def loss(
        self, obs: Tensor, actions: Tensor, old_logp: Tensor, advantages: Tensor, returns: Tensor
    ) -> Tensor:
        logp_all = torch.log_softmax(self.actor(obs), 1)
        logp = logp_all.gather(1, actions[:, None])[:, 0]
        entropy = -(logp_all.exp() * logp_all).sum(1).mean()
        advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
        ratio = torch.exp(logp - old_logp)
        clipped = torch.clamp(ratio, 1 - CLIP_RANGE, 1 + CLIP_RANGE)
        policy_loss = -torch.min(ratio * advantages, clipped * advantages).mean()
        value_loss = nn.functional.mse_loss(self.critic(obs)[:, 0], returns)
        return policy_loss + VALUE_COEF * value_loss - ENTROPY_COEF * entropy


def _mlp(outputs: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, after in pairwise((OBS_SIZE, *HIDDEN_SIZES)):
        layers += [nn.Linear(before, after), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(HIDDEN_SIZES[-1], outputs))


def plain_torch(samples: Samples, *, compiled: bool = False) -> Updater:
    """Torch as a careful user writes it, in the dtype of the samples."""
    agent = _PlainAgent().to(samples.obs.dtype)
    parameters = list(agent.parameters())
    optimizer = torch.optim.Adam(parameters, eps=_ADAM_EPS, fused=True)
    loss_of = torch.compile(agent.loss, dynamic=False) if compiled else agent.loss

    def epoch(order: NDArray[np.int64], step: GradientStep) -> None:
        optimizer.param_groups[0]["lr"] = step.learning_rate
        index = torch.from_numpy(order)
        columns = [torch.split(x[index], step.minibatch_size) for x in samples.columns]
        for minibatch in zip(*columns, strict=True):
            loss = loss_of(*minibatch)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            if step.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(parameters, step.max_grad_norm)
            optimizer.step()

    return Updater(parameters, epoch)


def on_threads(make: MakeUpdater, count: int) -> MakeUpdater:
    """The same with so many torch threads while it works."""

    def made(samples: Samples) -> Updater:
        updater = make(samples)

        def epoch(order: NDArray[np.int64], step: GradientStep) -> None:
            before = torch.get_num_threads()
            torch.set_num_threads(count)
            updater.epoch(order, step)
            torch.set_num_threads(before)

        return Updater(updater.parameters, epoch)

    return made


def why_not_compiled() -> str | None:
    """What torch.compile says where it does not work; None if it works."""
    samples = make_samples(2)
    step = GradientStep(minibatch_size=2, learning_rate=1e-3, max_grad_norm=0.5)
    try:
        plain_torch(samples, compiled=True).epoch(np.arange(2), step)
    except Exception as error:  # of the toolchain, of any kind
        return str(error).splitlines()[0]
    return None


def stable_baselines3(samples: Samples) -> Updater:
    """stable-baselines3's PPO.train, one epoch on a rollout buffer that holds the samples.

    It shuffles the buffer itself: a given order only chooses what is in it.
    """
    from stable_baselines3 import PPO
    from stable_baselines3.common.buffers import RolloutBuffer
    from stable_baselines3.common.logger import Logger

    model = PPO(
        "MlpPolicy",
        ENV_ID,
        n_steps=2,
        batch_size=2,
        n_epochs=1,
        clip_range=CLIP_RANGE,
        ent_coef=ENTROPY_COEF,
        vf_coef=VALUE_COEF,
        policy_kwargs={"net_arch": list(HIDDEN_SIZES)},
        device="cpu",
    )
    model.set_logger(Logger(folder=None, output_formats=[]))
    policy = model.policy
    networks = policy.mlp_extractor
    parts = (networks.policy_net, policy.action_net, networks.value_net, policy.value_net)
    filled: NDArray[np.int64] | None = None

    def fill(order: NDArray[np.int64]) -> None:
        buffer = RolloutBuffer(
            len(order), model.observation_space, model.action_space, device="cpu"
        )
        names = ("observations", "actions", "log_probs", "advantages", "returns")
        for name, column in zip(names, samples.columns, strict=True):
            array = getattr(buffer, name)
            array[:] = column.numpy()[order].reshape(array.shape)
        buffer.full = True
        model.rollout_buffer = buffer

    def epoch(order: NDArray[np.int64], step: GradientStep) -> None:
        nonlocal filled
        if order is not filled:
            fill(order)
            filled = order
        model.batch_size = step.minibatch_size
        model.lr_schedule = lambda _: step.learning_rate
        model.max_grad_norm = np.inf if step.max_grad_norm is None else step.max_grad_norm
        model.train()

    return Updater([p for part in parts for p in part.parameters()], epoch)
