"""Gymnasium's spaces as JSON types, so that a checkpoint can name them."""

from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces

Space = gymnasium.Space[Any]


def to_json(space: Space) -> dict[str, Any]:
    """A description that `from_json` makes the same space from.

    Raises
    ------
    ValueError
        For a space of another kind than Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple.
    """
    if isinstance(space, spaces.Box):
        return {
            "low": _bound(space.low),
            "high": _bound(space.high),
            "shape": list(space.shape),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.Discrete):
        return {"choices": [int(space.n)], "start": int(space.start), "dtype": str(space.dtype)}
    if isinstance(space, spaces.MultiDiscrete):
        return {
            "choices": space.nvec.tolist(),
            "start": space.start.tolist(),
            "dtype": str(space.dtype),
        }
    if isinstance(space, spaces.MultiBinary):
        return {"binary": np.asarray(space.n).tolist()}
    if isinstance(space, spaces.Dict):
        return {"dict": [[name, to_json(part)] for name, part in space.spaces.items()]}
    if isinstance(space, spaces.Tuple):
        return {"tuple": [to_json(part) for part in space.spaces]}
    raise ValueError(
        f"{space} is none of Box, Discrete, MultiDiscrete, MultiBinary, Dict and Tuple"
    )


def from_json(fields: dict[str, Any]) -> Space:
    """The space that `to_json` described."""
    if "low" in fields:
        low, high = (np.asarray(fields[name], fields["dtype"]) for name in ("low", "high"))
        shape = tuple(fields.get("shape", low.shape))  # older descriptions have whole arrays
        low, high = (np.broadcast_to(bound, shape) for bound in (low, high))
        return spaces.Box(low, high, shape, dtype=np.dtype(fields["dtype"]).type)
    if "choices" in fields:
        dtype: Any = np.dtype(fields["dtype"]).type
        if np.ndim(fields["start"]) == 0:
            return spaces.Discrete(fields["choices"][0], start=fields["start"], dtype=dtype)
        return spaces.MultiDiscrete(fields["choices"], dtype=dtype, start=fields["start"])
    if "binary" in fields:
        return spaces.MultiBinary(fields["binary"])
    if "dict" in fields:
        return spaces.Dict([(name, from_json(part)) for name, part in fields["dict"]])
    return spaces.Tuple([from_json(part) for part in fields["tuple"]])


def _bound(values: Any) -> Any:
    """One number where all are the same, as in pictures."""
    first = values.flat[0].item() if values.size > 0 else 0.0
    return first if (values == first).all() else values.tolist()
