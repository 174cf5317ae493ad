"""ActorCritic: separate multilayer perceptrons for policy and value function."""

import math
from itertools import pairwise

import torch
from torch import Tensor, nn

_ACTIVATIONS: dict[str, type[nn.Module]] = {"tanh": nn.Tanh, "relu": nn.ReLU}


class ActorCritic(nn.Module):
    """Logits [B, num_actions] and values [B] of observations [B, obs_size].

    Orthogonal initialisation with gain sqrt(2), 0.01 for the logits and 1 for the value; biases
    start at zero. A near-uniform first policy matters more than any other detail of initialisation
    (M. Andrychowicz et al., "What Matters in On-Policy Reinforcement Learning?", 2021).
    """

    def __init__(
        self,
        obs_size: int,
        num_actions: int,
        hidden_sizes: tuple[int, ...],
        activation: str,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        self.actor = _mlp((obs_size, *hidden_sizes, num_actions), activation, 0.01, generator)
        self.critic = _mlp((obs_size, *hidden_sizes, 1), activation, 1.0, generator)

    def logits(self, obs: Tensor) -> Tensor:
        result: Tensor = self.actor(obs)
        return result

    def values(self, obs: Tensor) -> Tensor:
        result: Tensor = self.critic(obs).squeeze(-1)
        return result

    def forward(self, obs: Tensor) -> tuple[Tensor, Tensor]:
        return self.logits(obs), self.values(obs)


def _mlp(
    sizes: tuple[int, ...], activation: str, last_gain: float, generator: torch.Generator | None
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for k, (before, after) in enumerate(pairwise(sizes)):
        last = k == len(sizes) - 2
        # Without torch's own initialisation, which would draw from its global generator.
        linear: nn.Linear = nn.utils.skip_init(  # type: ignore[no-untyped-call]
            nn.Linear, before, after
        )
        nn.init.orthogonal_(linear.weight, last_gain if last else math.sqrt(2), generator)
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if not last:
            layers.append(_ACTIVATIONS[activation]())
    return nn.Sequential(*layers)


def flatten_parameters(module: nn.Module) -> nn.Parameter:
    """Move all parameters and gradients of a module into one flat parameter and its gradient.

    The module's parameters become views, so it works as before, and so do state_dict and
    load_state_dict. An optimiser of the flat parameter then takes one step where it would take one
    per layer, and the norm of the gradient is one operation.
    """
    parameters = list(module.parameters())
    flat = nn.Parameter(torch.cat([p.detach().reshape(-1) for p in parameters]))
    flat.grad = torch.zeros_like(flat)
    sizes = [p.numel() for p in parameters]
    values = torch.split(flat.detach(), sizes)
    gradients = torch.split(flat.grad, sizes)
    for parameter, value, gradient in zip(parameters, values, gradients, strict=True):
        parameter.data = value.view_as(parameter)
        parameter.grad = gradient.view_as(parameter)
    return flat
