"""TrainConfig: everything that a training run depends on, in one documented dataclass."""

import dataclasses
import json
import math
import numbers
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NoReturn, Self, get_args, get_origin, get_type_hints

MOST_THREADS = 1024
MOST_SAMPLES = 2**31

# Keywords of make_vec that are fields of their own, or no matter of a run.
_NOT_FOR_ENVS = {
    "env_id": "it is a field of its own",
    "num_envs": "it is a field of its own",
    "num_threads": "it is a field of its own",
    "device": "it is a field of its own",
    "autoreset_mode": "training needs SAME_STEP",
    "backend": "training takes native environments and Gymnasium's",
    "vectorization": "it is a field of its own",
    "episode_stats": "training counts episodes by itself",
    "wrappers": "register an id whose entry point applies them (docs/envs.md)",
    "vector_kwargs": "training makes the batch by itself",
    "vectorization_mode": "vectorization is a field of its own",
    "render_mode": "videos are made by ppo-fast eval --video",
}

DEVICE_RULE = "must be cpu, cuda, or cuda with a number such as cuda:1"

# Rules for single fields.
_COUNTS = (
    "total_steps",
    "num_envs",
    "num_steps",
    "num_epochs",
    "minibatch_size",
    "cg_steps",
    "line_search_steps",
    "noise_steps",
    "torch_threads",
)
_POSITIVE = ("learning_rate", "clip_range", "kl_target", "trust_region")
_NOT_NEGATIVE = ("entropy_coef", "value_coef", "kl_coef", "cg_damping", "checkpoint_seconds")
_POSITIVE_OR_NONE = (
    "max_grad_norm",
    "target_kl",
    "kl_min",
    "kl_max",
    "clip_range_high",
    "clip_range_values",
)

_PPO = ("ppo-unclipped", "ppo-kl", "ppo-clip")
# The algorithms that an option belongs to, where these are not all. num_epochs and minibatch_size
# are not here: they are the shape of a run, which may be given to all that are compared.
ALGORITHMS_OF: dict[str, tuple[str, ...]] = {
    "gae_lambda": ("a2c", "trpo", *_PPO),
    "credit": ("reinforce",),
    "baseline": ("reinforce",),
    "clip_range": ("ppo-clip",),
    "clip_range_high": ("ppo-clip",),
    "dual_clip": ("ppo-clip",),
    "anneal_clip_range": ("ppo-clip",),
    "kl_rule": ("ppo-kl",),
    "kl_coef": ("ppo-kl",),
    "kl_target": ("ppo-kl",),
    "kl_min": ("ppo-kl",),
    "kl_max": ("ppo-kl",),
    "trust_region": ("trpo",),
    "cg_steps": ("trpo",),
    "cg_damping": ("trpo",),
    "line_search_steps": ("trpo",),
    "entropy_coef": ("reinforce", "a2c", *_PPO),
    "anneal_entropy_coef": ("reinforce", "a2c", *_PPO),
    # a2c takes one step, at which V is the old V.
    "clip_range_values": _PPO,
    "target_kl": _PPO,
    "normalize_advantages": ("a2c", "trpo", *_PPO),
    "recompute_advantages": _PPO,
}


