"""What a policy sees: from an environment's observations to rows of numbers."""

import copy
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import gymnasium
import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from ppo_fast.spaces import Space, from_json, to_json

Rows = NDArray[np.float32]

_MOST_SAMPLED = 1e4


@dataclass(frozen=True, eq=False)
class ObsLayout:
    """How observations become the rows [N, size] that networks take.

    The order is that of `gymnasium.spaces.flatten`: a Box is laid out as in memory, a choice of n
    is n numbers, of which one is 1, and a Dict or Tuple is its parts side by side.

    Attributes:
        space: The environment's space of single observations.
        size: Numbers per observation.
    """

    space: Space
    size: int

    @classmethod
    def of(cls, env_id: str, space: Space) -> Self:
        """The layout for a space; ValueError for one that no row can be made of."""
        try:
            to_json(space)
        except ValueError as error:
            raise ValueError(f"{env_id} has observations that cannot be rows: {error}") from None
        size = gymnasium.spaces.flatdim(space)
        if size == 0:
            raise ValueError(f"{env_id} has observations without features, {space}")
        return cls(space, size)

    def to_json(self) -> dict[str, Any]:
        """The layout as JSON types; `from_json` undoes it, without the environment."""
        return to_json(self.space)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The layout that `to_json` described."""
        return cls.of("the checkpoint", from_json(fields))

    def row(self, obs: Any) -> Rows:
        """One observation, as `Env.step` gives it, as a row [1, size].

        Raises
        ------
        ValueError
            If it is not of the space's shape, or a choice that there is not.
        """
        return _side_by_side(_parts(self.space, obs, None))

    def rows(self, obs: Any, num_envs: int) -> Rows:
        """Observations of a batch, as `VectorEnv.step` gives them, as rows [num_envs, size].

        Raises
        ------
        ValueError
            As `row`.
        """
        return _side_by_side(_parts(self.space, obs, num_envs))

    def read(self, obs: Any) -> tuple[Rows, bool]:
        """One observation or a batch as rows, and whether it is one. Boxes may be flat already.

        Raises
        ------
        ValueError
            As `row`.
        """
        if isinstance(self.space, spaces.Box):
            return self._read_box(np.asarray(obs, np.float32))
        if isinstance(self.space, spaces.Tuple) and not isinstance(obs, tuple):
            raise ValueError(
                f"obs of {self.space} must be a tuple (for a batch, of arrays), "
                f"got {type(obs).__name__}"
            )
        space, first = next(_leaves(self.space, obs))
        if np.ndim(first) == len(_shape(space)) + 1:
            return self.rows(obs, len(first)), False
        return self.row(obs), True

    def normalized(self, most: float) -> Self:
        """The layout of the same rows when every number is within -+most, as `ObsNormalizer` gives
        them: a Box in the place of every space but Dict and Tuple.
        """
        return type(self)(_normalized(self.space, most), self.size)

    def sampled(self, count: int) -> Rows:
        """Rows [count, size] that the space allows, always the same; numbers within -+10,000."""
        space = copy.deepcopy(self.space)  # whose generator is somebody's
        for part in _kinds(space):
            if isinstance(part, spaces.Box):  # some have bounds where float32 ends
                low, high = (x.clip(-_MOST_SAMPLED, _MOST_SAMPLED) for x in (part.low, part.high))
                part.low, part.high = low.astype(part.dtype), high.astype(part.dtype)
        space.seed(0)
        return np.concatenate([self.row(space.sample()) for _ in range(count)])

    def shows_pictures(self) -> bool:
        """Whether a part of it is a Box of bytes with three axes."""
        return any(
            isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3
            for space in _kinds(self.space)
        )

    def _read_box(self, obs: Rows) -> tuple[Rows, bool]:
        forms = (_shape(self.space), (self.size,))
        is_single = obs.shape in forms
        if not is_single and not (obs.ndim > 0 and obs.shape[1:] in forms):
            known = " or ".join(f"{x} or {_text(('N', *x))}" for x in dict.fromkeys(forms))
            raise ValueError(f"obs must have shape {known}, got {obs.shape}")
        return obs.reshape(-1, self.size), is_single


def _text(shape: tuple[Any, ...]) -> str:
    return f"({', '.join(map(str, shape))})"


def _side_by_side(parts: list[NDArray[Any]]) -> Rows:
    rows = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1)
    return rows.astype(np.float32, copy=False)


def _parts(space: Space, obs: Any, count: int | None) -> list[NDArray[Any]]:
    """Arrays [count, ...] that make up the rows of so many observations; [1, ...] of a single one.

    Written anew, as Gymnasium's `flatten` takes one observation at a time.
    """
    return [x for leaf, items in _leaves(space, obs) for x in _parts_of_leaf(leaf, items, count)]


def _parts_of_leaf(space: Space, obs: Any, count: int | None) -> list[NDArray[Any]]:
    expected = _shape(space) if count is None else (count, *_shape(space))
    items = np.asarray(obs)
    # Environments are seldom strict about axes of size 1; numbers of a Box can be nothing else.
    is_right = items.size == math.prod(expected) and isinstance(space, spaces.Box)
    if items.shape != expected and not is_right:
        raise ValueError(f"obs of {space} must have shape {expected}, got {items.shape}")
    items = items.reshape(1 if count is None else count, math.prod(_shape(space)))
    if isinstance(space, spaces.Discrete):
        return [_one_hot(items[:, 0], int(space.n), int(space.start), space)]
    if isinstance(space, spaces.MultiDiscrete):
        choices = zip(items.T, space.nvec.flat, space.start.flat, strict=True)
        return [_one_hot(chosen, int(n), int(start), space) for chosen, n, start in choices]
    return [items]


def _one_hot(chosen: NDArray[Any], n: int, start: int, space: Space) -> NDArray[np.bool_]:
    of_each: NDArray[np.bool_] = chosen[:, None] == np.arange(start, start + n)
    if not of_each.any(axis=1).all():
        wrong = chosen[~of_each.any(axis=1)][0]
        raise ValueError(f"obs must be in {space}, got {wrong}")
    return of_each


def members(space: Any) -> list[tuple[Any, Space]]:
    """The parts of a Dict or Tuple with their names, in the order of rows."""
    return list(space.spaces.items() if isinstance(space, spaces.Dict) else enumerate(space.spaces))


def _member(space: Space, obs: Any, name: Any) -> Any:
    try:
        if isinstance(space, spaces.Dict) or len(obs) == len(members(space)):
            return obs[name]
    except (KeyError, IndexError, TypeError):
        pass
    needed = repr(name) if isinstance(space, spaces.Dict) else f"{len(members(space))} parts"
    raise ValueError(f"obs must have {needed}, got {obs!r}")


def _leaves(space: Space, obs: Any) -> Iterator[tuple[Space, Any]]:
    """The parts of observations that are neither Dict nor Tuple, with their spaces."""
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        yield space, obs
        return
    for name, part in members(space):
        yield from _leaves(part, _member(space, obs, name))


def _kinds(space: Space) -> Iterator[Space]:
    """The spaces of `_leaves`, without an observation."""
    if not isinstance(space, (spaces.Dict, spaces.Tuple)):
        yield space
        return
    for _, part in members(space):
        yield from _kinds(part)


def _normalized(space: Space, most: float) -> Space:
    if isinstance(space, spaces.Dict):
        return spaces.Dict([(name, _normalized(part, most)) for name, part in members(space)])
    if isinstance(space, spaces.Tuple):
        return spaces.Tuple([_normalized(part, most) for _, part in members(space)])
    are_choices = isinstance(space, (spaces.Discrete, spaces.MultiDiscrete))
    shape = (gymnasium.spaces.flatdim(space),) if are_choices else _shape(space)
    return spaces.Box(-most, most, shape, np.float32)


def _shape(space: Space) -> tuple[int, ...]:
    assert space.shape is not None
    return space.shape
