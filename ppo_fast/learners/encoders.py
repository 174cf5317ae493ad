"""Encoders: torch modules that make features of observations, before the hidden layers."""

import importlib

import gymnasium
import numpy as np
import torch
from torch import Tensor, nn

from ppo_fast.observations import ObsLayout
from ppo_fast.spaces import Space

_LEAST_PICTURE = 36


class PictureEncoder(nn.Module):
    """The convolutions of V. Mnih et al., "Human-level control through deep reinforcement learning"
    (2015), each with a ReLU: pictures [B, height, width, channels] or [B, channels, height, width]
    become features [B, F]. Their fully connected layer of 512 is `hidden_sizes=(512,)`.

    The shorter of the first and the last axis are the channels. Bytes are divided by 255.
    Orthogonal initialisation with gain sqrt(2).
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        if not isinstance(space, gymnasium.spaces.Box) or len(space.shape) != 3:
            raise ValueError(f"pictures are a Box with three axes, got {space}")
        channels, *sides = space.shape
        self._channels_last = sides[-1] < channels
        if self._channels_last:
            *sides, channels = space.shape
        if min(sides) < _LEAST_PICTURE:
            raise ValueError(
                f"pictures must be at least {_LEAST_PICTURE} x {_LEAST_PICTURE}, got "
                f"{sides[0]} x {sides[1]}"
            )
        self._scale = 1 / 255 if space.dtype == np.uint8 else 1.0
        self.layers = nn.Sequential(
            nn.Conv2d(channels, 32, 8, stride=4),
            nn.ReLU(),
            nn.Conv2d(32, 64, 4, stride=2),
            nn.ReLU(),
            nn.Conv2d(64, 64, 3, stride=1),
            nn.ReLU(),
            nn.Flatten(),
        )
        for layer in self.layers:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                nn.init.orthogonal_(layer.weight, 2**0.5)
                nn.init.zeros_(layer.bias)

    def forward(self, pictures: Tensor) -> Tensor:
        if self._channels_last:
            pictures = pictures.permute(0, 3, 1, 2)
        features: Tensor = self.layers(pictures * self._scale)
        return features


# Those that have a name; others are "module:Class".
ENCODERS: dict[str, type[nn.Module]] = {"cnn": PictureEncoder}

# They give other features when they are learned from than when they act, so that a policy which
# has not changed would have another log-probability.
_INCONSTANT = (nn.modules.batchnorm._BatchNorm, nn.modules.dropout._DropoutNd)


def make_encoder(
    name: str, observations: ObsLayout, generator: torch.Generator | None
) -> tuple[nn.Sequential, int]:
    """An encoder for rows [B, size] of observations, and how many features it gives.

    Its parameters are drawn from torch's generator, started by a draw of `generator` and put back
    afterwards.

    Raises
    ------
    ValueError
        If there is no such class, or it cannot be trained on these observations.
    """
    encoder_class = _find(name)
    seed = int(torch.randint(2**62, (), generator=generator))
    shape = observations.space.shape
    layers: list[nn.Module] = []
    if (
        isinstance(observations.space, gymnasium.spaces.Box)
        and shape is not None
        and len(shape) > 1
    ):
        layers.append(nn.Unflatten(1, shape))
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed)
        try:
            layers.append(encoder_class(observations.space))
            encoder = nn.Sequential(*layers)
            features = encoder(torch.zeros(2, observations.size))
        except Exception as error:
            words = (
                str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
            )
            raise ValueError(
                f"encoder {name!r} cannot take observations in {observations.space}: {words}"
            ) from error
    _check(name, encoder, features)
    return encoder, features.shape[1]


def _find(name: str) -> type[nn.Module]:
    if name in ENCODERS:
        return ENCODERS[name]
    module_name, _, class_name = name.rpartition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise ValueError(f"encoder {name!r} cannot be imported: {error}") from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"encoder {name!r} must be a class of torch.nn.Module, but {module_name} has "
            + (f"no {class_name}" if found is None else f"{found!r} there")
        )
    return found


def _check(name: str, encoder: nn.Module, features: object) -> None:
    """Refuse what would go wrong later, or unnoticed."""
    if not (isinstance(features, Tensor) and features.ndim == 2 and len(features) == 2):
        got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
        raise ValueError(f"encoder {name!r} must give features [B, F]; for B = 2 it gave {got}")
    for module in encoder.modules():
        if isinstance(module, _INCONSTANT):
            raise ValueError(
                f"encoder {name!r} has a {type(module).__name__}, which gives other features when "
                "they are learned from than when they are acted on; leave it out (LayerNorm and "
                "GroupNorm are none of these)"
            )
    for where, parameter in encoder.named_parameters():
        if parameter.dtype != torch.float32:
            raise ValueError(
                f"encoder {name!r} must have parameters of float32, got {parameter.dtype} "
                f"of {where}"
            )
