"""Advantages and returns: GAE, lambda-returns, discounted returns, V-trace, GAE over tokens.

All of these are one recurrence backward in time (csrc/advantage/formula.h has the formulas). They
take NumPy arrays, torch tensors on the CPU or a CUDA device, and other DLPack arrays such as JAX's
and CuPy's, and give back what they took: same library, device, shape and memory layout. Inputs are
never written, nothing is normalised, and nothing about the end of an episode is guessed. Needs
NumPy only.

Arrays of transitions
---------------------
`rewards` are [T, N] (time steps, environments), or [N, T] with `time_axis=1`, or [T]; a last axis
of size 1 is kept. All other arrays of transitions have that shape. Any strides will do. Numbers are
float32 or float64, the same in all arrays; bfloat16 and float16 tensors give float32 results. Flags
are bool, or 8, 32 or 64 bit numbers of which anything but 0 counts as set.

What follows a step
-------------------
Exactly one of

- `last_values` [N]: V of the observation after the last step; all others are followed by the value
  of the next row. A Python number will do where N is 1;
- `values` with T + 1 rows, the last one being the same;
- `next_values` [T, N]: V of the observation after each step.

Where episodes end
------------------
Exactly one of

- `terminated` [T, N], and `truncated` [T, N] where episodes are cut: Gymnasium's flags of
  transition t. `terminated` wins where both are set;
- `episode_starts` [T, N] and `last_done` [N]: the flags of stable-baselines3 and CleanRL, set at
  the step *after* the end; `last_done` belongs to the observation after the last step.

A truncated episode would have gone on, so it needs a value: `final_values` [T, N], V of its last
observation (read only where truncated); or `next_values`; or `on_truncation`:

- `"current_value"`: V of the step itself (rsl_rl, rl_games, Sample Factory),
- `"terminate"`: 0, as if the episode had ended (CleanRL),
- `"drop"`: the step does not count: A = 0, R = V (Brax).

`prev_done` [T, N] is for environments that reset in a step of their own (`AutoresetMode.NEXT_STEP`
of Gymnasium, EnvPool): it marks the rows that are such resets. They get A = 0 and R = V and must be
left out of the loss (`valid_rows`). Then V of the last observation is the next row's value, and
`truncated` needs nothing else.
"""

import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple

import numpy as np

from ppo_fast import _core

Array = Any
OnTruncation = Literal["current_value", "terminate", "drop"]


# GAE(*pair) and VTrace(*pair) without the function in Python that a NamedTuple has for it.
_pair = tuple.__new__


class GAE(NamedTuple):
    """Result of `gae` and `token_gae`: two arrays like the rewards."""

    advantages: Array
    returns: Array


class VTrace(NamedTuple):
    """Result of `vtrace`: two arrays like the rewards."""

    vs: Array
    pg_advantages: Array


