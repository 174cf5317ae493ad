"""States of Gymnasium environments, so that a run can go on in the middle of an episode.

A state can be saved where all of it is known: in Gymnasium's MuJoCo environments, and in those that
have `get_training_state()`, which gives numbers and arrays by name, and
`set_training_state(state)`; both with no wrappers but those below. The generator `np_random` is
saved with it.
"""

import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import gymnasium
import numpy as np
from gymnasium import wrappers
from numpy.typing import NDArray

Env = gymnasium.Env[Any, Any]
_State = dict[str, Any]

# Their steps depend on nothing that they remember; TimeLimit counts.
_WITHOUT_STATE = (
    wrappers.ClipAction,
    wrappers.FlattenObservation,
    wrappers.OrderEnforcing,
    wrappers.PassiveEnvChecker,
    wrappers.RescaleAction,
    wrappers.RescaleObservation,
)
# Of MuJoCo's data: rewards of Ant and Humanoid are differences of positions that the last step has
# left here, which lie a part of a step behind the physics and do not follow from them.
_POSITIONS = ("xpos", "xipos")
_GENERATOR = "np_random"


def get_state(envs: Sequence[Env]) -> NDArray[np.uint8] | None:
    """The states of all as bytes, or None if one of them cannot be saved.

    The environments have been reset. TypeError for a `get_training_state` that gives something
    else than numbers and arrays by name.
    """
    arrays: dict[str, NDArray[Any]] = {}
    for number, env in enumerate(envs):
        state = _state_of(env)
        if state is None:
            return None
        arrays |= {f"{number}/{name}": value for name, value in state.items()}
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]  # whose stubs know one keyword
    return np.frombuffer(file.getvalue(), np.uint8)


def set_state(envs: Sequence[Env], state: NDArray[np.uint8]) -> None:
    """Go on from what `get_state` gave; the environments have been reset since they were made.

    ValueError, with the reason, where they cannot: they may be of another version.
    """
    try:
        with np.load(io.BytesIO(state.tobytes()), allow_pickle=False) as arrays:
            for number, env in enumerate(envs):
                start = f"{number}/"
                names = [name for name in arrays.files if name.startswith(start)]
                _restore(env, {name.removeprefix(start): arrays[name] for name in names})
    except Exception as error:  # of foreign environments, of any kind
        raise ValueError(f"{type(error).__name__}: {error}") from error


def _state_of(env: Env) -> _State | None:
    limits = _time_limits(env)
    own = None if limits is None else _own_state(env.unwrapped)
    if limits is None or own is None:
        return None
    generator = env.unwrapped.np_random
    bits = generator.bit_generator if isinstance(generator, np.random.Generator) else None
    if not isinstance(bits, np.random.PCG64):
        return None
    state = {_GENERATOR: json.dumps(bits.state)}  # 128-bit integers, which arrays do not have
    elapsed = [limit._elapsed_steps for limit in limits]
    named = state | {"elapsed": elapsed} | {f"own/{name}": x for name, x in own.items()}
    return {name: np.asarray(x) for name, x in named.items()}


def _restore(env: Env, state: _State) -> None:
    base: Any = env.unwrapped
    base.np_random.bit_generator.state = json.loads(state[_GENERATOR].item())
    for limit, elapsed in zip(_time_limits(env) or [], state["elapsed"].tolist(), strict=True):
        limit._elapsed_steps = elapsed
    own = {name.removeprefix("own/"): x for name, x in state.items() if name.startswith("own/")}
    if _has_methods(base):
        base.set_training_state(own)
    else:
        _set_mujoco(base, own)


def _time_limits(env: Env) -> list[Any] | None:
    """The TimeLimits around an environment; None if there is a wrapper that we do not know."""
    limits = []
    while isinstance(env, gymnasium.Wrapper):
        if isinstance(env, wrappers.TimeLimit):
            limits.append(env)
        elif type(env) not in _WITHOUT_STATE:
            return None
        env = env.env
    return limits


def _own_state(base: Any) -> _State | None:
    if _has_methods(base):
        return _checked(base.get_training_state())
    data = getattr(base, "data", None)
    is_mujoco = type(base).__module__.startswith("gymnasium.envs.mujoco.")
    if is_mujoco and type(data).__module__.startswith("mujoco."):
        return _get_mujoco(base)
    return None


def _has_methods(base: Any) -> bool:
    return hasattr(base, "get_training_state") and hasattr(base, "set_training_state")


def _checked(state: Any) -> _State:
    """What an environment says of its state, if it can be saved."""
    expected = "get_training_state must give a dict of numbers and arrays by name"
    if not isinstance(state, Mapping):
        raise TypeError(f"{expected}, got {type(state).__name__}")
    for name, value in state.items():
        try:
            plain = np.asarray(value).dtype.kind in "biufcU"
        except ValueError:  # a ragged list
            plain = False
        if not isinstance(name, str) or not plain:
            raise TypeError(f"{expected}, got {value!r} as {name!r}")
    return dict(state)


def _get_mujoco(base: Any) -> _State:
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    physics = np.empty(mujoco.mj_stateSize(base.model, kind))
    mujoco.mj_getState(base.model, base.data, physics, kind)
    state = {"physics": physics} | {name: getattr(base.data, name) for name in _POSITIONS}
    # What a reset has drawn, such as Reacher's goal.
    drawn = {name: x for name, x in vars(base).items() if isinstance(x, np.ndarray)}
    return state | {f"drawn/{name}": x for name, x in drawn.items()}


def _set_mujoco(base: Any, state: _State) -> None:
    import mujoco

    kind = mujoco.mjtState.mjSTATE_INTEGRATION
    mujoco.mj_setState(base.model, base.data, state["physics"], kind)
    for name in _POSITIONS:
        getattr(base.data, name)[:] = state[name]
    for name, x in state.items():
        if name.startswith("drawn/"):
            setattr(base, name.removeprefix("drawn/"), x)
