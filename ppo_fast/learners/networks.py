"""ActorCritic: networks for policy and value function, apart or sharing a trunk."""

import copy
import math
from collections.abc import Mapping
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from ppo_fast.actions import ActionLayout
from ppo_fast.config import TrainConfig
from ppo_fast.distributions import (
    Bernoulli,
    Categorical,
    Distribution,
    Gaussian,
    MultiCategorical,
    SquashedGaussian,
    StateDependentNoise,
)
from ppo_fast.learners.encoders import make_encoder
from ppo_fast.observations import ObsLayout

_ACTIVATIONS: dict[str, type[nn.Module]] = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "silu": nn.SiLU,
}
_LOG_STD_RANGE = (-20.0, 2.0)
_FLAT = "flat_parameter"  # not registered as one: its parts are


class ActorCritic(nn.Module):
    """The distribution of actions and values [B] for observations [B, size].

    Orthogonal initialisation with gain sqrt(2), 0.01 for the policy's last layer and 1 for the
    value; biases start at zero. A near-uniform first policy matters more than any other detail of
    initialisation (M. Andrychowicz et al., "What Matters in On-Policy Reinforcement Learning?",
    2021).

    Attributes:
        trunk: Encoder and hidden layers that both share; none unless `config.shared_trunk`.
        actor: From what the trunk gives to the distribution.
        critic: From what the trunk gives to the value [B, 1].
    """

    def __init__(
        self,
        config: TrainConfig,
        observations: ObsLayout,
        layout: ActionLayout,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        shared = config.shared_trunk
        hidden = partial(_hidden, config, observations, generator)
        self.trunk, size = hidden() if shared else (nn.Sequential(), 0)
        layers, size = (nn.Sequential(), size) if shared else hidden()
        self.actor = Actor(config, layers, size, layout, generator)
        self.critic, size = (nn.Sequential(), size) if shared else hidden()
        self.critic.append(_linear(size, 1, 1.0, generator))

    def flatten(self) -> nn.Parameter:
        """`flatten_parameters`, which lasts: what is loaded later goes to the same memory."""
        flat = flatten_parameters(self)
        self.__dict__[_FLAT] = flat
        return flat

    def load_state_dict(
        self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False
    ) -> Any:
        keys = super().load_state_dict(state_dict, strict, assign)
        if _FLAT in self.__dict__:  # with `assign`, its parameters have left it
            link_parameters(self, self.__dict__[_FLAT])
        return keys

    def __getstate__(self) -> dict[str, Any]:
        """A copy is an ordinary module."""
        return {name: x for name, x in self.__dict__.items() if name != _FLAT}

    def policy(self, obs: Tensor) -> Distribution:
        dist: Distribution = self.actor(self.trunk(obs))
        return dist

    def values(self, obs: Tensor) -> Tensor:
        values: Tensor = self.critic(self.trunk(obs)).squeeze(-1)
        return values

    def outputs(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        """What the last layers give: of the policy [B, K], and values [B]."""
        features = self.trunk(obs)
        outputs: Tensor = self.actor.head(self.actor.hidden(features))
        return outputs, self.critic(features).squeeze(-1)

    def forward(self, obs: Tensor) -> tuple[Distribution, Tensor]:
        features = self.trunk(obs)
        return self.actor(features), self.critic(features).squeeze(-1)


class Actor(nn.Module):
    """The policy's own layers, and the distribution that their outputs are the parameters of."""

    def __init__(
        self,
        config: TrainConfig,
        hidden: nn.Sequential,
        latent_size: int,
        layout: ActionLayout,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self._layout = layout
        self._continuous = config.continuous
        self._first_log_std = config.log_std
        self._own_std = layout.kind == "continuous" and not config.state_dependent_std
        if self._own_std:
            is_gsde = config.continuous == "gsde"
            shape = (latent_size, *layout.shape) if is_gsde else layout.shape
            self.log_std = nn.Parameter(torch.full(shape, config.log_std, dtype=torch.float32))
        outputs = {
            "categorical": sum(layout.sizes),
            "multi_categorical": sum(layout.sizes),
            "bernoulli": len(layout.sizes),
            "continuous": math.prod(layout.shape) * (1 if self._own_std else 2),
        }
        self.hidden = hidden
        self.head = _linear(latent_size, outputs[layout.kind], 0.01, generator)

    def forward(self, features: Tensor) -> Distribution:
        latent = self.hidden(features)
        outputs = self.head(latent)
        kind = self._layout.kind
        if kind == "categorical":
            return Categorical(outputs)
        if kind == "multi_categorical":
            return MultiCategorical(outputs, self._layout.sizes)
        if kind == "bernoulli":
            return Bernoulli(outputs)
        if self._continuous == "gsde":
            return StateDependentNoise(outputs, latent, self.log_std)
        mean: Tensor = outputs
        log_std: Tensor
        if self._own_std:
            log_std = self.log_std
        else:
            mean, change = outputs.chunk(2, dim=-1)
            log_std = torch.clamp(self._first_log_std + change, *_LOG_STD_RANGE)
        if self._continuous == "squashed":
            return SquashedGaussian(mean, log_std)
        return Gaussian(mean, log_std)


class PolicyNetwork(nn.Module):
    """A copy of the networks for other programs, plain operations on tensors throughout.

    Takes rows of observations [B, size] as the environment gives them; what normalises them is a
    part of it. Gives what the distribution of actions is made of [B, K] (logits; the means of
    continuous actions, before `squashed`'s tanh, and with `state_dependent_std` what is added to
    log_std behind them) and the values [B].
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, model: ActorCritic, normal: tuple[Any, Any, float] | None) -> None:
        super().__init__()
        self.model = copy.deepcopy(model)
        self.most = None if normal is None else normal[2]
        if normal is not None:
            self.register_buffer("mean", torch.as_tensor(normal[0]).clone())
            self.register_buffer("scale", torch.as_tensor(normal[1]).clone())

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        if self.most is not None:  # as ObsNormalizer does
            normal = ((obs - self.mean) * self.scale).clip(-self.most, self.most)
            obs = normal.to(next(self.model.parameters()).dtype)
        return self.model.outputs(obs)


def _hidden(
    config: TrainConfig, observations: ObsLayout, generator: torch.Generator | None
) -> tuple[nn.Sequential, int]:
    """What is between observations and the last layers, and how wide what it gives is."""
    layers, size = nn.Sequential(), observations.size
    if config.encoder is not None:
        encoder, size = make_encoder(
            config.encoder, observations, generator, for_trpo=config.algorithm == "trpo"
        )
        layers.append(encoder)
    sizes = (size, *config.hidden_sizes)
    for before, after in pairwise(sizes):
        layers.append(_linear(before, after, math.sqrt(2), generator))
        layers.append(_ACTIVATIONS[config.activation]())
    return layers, sizes[-1]


def _linear(before: int, after: int, gain: float, generator: torch.Generator | None) -> nn.Linear:
    # Without torch's own initialisation, which would draw from its global generator.
    linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
        nn.Linear, before, after, dtype=torch.float32
    )
    nn.init.orthogonal_(linear.weight, gain, generator)
    nn.init.zeros_(linear.bias)
    return linear


def flatten_parameters(module: nn.Module) -> nn.Parameter:
    """Move all parameters and gradients of a module into one flat parameter and its gradient.

    The module's parameters become views, so it works as before, and so do state_dict and
    load_state_dict. An optimiser of the flat parameter then takes one step where it would take one
    per layer, and the norm of the gradient is one operation.
    """
    parameters = list(module.parameters())
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    link_parameters(module, flat)
    return flat


def link_parameters(module: nn.Module, flat: nn.Parameter) -> None:
    """Let a module's parameters be views of the flat one, which takes their values."""
    assert flat.grad is not None
    parameters = list(module.parameters())
    sizes = [p.numel() for p in parameters]
    values = torch.split(flat.detach(), sizes)
    gradients = torch.split(flat.grad, sizes)
    for parameter, value, gradient in zip(parameters, values, gradients, strict=True):
        place = value.view_as(parameter)
        if parameter.data_ptr() != place.data_ptr():
            place.copy_(parameter.detach())
            parameter.data = place
            parameter.grad = gradient.view_as(parameter)