def gae(
    rewards: Array,
    values: Array,
    *,
    gamma: float,
    gae_lambda: float | Array,
    last_values: Array | float | None = None,
    next_values: Array | None = None,
    terminated: Array | None = None,
    truncated: Array | None = None,
    final_values: Array | None = None,
    on_truncation: OnTruncation | None = None,
    episode_starts: Array | None = None,
    last_done: Array | bool | None = None,
    prev_done: Array | None = None,
    time_axis: int = 0,
    out: tuple[Array, Array] | None = None,
    exact: bool = False,
) -> GAE:
    """Generalized advantage estimates and lambda-returns.

    J. Schulman, P. Moritz, S. Levine, M. Jordan, P. Abbeel, "High-Dimensional Continuous Control
    Using Generalized Advantage Estimation" (2016)::

        V'_t    = 0 if terminated;  V of the last observation if truncated;  V_{t+1} otherwise
        delta_t = r_t + gamma V'_t - V_t
        A_t     = delta_t + gamma gae_lambda (1 - done_t) A_{t+1},   done = terminated or truncated
        R_t     = A_t + V_t

    float32 results are those of the plain float32 loop, bit for bit. Only rows of 4,096 steps and
    more, fewer than 32 of them and batch-major in memory (or a single one), are computed in
    parallel along time. They then agree to rounding if all numbers are finite; `exact` keeps to the
    loop there too. Results depend neither on the number of threads nor on the processor.

    Parameters
    ----------
    rewards
        [T, N]; see `help(ppo_fast.advantage)` for shapes, dtypes and layouts.
    values
        [T, N]: V of the observation that each step started from; or [T + 1, N].
    gamma
        Discount per step, in [0, 1].
    gae_lambda
        Trades bias (0) for variance (1), in [0, 1]; one number, or one per environment [N].
    last_values, next_values
        What follows a step; see `help(ppo_fast.advantage)`.
    terminated, truncated, final_values, on_truncation, episode_starts, last_done, prev_done
        Where episodes end; see `help(ppo_fast.advantage)`.
    time_axis
        0 for [T, N], 1 for [N, T]. Never guessed.
    out
        Pair of arrays like the rewards to write advantages and returns into. They must not share
        memory with each other or with an input.
    exact
        Keep to the serial order for long rows as well.

    Returns
    -------
    GAE
        `advantages` and `returns`, like the rewards.

    Raises
    ------
    TypeError
        For an argument of a wrong type or dtype.
    ValueError
        For a wrong shape, a factor outside [0, 1], or arguments that are missing or contradict.
    RuntimeError
        For a torch tensor that requires grad while grad is enabled.
    """
    arguments = (
        rewards,
        values,
        gamma,
        gae_lambda,
        last_values,
        next_values,
        terminated,
        truncated,
        final_values,
        on_truncation,
        episode_starts,
        last_done,
        prev_done,
        time_axis,
        out,
        exact,
    )
    if isinstance(rewards, np.ndarray):
        return _pair(GAE, _core.gae(*arguments))
    return _pair(GAE, _foreign("gae", arguments))


def lambda_returns(
    rewards: Array,
    values: Array,
    *,
    gamma: float,
    gae_lambda: float | Array,
    last_values: Array | float | None = None,
    next_values: Array | None = None,
    terminated: Array | None = None,
    truncated: Array | None = None,
    final_values: Array | None = None,
    on_truncation: OnTruncation | None = None,
    episode_starts: Array | None = None,
    last_done: Array | bool | None = None,
    prev_done: Array | None = None,
    time_axis: int = 0,
    out: Array | None = None,
    exact: bool = False,
) -> Array:
    """The returns of `gae` alone, TD(lambda)'s targets for the critic; takes what `gae` takes.

    `out` is one array like the rewards.
    """
    arguments = (
        rewards,
        values,
        gamma,
        gae_lambda,
        last_values,
        next_values,
        terminated,
        truncated,
        final_values,
        on_truncation,
        episode_starts,
        last_done,
        prev_done,
        time_axis,
        out,
        exact,
    )
    if isinstance(rewards, np.ndarray):
        return _core.lambda_returns(*arguments)
    return _foreign("lambda_returns", arguments)


def discounted_returns(
    rewards: Array,
    *,
    gamma: float,
    last_values: Array | float,
    terminated: Array | None = None,
    truncated: Array | None = None,
    final_values: Array | None = None,
    on_truncation: Literal["terminate", "drop"] | None = None,
    episode_starts: Array | None = None,
    last_done: Array | bool | None = None,
    prev_done: Array | None = None,
    time_axis: int = 0,
    out: Array | None = None,
    exact: bool = False,
) -> Array:
    """Discounted sums of rewards, the reward-to-go of each step.

    ::

        G_t = r_t + gamma G'_t,   G'_t = 0 if terminated; final_values_t if truncated;
                                         G_{t+1} otherwise, last_values at the end

    Arguments as in `gae`, without values. `last_values` must be given: zeros, if nothing follows
    the last step. Rows that do not count (`prev_done`, dropped ones) are 0.
    """
    arguments = (
        rewards,
        gamma,
        last_values,
        terminated,
        truncated,
        final_values,
        on_truncation,
        episode_starts,
        last_done,
        prev_done,
        time_axis,
        out,
        exact,
    )
    if isinstance(rewards, np.ndarray):
        return _core.discounted_returns(*arguments)
    return _foreign("discounted_returns", arguments)


