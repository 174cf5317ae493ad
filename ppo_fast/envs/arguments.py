"""Arguments of vector environments, checked as Gymnasium defines them."""

import difflib
import operator
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from gymnasium.spaces import Box, Discrete
from numpy.typing import NDArray


def did_you_mean(env_id: str, known: Iterable[str], otherwise: str) -> str:
    """A hint for an unknown id: those that look like it, or `otherwise`."""
    near = difflib.get_close_matches(env_id, known, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def seed_list(seed: int | Sequence[int | None] | None, num_envs: int) -> list[int | None]:
    """One seed or None per environment: an int s stands for s, s + 1, ..."""
    if seed is None:
        return [None] * num_envs
    if isinstance(seed, (int, np.integer)):
        seeds: list[int | None] = [int(seed) + i for i in range(num_envs)]
    elif isinstance(seed, (list, tuple, np.ndarray)):
        seeds = [None if s is None else operator.index(s) for s in seed]
    else:
        raise TypeError(f"reset: seed must be an integer, a list of integers or None, got {seed!r}")
    if len(seeds) != num_envs:
        raise ValueError(
            f"reset: seed must have one entry per environment ({num_envs}), got {len(seeds)}"
        )
    for s in seeds:
        if s is not None and s < 0:
            raise ValueError(f"reset: seed must not be negative, got {s}")
    return seeds


def require_mask_only(options: dict[str, Any] | None) -> None:
    """Refuse options other than `reset_mask`."""
    unknown = sorted(set(options or {}) - {"reset_mask"})
    if unknown:
        raise ValueError(f"reset: options may hold only 'reset_mask', got {', '.join(unknown)}")


def reset_mask(options: dict[str, Any] | None, num_envs: int) -> NDArray[np.bool_] | None:
    """`options["reset_mask"]` [N], checked, or None; its errors have the words of Gymnasium's."""
    if options is not None and not isinstance(options, dict):
        raise TypeError(f"reset: options must be a dict or None, got {options!r}")
    if options is None or "reset_mask" not in options:
        return None
    mask = options["reset_mask"]
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_:
        kind = mask.dtype if isinstance(mask, np.ndarray) else type(mask).__name__
        raise TypeError(f"reset: `options['reset_mask']` must have `dtype=np.bool_`, got {kind}")
    if mask.shape != (num_envs,):
        raise ValueError(
            f"reset: `options['reset_mask']` must have shape `({num_envs},)`, got {mask.shape}"
        )
    if not mask.any():
        raise ValueError(
            "reset: `options['reset_mask']` must contain a boolean array with at least one "
            f"True value, got reset_mask={mask}"
        )
    return np.ascontiguousarray(mask)


def action_array(actions: Any, space: Discrete | Box, num_envs: int) -> NDArray[Any]:
    """Actions [N, ...] of one `space` each, in its dtype; integers only within its bounds."""
    if np.ndim(actions) == 0:
        raise TypeError(f"step: actions must be one per environment ({num_envs}), got {actions!r}")
    array = np.asarray(actions)
    shape = (num_envs, *(space.shape or ()))
    if array.shape != shape:
        raise ValueError(
            f"step: actions must have shape {shape} (one action per environment), got {array.shape}"
        )
    if array.dtype.kind not in ("iu" if space.dtype.kind in "iu" else "iuf"):
        raise TypeError(
            f"step: actions must be {space.dtype}, got {array.dtype}; "
            f"cast with actions.astype(np.{space.dtype})"
        )
    if space.dtype.kind in "iu":
        low: Any = space.start if isinstance(space, Discrete) else space.low
        high: Any = low + space.n - 1 if isinstance(space, Discrete) else space.high
        bad = ((array < low) | (array > high)).reshape(num_envs, -1).any(axis=1)
        if bad.any():
            i = int(bad.argmax())
            raise ValueError(
                f"step: actions must be from {low} to {high}, got {array[i]} for environment {i}"
            )
    return array.astype(space.dtype, copy=False)
