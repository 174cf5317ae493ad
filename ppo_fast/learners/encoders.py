"""Encoders: torch modules that make features of observations, before the hidden layers."""

import importlib
from typing import Any

import gymnasium
import torch
from gymnasium import spaces
from torch import Tensor, nn

from ppo_fast.learners.encoder_trial import Unfit, require_forward_mode, try_encoder, words_of
from ppo_fast.observations import ObsLayout, members
from ppo_fast.spaces import Space

_LEAST_PICTURE = 36
_TRIED_ROWS = 4


class PictureEncoder(nn.Module):
    """The convolutions of V. Mnih et al., "Human-level control through deep reinforcement learning"
    (2015), each with a ReLU: pictures [B, height, width, channels] or [B, channels, height, width]
    become features [B, F]. Their fully connected layer of 512 is `hidden_sizes=(512,)`.

    The shorter of the first and the last axis are the channels. Numbers from 0 to 255, by the
    space's bounds, are divided by 255. Orthogonal initialisation with gain sqrt(2).
    """

    def __init__(self, space: Space) -> None:
        super().__init__()
        if not isinstance(space, spaces.Box) or len(space.shape) != 3:
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
        are_bytes = (space.low == 0).all() and (space.high == 255).all()
        self._scale = 1 / 255 if are_bytes else 1.0
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


class Parts(nn.Module):
    """Rows [B, size] as the dict or tuple that the environment observes, of tensors [B, ...]."""

    def __init__(self, space: Space) -> None:
        super().__init__()
        parts = [part for _, part in members(space)]
        is_dict = isinstance(space, spaces.Dict)
        self._names = [name for name, _ in members(space)] if is_dict else None
        self._sizes = [gymnasium.spaces.flatdim(part) for part in parts]
        self.parts = nn.ModuleList(map(own_shape, parts))

    def forward(self, rows: Tensor) -> Any:
        columns = torch.split(rows, self._sizes, 1)
        parts = tuple(part(x) for part, x in zip(self.parts, columns, strict=True))
        return parts if self._names is None else dict(zip(self._names, parts, strict=True))


def own_shape(space: Space) -> nn.Module:
    """From rows [B, size], as `ObsLayout` makes them, to what an encoder takes.

    A Box or MultiBinary has its own shape [B, ...]; choices stay numbers of which one is 1, side by
    side.
    """
    if isinstance(space, spaces.Dict | spaces.Tuple):
        return Parts(space)
    is_row = len(space.shape or ()) == 1 or isinstance(
        space, spaces.Discrete | spaces.MultiDiscrete
    )
    if is_row:
        return nn.Identity()
    return nn.Unflatten(1, space.shape) if space.shape else nn.Flatten(0)


def make_encoder(
    name: str,
    observations: ObsLayout,
    generator: torch.Generator | None,
    *,
    for_trpo: bool = False,
) -> tuple[nn.Sequential, int]:
    """An encoder for rows [B, size] of observations, and how many features it gives.

    Its parameters are drawn from torch's generator of the CPU, started by a draw of `generator` and
    put back afterwards.

    Raises
    ------
    ValueError
        If there is no such class, or it cannot be trained on these observations.
    """
    encoder_class = _find(name)
    seed = int(torch.randint(2**62, (), generator=generator))
    space = observations.space
    rows = torch.from_numpy(observations.sampled(_TRIED_ROWS))
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would start those of GPUs too
        try:
            encoder = nn.Sequential(own_shape(space), encoder_class(space))
            size = try_encoder(encoder, rows)
            if for_trpo:
                require_forward_mode(encoder, rows)
        except Unfit as error:
            raise ValueError(f"encoder {name!r} {error}") from error.__cause__
        except Exception as error:
            words = str(error) if name in ENCODERS else words_of(error)
            raise ValueError(
                f"encoder {name!r} cannot take observations in {space}: {words}"
            ) from error
    return encoder, size


def _find(name: str) -> type[nn.Module]:
    if name in ENCODERS:
        return ENCODERS[name]
    module_name, _, class_name = name.rpartition(":")
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        # Else it is the module that lacks something.
        is_missing = f"{module_name}.".startswith(f"{error.name}.")
        mend = "; run it from the folder of that module, or put the folder into PYTHONPATH"
        raise ValueError(
            f"encoder {name!r} cannot be imported: {error}{mend if is_missing else ''}"
        ) from error
    found = getattr(module, class_name, None)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            f"encoder {name!r} must be a class of torch.nn.Module, but {module_name} has "
            + (f"no {class_name}" if found is None else f"{found!r} there")
        )
    return found