def vtrace(
    rewards: Array,
    values: Array,
    *,
    log_rhos: Array,
    gamma: float,
    gae_lambda: float | Array = 1.0,
    rho_clip: float = 1.0,
    c_clip: float = 1.0,
    pg_rho_clip: float = 1.0,
    last_values: Array | float | None = None,
    next_values: Array | None = None,
    terminated: Array | None = None,
    truncated: Array | None = None,
    final_values: Array | None = None,
    on_truncation: OnTruncation | None = None,
    episode_starts: Array | None = None,
    last_done: Array | bool | None = None,
    prev_done: Array | None = None,
    time_axis: int = 0,
    out: tuple[Array, Array] | None = None,
    exact: bool = False,
) -> VTrace:
    """V-trace targets and policy-gradient advantages for data of another policy.

    L. Espeholt et al., "IMPALA" (2018), eq. 1, with V'_t as in `gae`::

        rho_t   = exp(log_rhos_t),   log_rhos = log pi - log mu: the target's minus the behaviour's
        delta_t = min(rho_clip, rho_t) (r_t + gamma V'_t - V_t)
        c_t     = gamma gae_lambda min(c_clip, rho_t) (1 - done_t)
        vs_t    = V_t + delta_t + c_t (vs_{t+1} - V_{t+1})
        pg_t    = min(pg_rho_clip, rho_t) (r_t + gamma vs'_t - V_t)

    where vs'_t is vs_{t+1} within an episode and V'_t at its end and at the end of the data.

    Parameters
    ----------
    log_rhos
        [T, N]: log-probability of the action under the target policy minus that under the policy
        that acted.
    rho_clip, c_clip, pg_rho_clip
        Limits of the weights, positive; `float("inf")` for none.
    rewards, values, gamma, gae_lambda, last_values, next_values, time_axis, exact
        As in `gae`.
    terminated, truncated, final_values, on_truncation, episode_starts, last_done, prev_done
        As in `gae`.
    out
        Pair of arrays like the rewards to write vs and pg_advantages into.

    Returns
    -------
    VTrace
        `vs` and `pg_advantages`, like the rewards.
    """
    arguments = (
        rewards,
        values,
        log_rhos,
        gamma,
        gae_lambda,
        rho_clip,
        c_clip,
        pg_rho_clip,
        last_values,
        next_values,
        terminated,
        truncated,
        final_values,
        on_truncation,
        episode_starts,
        last_done,
        prev_done,
        time_axis,
        out,
        exact,
    )
    if isinstance(rewards, np.ndarray):
        return _pair(VTrace, _core.vtrace(*arguments))
    return _pair(VTrace, _foreign("vtrace", arguments))


