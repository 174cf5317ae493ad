"""What a policy's actions are: from an environment's action space to arrays, and back to it."""

from dataclasses import dataclass
from typing import Any, Literal, Self

import gymnasium
import numpy as np

from ppo_fast.arrays import Array, Place, cast, library, put
from ppo_fast.spaces import from_json, to_json

Kind = Literal["categorical", "multi_categorical", "bernoulli", "continuous"]


@dataclass(frozen=True, eq=False)
class ActionLayout:
    """How actions are stored, and what the environment gets of them.

    Attributes:
        kind: The family of distributions.
        shape: Shape of a stored action: () for categorical, else (components,).
        sizes: Choices per component; empty for continuous actions.
        space: The environment's space of single actions.
        squashed: Whether continuous actions are stored before a tanh, which is then scaled to the
            bounds; else they are cut at the bounds.
    """

    kind: Kind
    shape: tuple[int, ...]
    sizes: tuple[int, ...]
    space: gymnasium.Space[Any]
    squashed: bool = False

    @classmethod
    def of(cls, env_id: str, space: gymnasium.Space[Any], *, squashed: bool = False) -> Self:
        """The layout for a space; ValueError for one that no policy here can act in."""
        if isinstance(space, gymnasium.spaces.Discrete):
            return cls("categorical", (), (int(space.n),), space)
        if isinstance(space, gymnasium.spaces.MultiDiscrete) and space.nvec.ndim == 1:
            return cls("multi_categorical", space.shape, tuple(space.nvec.tolist()), space)
        if isinstance(space, gymnasium.spaces.MultiBinary) and len(space.shape) == 1:
            return cls("bernoulli", space.shape, (2,) * space.shape[0], space)
        is_float = isinstance(space, gymnasium.spaces.Box) and space.dtype in (
            np.float32,
            np.float64,
        )
        if not is_float:
            raise ValueError(
                f"{env_id} has actions in {space}; those that can be trained are Discrete, "
                "MultiDiscrete and MultiBinary with one axis, and Box of floats"
            )
        assert isinstance(space, gymnasium.spaces.Box)
        if squashed and not space.is_bounded():
            raise ValueError(
                f"{env_id} has actions without bounds, {space}; squashed actions need them: "
                "choose continuous=gaussian"
            )
        size = int(np.prod(space.shape))
        if size == 0:
            raise ValueError(f"{env_id} has actions without components, {space}")
        return cls("continuous", (size,), (), space, squashed)

    def to_json(self) -> dict[str, Any]:
        """The layout as JSON types; `from_json` undoes it, without the environment."""
        return {**to_json(self.space), "squashed": self.squashed}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """The layout that `to_json` described."""
        return cls.of("the checkpoint", from_json(fields), squashed=fields["squashed"])

    @property
    def dtype(self) -> type[np.int64] | type[np.float32]:
        """dtype of stored actions."""
        return np.float32 if self.kind == "continuous" else np.int64

    def bounds(self, place: Place = None) -> tuple[Array, Array] | None:
        """The bounds of continuous actions as `to_env` takes them, at a place."""
        if not isinstance(self.space, gymnasium.spaces.Box):
            return None
        return put(self.space.low, place), put(self.space.high, place)

    def to_env(self, actions: Array, bounds: tuple[Array, Array] | None = None) -> Array:
        """Stored actions [N, ...] as the environment takes them; the same array if they agree.

        Of tensors, `bounds` are those at their place.
        """
        space = self.space
        if isinstance(space, gymnasium.spaces.Box):
            xp = library(actions)
            low, high = bounds or (space.low, space.high)
            inside = actions.reshape(-1, *space.shape)
            if self.squashed:
                middle, reach = (high + low) / 2, (high - low) / 2
                inside = middle + reach * xp.tanh(inside)
            return cast(xp.clip(inside, low, high), space.dtype)
        start = getattr(space, "start", 0)  # a MultiBinary has none
        moved = actions + start if np.any(start) else actions
        return cast(moved, space.dtype)
