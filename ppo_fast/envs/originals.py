"""What Python knows of Gymnasium's originals of native environments; csrc/envs knows the rest."""

import math
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from gymnasium import spaces


@dataclass(frozen=True)
class Original:
    """An environment of Gymnasium that a native one is equal to.

    Attributes
    ----------
    observation_space
        Makes the space of one environment's observation.
    check_options
        Raises ValueError for values of the reset options that the original refuses.
    drawn
        Fields of our state that the original has as attributes beside its `state`: it draws them,
        if they are not 0.
    """

    observation_space: Callable[[], spaces.Box]
    check_options: Callable[[dict[str, Any]], None]
    drawn: tuple[str, ...] = ()


def _check_bounds(options: dict[str, Any]) -> None:
    if options["low"] > options["high"]:
        raise ValueError(
            f"reset: options['low'] ({options['low']}) must not exceed "
            f"options['high'] ({options['high']})"
        )
    _check_widths(options)


def _check_widths_from_0(options: dict[str, Any]) -> None:
    for name, value in options.items():
        if value < 0:
            raise ValueError(f"reset: options[{name!r}] must not be negative, got {value}")
    _check_widths(options)


def _check_widths(options: dict[str, Any]) -> None:
    """NumPy, too, draws only from ranges of a finite width."""
    for name, value in options.items():
        if abs(value) > sys.float_info.max / 2:
            raise ValueError(f"reset: options[{name!r}] must be finite, got {value}")


def _symmetric(*high: float) -> spaces.Box:
    bounds = np.array(high, dtype=np.float32)
    return spaces.Box(-bounds, bounds, dtype=np.float32)


# Twice the limits of an episode, so that the observation that ends one is inside as well.
_CARTPOLE_LIMITS = (2.4 * 2, np.inf, 12 * 2 * math.pi / 360 * 2, np.inf)
_CAR_LOW = np.array([-1.2, -0.07], dtype=np.float32)
_CAR_HIGH = np.array([0.6, 0.07], dtype=np.float32)

_CARTPOLE = Original(lambda: _symmetric(*_CARTPOLE_LIMITS), _check_bounds)
_CAR = Original(lambda: spaces.Box(_CAR_LOW, _CAR_HIGH, dtype=np.float32), _check_bounds)

ORIGINALS: dict[str, Original] = {
    "CartPole-v0": _CARTPOLE,
    "CartPole-v1": _CARTPOLE,
    "Acrobot-v1": Original(
        lambda: _symmetric(1.0, 1.0, 1.0, 1.0, 4 * math.pi, 9 * math.pi), _check_bounds
    ),
    "MountainCar-v0": _CAR,
    "MountainCarContinuous-v0": _CAR,
    "Pendulum-v1": Original(
        lambda: _symmetric(1.0, 1.0, 8.0), _check_widths_from_0, drawn=("last_u",)
    ),
}