def token_gae(
    rewards: Array,
    values: Array,
    *,
    mask: Array,
    gamma: float,
    gae_lambda: float | Array,
    masked: Literal["skip", "decay"] = "skip",
    bootstrap: Array | float = 0.0,
    cu_seqlens: Array | None = None,
    out: tuple[Array, Array] | None = None,
    exact: bool = False,
) -> GAE:
    """GAE over the tokens of sequences, of which a mask says which count.

    Parameters
    ----------
    rewards, values
        [B, L]: sequences, tokens. Or [tokens], all sequences one behind the other, with
        `cu_seqlens`.
    mask
        Like the rewards; flags (see `help(ppo_fast.advantage)`), set for tokens that count, e.g.
        those of the response.
    gamma
        Discount per token, in [0, 1].
    gae_lambda
        In [0, 1]; one number, or one per sequence [B].
    masked
        What a token that does not count comes to. `"skip"`: nothing, the tokens around it are
        neighbours (verl, NeMo-RL). `"decay"`: a step with reward 0 and value 0 (OpenRLHF).
    bootstrap
        V after the last token: one number, or one per sequence [B]. 0 where a sequence is complete.
    cu_seqlens
        int32 or int64 [B + 1]: sequence b takes the tokens from cu_seqlens[b] to cu_seqlens[b + 1].
    out
        Pair of arrays like the rewards to write advantages and returns into.
    exact
        Keep to the serial order for sequences of 4,096 tokens and more as well; see `gae`.

    Returns
    -------
    GAE
        `advantages` and `returns`, like the rewards. Tokens that do not count get A = 0, R = V.
    """
    arguments = (
        rewards,
        values,
        mask,
        gamma,
        gae_lambda,
        masked,
        bootstrap,
        cu_seqlens,
        out,
        exact,
    )
    if isinstance(rewards, np.ndarray):
        return _pair(GAE, _core.token_gae(*arguments))
    return _pair(GAE, _foreign("token_gae", arguments))


def normalize(x: Array, *, valid: Array | None = None, eps: float, ddof: int) -> Array:
    """(x - mean) / (std + eps) over all items that count; explicit, because peers differ in it.

    Parameters
    ----------
    x
        float32 or float64, any shape.
    valid
        Flags like x: items that count; None for all. The others become 0.
    eps
        Added to the standard deviation. 1e-8 is what stable-baselines3 and CleanRL use.
    ddof
        Taken off the count in the variance: 1 as in torch's std, 0 as in NumPy's and JAX's.

    Returns
    -------
    Array
        Like x, with moments formed in float64. With no more than `ddof` items that count there is
        no spread to divide by, and these stay as they are.
    """
    if isinstance(x, np.ndarray):
        return _normalize(x, valid, eps, ddof)
    return _foreign("normalize", (x, valid, eps, ddof))


def valid_rows(
    *,
    terminated: Array,
    truncated: Array | None = None,
    prev_done: Array | bool,
    time_axis: int = 0,
) -> Array:
    """Which rows of a NEXT_STEP rollout are true transitions, and not the reset of an environment.

    Under `AutoresetMode.NEXT_STEP` the step after the end of an episode ignores its action and only
    resets. Pass `prev_done=~valid` to `gae` and leave these rows out of the loss and out of
    `normalize`.

    Parameters
    ----------
    terminated, truncated
        [T, N] flags of transition t, or [N, T] with `time_axis=1`, or [T].
    prev_done
        [N]: whether the step before the first row ended an episode: all False after a reset.
    time_axis
        0 for [T, N], 1 for [N, T].

    Returns
    -------
    Array
        bool, like terminated: False in the row after the end of an episode.
    """
    if isinstance(terminated, np.ndarray):
        return _valid_rows(terminated, truncated, prev_done, time_axis)
    return _foreign("valid_rows", (terminated, truncated, prev_done, time_axis))


def _normalize(x: Any, valid: Any, eps: Any, ddof: Any) -> Any:
    if x.dtype not in (np.float32, np.float64):
        raise TypeError(
            f"normalize: x must be float32 or float64, got {x.dtype}; "
            "cast with x.astype(np.float32)"
        )
    if isinstance(x, np.ma.MaskedArray):
        raise TypeError(
            "normalize: x must be a plain array, got MaskedArray, whose mask would be lost; fill "
            "it with x.filled(...)"
        )
    require_moments(x, valid, eps, ddof)
    result = np.empty_like(x)  # in the layout of x, without gaps
    counted = None
    if valid is not None:
        counted = np.empty_like(result, dtype=bool)
        np.not_equal(valid, 0, out=counted)
        counted = _in_memory_order(counted)
    if x.strides != result.strides or not x.flags.aligned:
        np.copyto(result, x)
        x = result
    _core.normalize(_in_memory_order(x), counted, float(eps), ddof, _in_memory_order(result))
    return result