@dataclass(frozen=True)
class TrainConfig:
    """A training run. `TrainConfig(...)` applies no preset; `TrainConfig.preset(env_id)` does."""

    env_id: str
    """Environment to train on: a native id such as CartPole-v1, or any Gymnasium id."""

    algorithm: Literal["reinforce", "a2c", "ppo-unclipped", "trpo", "ppo-kl", "ppo-clip"] = (
        "ppo-clip"
    )
    """How the policy is improved; docs/algorithms.md tells them apart. ppo-clip is PPO2."""

    engine: Literal["auto", "native", "torch"] = "auto"
    """What computes networks and gradients: native is our own kernels, torch is torch; auto takes
    native where it can and says why where it cannot. On a GPU it is torch."""

    env_kwargs: dict[str, Any] = dataclasses.field(default_factory=dict, hash=False)
    """Keywords of the environment, max_episode_steps among them, with values that JSON can hold. On
    the command line --env-kwargs is_slippery=False map_name=8x8."""

    seed: int = 0
    """Starts every generator of the run; results depend on nothing else that is random."""

    total_steps: int = 500_000
    """Environment steps of the whole run, over all environments; rounded up to whole rollouts."""

    num_envs: int = 8
    """Environments that are stepped together."""

    vectorization: Literal["sync", "async"] = "sync"
    """Gymnasium's environments: in this process, or in a process each, which pays where a step
    takes long. Native ones have threads."""

    num_steps: int = 256
    """Steps of each environment per rollout, T; a rollout has num_envs * num_steps samples.
    reinforce goes on from there to the ends of the episodes."""

    num_epochs: int = 4
    """Passes over a rollout per update: of the policy and the critic for the ppo family, of the
    critic alone for trpo. reinforce and a2c take one gradient step on the whole rollout."""

    minibatch_size: int = 256
    """Samples per gradient step; a last, smaller minibatch takes what is left. Not used by
    reinforce and a2c."""

    learning_rate: float = 2.5e-4
    """Adam's step size (trpo: the critic's)."""

    anneal_lr: bool = True
    """Let the learning rate fall linearly to zero over the run."""

    gamma: float = 0.99
    """Discount per step, in [0, 1]."""

    gae_lambda: float = 0.95
    """Lambda of generalized advantage estimation, in [0, 1]: bias at 0, variance at 1. Not for
    reinforce."""

    credit: Literal["trajectory", "reward_to_go"] = "reward_to_go"
    """reinforce: what an action is weighted by: the return of its whole episode, or only of what
    came after it."""

    baseline: Literal["none", "mean", "critic"] = "critic"
    """reinforce: what is subtracted from that: nothing, its mean, or V of the observation."""

    clip_range: float = 0.2
    """ppo-clip: eps of the clipped surrogate: ratios beyond 1 -+ eps gain nothing more."""

    clip_range_high: float | None = None
    """ppo-clip: another eps for the upper bound; None for the same."""

    dual_clip: float | None = None
    """ppo-clip: c > 1, at which ratios of bad actions stop to count as well; None for never."""

    anneal_clip_range: bool = False
    """ppo-clip: let the clip ranges fall linearly to zero over the run."""

    kl_rule: Literal["fixed", "adaptive", "distributed"] = "adaptive"
    """ppo-kl: how the weight beta of the KL penalty goes on: not at all; doubled above KL_max and
    halved below KL_min; or times or by 1.5, with a hinge on large KL and an end of the epochs."""

    kl_coef: float = 1.0
    """ppo-kl: beta at the start."""

    kl_target: float = 0.01
    """ppo-kl: the KL per update that beta steers to, in nats."""

    kl_min: float | None = None
    """ppo-kl: KL below which beta falls; None for kl_target / 1.5 (distributed: / 2)."""

    kl_max: float | None = None
    """ppo-kl: KL above which beta rises; None for 1.5 kl_target (distributed: 2 kl_target)."""

    trust_region: float = 0.01
    """trpo: delta, which the KL of a step stays below."""

    cg_steps: int = 10
    """trpo: steps of the conjugate gradient method."""

    cg_damping: float = 0.1
    """trpo: multiple of the identity that is added to the Fisher matrix."""

    line_search_steps: int = 10
    """trpo: how often a step that broke a condition is shortened before it is given up."""

    entropy_coef: float = 0.01
    """Weight of the entropy bonus. Not for trpo."""

    anneal_entropy_coef: bool = False
    """Let the weight of the entropy bonus fall linearly to zero over the run. Not for trpo."""

    value_coef: float = 0.5
    """Weight of the value loss mean((V - R)^2)."""

    clip_range_values: float | None = None
    """ppo-unclipped, ppo-kl, ppo-clip: keep V within this distance of its value before the update
    in the loss; None for no limit."""

    max_grad_norm: float | None = 0.5
    """Largest norm of the whole gradient; None for no limit."""

    target_kl: float | None = None
    """ppo-unclipped, ppo-kl, ppo-clip: stop the epochs of an update when the KL estimate exceeds
    1.5 times this; None for never. kl_rule distributed has an end of its own."""

    normalize_advantages: Literal["minibatch", "batch", "none"] = "minibatch"
    """Where advantages get mean 0 and standard deviation 1: in each minibatch, or once in the whole
    rollout. Not for reinforce, where it would be a baseline."""

    recompute_advantages: bool = False
    """ppo-unclipped, ppo-kl, ppo-clip: estimate advantages anew before every epoch, with the critic
    as it is then."""

    normalize_obs: bool = False
    """Give observations mean 0 and standard deviation 1 by running statistics, within -+10."""

    normalize_rewards: bool = False
    """Divide rewards by the standard deviation of the running discounted return, within -+10."""

    encoder: str | None = None
    """What makes features of observations before the hidden layers: cnn for pictures, module:Class
    for a torch module of your own, None for nothing."""

    hidden_sizes: tuple[int, ...] = (64, 64)
    """Widths of the hidden layers."""

    activation: Literal["tanh", "relu", "elu", "silu"] = "tanh"
    """Function between the layers."""

    shared_trunk: bool = False
    """Let policy and value function share encoder and hidden layers; else each has its own."""

    continuous: Literal["gaussian", "squashed", "gsde"] = "gaussian"
    """Distribution of continuous actions: normal and cut at the bounds, normal through a tanh, or
    with state-dependent noise that stays for some steps (gSDE)."""

    log_std: float = 0.0
    """Continuous actions: log of the standard deviation at the start."""

    state_dependent_std: bool = False
    """gaussian, squashed: let the network give log_std too; else it is a parameter of its own."""

    noise_steps: int = 4
    """gsde: steps between two draws of the noise."""

    device: str = "cpu"
    """Where networks and native environments live: cpu, or cuda (cuda:1) for a GPU, without
    reinforce and trpo."""

    num_threads: int | None = None
    """Threads for native environments and the native engine; None chooses by the work. Never
    changes results. What is on a GPU has no use for it."""

    torch_threads: int = 1
    """Threads of torch's operators; more than one pays for large networks only."""

    target_return: float | None = None
    """Stop early when the mean return of the last 100 episodes reaches this; None for never."""

    eval_episodes: int = 100
    """Greedy episodes on Gymnasium's own environment after training; 0 for none."""

    eval_every: int | None = None
    """Updates between evaluations while it trains, each of eval_episodes greedy episodes; the best
    policy is kept. None for no evaluation before the end."""

    checkpoint_seconds: float = 60.0
    """Save a checkpoint this often; one is saved at the end and on Ctrl-C in any case."""

    out: Path | None = None
    """New folder for the run; None for runs/<env>-<algorithm>-s<seed>."""

    def __post_init__(self) -> None:
        # JSON has lists and strings for these; frozen, so that a checked config stays checked.
        if isinstance(self.hidden_sizes, list):
            object.__setattr__(self, "hidden_sizes", tuple(self.hidden_sizes))
        if isinstance(self.out, str):
            object.__setattr__(self, "out", Path(self.out))
        for field in dataclasses.fields(self):
            object.__setattr__(self, field.name, _plain(getattr(self, field.name)))
        self._check()

    @classmethod
    def preset(cls, env_id: str, *, algorithm: str = "ppo-clip", **changes: Any) -> Self:
        """The tuned settings of an environment and algorithm, with some fields changed.

        An environment without settings of its own gets the defaults above.
        """
        from ppo_fast.presets import preset_fields

        fields = preset_fields(env_id, algorithm) | changes
        unknown = fields.keys() - {field.name for field in dataclasses.fields(cls)}
        if unknown:
            raise TypeError(f"TrainConfig has no field {', '.join(sorted(unknown))}")
        return cls(env_id=env_id, algorithm=algorithm, **fields)  # type: ignore[arg-type]

    @property
    def batch_size(self) -> int:
        """Samples of a rollout; the fewest of one, where reinforce plays on."""
        return self.num_envs * self.num_steps

    @property
    def rounded_steps(self) -> int:
        """total_steps rounded up to whole rollouts; reinforce, which plays on, may need more."""
        return -(-self.total_steps // self.batch_size) * self.batch_size

    @property
    def kl_bounds(self) -> tuple[float, float]:
        """KL_min and KL_max of ppo-kl."""
        width = 2.0 if self.kl_rule == "distributed" else 1.5
        return (
            self.kl_target / width if self.kl_min is None else self.kl_min,
            self.kl_target * width if self.kl_max is None else self.kl_max,
        )

    def to_json(self) -> dict[str, Any]:
        """The fields as JSON types; `from_json` undoes it."""
        fields = dataclasses.asdict(self)
        fields["out"] = None if self.out is None else str(self.out)
        fields["hidden_sizes"] = list(self.hidden_sizes)
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Self:
        """A config from what `to_json` gave; raises ValueError for anything else.

        Options that the algorithm does not take are the defaults again: older versions let them be
        set, to no effect.
        """
        try:
            ignored = _ignored(**fields)
            return cls(**{name: value for name, value in fields.items() if name not in ignored})
        except TypeError as error:
            raise ValueError(f"not the fields of a TrainConfig: {error}") from None

    def _check(self) -> None:
        self._check_type("env_id", str, "a string")
        self._check_env_kwargs()
        for name, kind in get_type_hints(type(self)).items():
            if kind is bool:
                self._check_type(name, bool, "True or False")
            elif get_origin(kind) is Literal:
                self._check_choice(name, get_args(kind))
        for name in _COUNTS:
            self._check_integer(name, 1)
        if self.total_steps >= 2**63:
            self._refuse("total_steps", "must be below 2**63")
        self._check_integer("seed", 0)
        if self.seed >= 2**64:
            self._refuse("seed", "must be below 2**64")
        self._check_integer("eval_episodes", 0)
        for name in ("num_threads", "eval_every"):
            if getattr(self, name) is not None:
                self._check_integer(name, 1)
        for name in ("gamma", "gae_lambda"):
            if not 0 <= self._number(name) <= 1:
                self._refuse(name, "must be in [0, 1]")
        for name in _POSITIVE:
            if not 0 < self._number(name) < math.inf:
                self._refuse(name, "must be positive")
        for name in _NOT_NEGATIVE:
            if not 0 <= self._number(name) < math.inf:
                self._refuse(name, "must not be negative")
        for name in _POSITIVE_OR_NONE:
            if getattr(self, name) is not None and not 0 < self._number(name) < math.inf:
                self._refuse(name, "must be positive or None")
        if not -20 <= self._number("log_std") <= 2:
            self._refuse("log_std", "must be in [-20, 2]")
        if self.dual_clip is not None and not 1 < self._number("dual_clip") < math.inf:
            self._refuse("dual_clip", "must be above 1 or None")
        if self.target_return is not None and math.isnan(self._number("target_return")):
            self._refuse("target_return", "must be a number or None")
        if self.encoder is not None:
            self._check_type("encoder", str, "a string or None")
            if not re.fullmatch(r"cnn|[\w.]+:\w+", self.encoder):
                self._refuse("encoder", "must be cnn, module:Class or None")
            names = re.split(r"[.:]", self.encoder)
            if "__main__" in names or not all(map(str.isidentifier, names)):
                rule = "must be of a module that whoever loads the run can import by that name"
                self._refuse("encoder", rule)
        self._check_type("hidden_sizes", tuple, "a tuple of integers")
        sizes = self.hidden_sizes
        if any(not isinstance(size, int) or isinstance(size, bool) or size < 1 for size in sizes):
            self._refuse("hidden_sizes", "must be positive integers")
        self._check_type("device", str, "a string")
        if not is_device(self.device):
            self._refuse("device", DEVICE_RULE)
        if self.out is not None:
            self._check_type("out", Path, "a path or None")
        self._check_together()

    def _check_together(self) -> None:
        """Rules of several fields."""
        for field in dataclasses.fields(self):
            takers = ALGORITHMS_OF.get(field.name, (self.algorithm,))
            value = getattr(self, field.name)
            if self.algorithm not in takers and value != field.default:
                raise ValueError(
                    f"TrainConfig: {self.algorithm} does not take {field.name}, got {value!r}; "
                    f"it is an option of {', '.join(takers)}"
                )
        if self.batch_size > MOST_SAMPLES:
            raise ValueError(
                f"TrainConfig: num_envs * num_steps must be at most {MOST_SAMPLES}, "
                f"got {self.batch_size}"
            )
        uses_minibatches = self.algorithm not in ("reinforce", "a2c")
        if uses_minibatches and self.minibatch_size > self.batch_size:
            raise ValueError(
                f"TrainConfig: minibatch_size ({self.minibatch_size}) must not exceed the samples "
                f"of a rollout, num_envs * num_steps = {self.num_envs} * {self.num_steps} = "
                f"{self.batch_size}"
            )
        kl_min, kl_max = self.kl_bounds
        if kl_min >= kl_max:
            raise ValueError(f"TrainConfig: kl_min ({kl_min:g}) must be below kl_max ({kl_max:g})")
        is_distributed = self.algorithm == "ppo-kl" and self.kl_rule == "distributed"
        if is_distributed and self.target_kl is not None:
            raise ValueError(
                "TrainConfig: kl_rule distributed ends the epochs of an update by itself, above "
                "4 kl_target; leave out target_kl or choose another kl_rule"
            )
        if self.eval_every is not None and self.eval_episodes == 0:
            raise ValueError("TrainConfig: eval_every needs eval_episodes, got 0 of them")
        if self.algorithm == "trpo" and self.shared_trunk:
            raise ValueError(
                "TrainConfig: trpo needs a policy with parameters of its own: the critic is fitted "
                "between its steps; leave out shared_trunk"
            )
        if self.continuous == "gsde" and self.state_dependent_std:
            raise ValueError(
                "TrainConfig: the noise of gsde depends on the state by itself; leave out "
                "state_dependent_std or choose another distribution"
            )

    def _check_env_kwargs(self) -> None:
        self._check_type("env_kwargs", dict, "a dict")
        for name in self.env_kwargs:
            if not isinstance(name, str):
                self._refuse("env_kwargs", "must have strings as names", TypeError)
            if name in _NOT_FOR_ENVS:
                raise ValueError(
                    f"TrainConfig: env_kwargs must not have {name}: {_NOT_FOR_ENVS[name]}"
                )
        try:
            kept = json.loads(json.dumps(self.env_kwargs))
        except (TypeError, ValueError) as error:
            raise TypeError(
                f"TrainConfig: env_kwargs must have values that JSON can hold: {error}; "
                "register an id for others (docs/envs.md)"
            ) from None
        object.__setattr__(self, "env_kwargs", kept)  # as a run that goes on has it

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            self._refuse(name, f"must be one of {', '.join(choices)}")

    def _check_type(self, name: str, kind: type, description: str) -> None:
        if not isinstance(getattr(self, name), kind):
            self._refuse(name, f"must be {description}", TypeError)

    def _check_integer(self, name: str, least: int) -> None:
        value = getattr(self, name)
        if not isinstance(value, int) or isinstance(value, bool):
            self._refuse(name, "must be an integer", TypeError)
        if value < least:
            self._refuse(name, f"must be at least {least}")
        if name.endswith("threads") and value > MOST_THREADS:
            self._refuse(name, f"must be at most {MOST_THREADS}")

    def _number(self, name: str) -> float:
        value = getattr(self, name)
        if not isinstance(value, (int, float)) or isinstance(value, bool):
            self._refuse(name, "must be a number", TypeError)
        return float(value)

    def _refuse(self, name: str, rule: str, error: type[Exception] = ValueError) -> NoReturn:
        raise error(f"TrainConfig: {name} {rule}, got {getattr(self, name)!r}")


def is_device(name: str) -> bool:
    """Whether a name meets `DEVICE_RULE`."""
    return re.fullmatch(r"cpu|cuda(:\d+)?", name) is not None


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, which JSON can hold; in a tuple or dict, too."""
    if isinstance(value, tuple):
        return tuple(map(_plain, value))
    if isinstance(value, dict):
        return {name: _plain(x) for name, x in value.items()}
    if isinstance(value, numbers.Integral) and not isinstance(value, (bool, int)):
        return int(value)
    if isinstance(value, numbers.Real) and not isinstance(value, (int, float)):
        return float(value)
    return value


def _ignored(
    algorithm: str = TrainConfig.algorithm, kl_rule: str = TrainConfig.kl_rule, **_: Any
) -> set[str]:
    """Names of the options that have no part in a run of the given fields."""
    names = {name for name, takers in ALGORITHMS_OF.items() if algorithm not in takers}
    if algorithm == "ppo-kl" and kl_rule == "distributed":
        names.add("target_kl")
    return names