def _in_memory_order(x: Any) -> Any:
    """All items of an array without gaps, as a view."""
    axes = sorted(range(x.ndim), key=lambda axis: -x.strides[axis])
    return np.asarray(x).transpose(axes).reshape(-1)  # a matrix would stay one


def require_moments(x: Any, valid: Any, eps: Any, ddof: Any) -> None:
    """Check the arguments of `normalize` besides the dtype of x."""
    _require_like("normalize", "valid", valid, "x", x)
    _require_flags("normalize", "valid", valid)
    if not isinstance(eps, (int, float, np.number)):
        raise TypeError(f"normalize: eps must be a number, got {type(eps).__name__}")
    if not eps >= 0:
        raise ValueError(f"normalize: eps must not be negative, got {eps}")
    if ddof not in (0, 1):
        raise ValueError(f"normalize: ddof must be 0 or 1, got {ddof!r}")


def _valid_rows(terminated: Any, truncated: Any, prev_done: Any, time_axis: Any) -> Any:
    return valid_rows_of(np, terminated, truncated, np.asarray(prev_done), time_axis)


def _require_flags(function: str, name: str, flags: Any) -> None:
    if flags is None:
        return
    if getattr(flags.dtype, "kind", "b") not in "biuf":  # of torch, all types are numbers
        raise TypeError(f"{function}: {name} must be bool, got {flags.dtype}; cast it to bool")


def valid_rows_of(
    library: Any, terminated: Any, truncated: Any, prev_done: Any, time_axis: Any
) -> Any:
    """`valid_rows` of arrays of NumPy, or of tensors, `library` being torch."""
    if time_axis not in (0, 1):
        raise ValueError(f"valid_rows: time_axis must be 0 or 1, got {time_axis!r}")
    if terminated.ndim == 0:
        raise ValueError("valid_rows: terminated must have shape (T, N) or (T,), got ()")
    _require_like("valid_rows", "truncated", truncated, "terminated", terminated)
    _require_flags("valid_rows", "terminated", terminated)
    _require_flags("valid_rows", "truncated", truncated)
    _require_flags("valid_rows", "prev_done", prev_done)
    done = terminated != 0
    if truncated is not None:
        done |= truncated != 0
    axis = time_axis if done.ndim > 1 else 0
    valid = library.empty_like(done)
    steps, rows = library.moveaxis(done, axis, 0), library.moveaxis(valid, axis, 0)
    per_env = tuple(steps.shape[1:])
    if math.prod(prev_done.shape) != math.prod(per_env):
        raise ValueError(
            "valid_rows: prev_done must have one flag per environment "
            f"({math.prod(per_env)}), got shape {tuple(prev_done.shape)}"
        )
    rows[1:] = ~steps[:-1]
    if len(rows) > 0:
        rows[0] = ~(prev_done != 0).reshape(per_env)
    return valid


def _require_like(function: str, name: str, array: Any, like: str, other: Any) -> None:
    if array is None:
        return
    if isinstance(other, np.ndarray) and not isinstance(array, np.ndarray):
        raise TypeError(
            f"{function}: {name} must be a NumPy array like {like}, got {type(array).__name__}"
        )
    if array.shape != other.shape:
        raise ValueError(
            f"{function}: {name} must have shape {tuple(other.shape)} like {like}, "
            f"got {tuple(array.shape)}"
        )


def _load_foreign(function: str, arguments: tuple[Any, ...]) -> Any:
    """The same function of arrays of another library, whose module takes this one's place."""
    global _foreign
    from ppo_fast.foreign import call

    _foreign = call
    return call(function, arguments)


_foreign: Callable[[str, tuple[Any, ...]], Any] = _load_foreign
