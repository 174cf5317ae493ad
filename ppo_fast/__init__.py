"""PPO and the family it came from, with every hot loop in C++.

Three uses: train (`train`, `load`), drop fast advantages into other code (`gae`), and step many
environments at once (`make_vec`). Names are resolved on first use, so that `import ppo_fast` loads
neither torch nor Gymnasium.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from ppo_fast import (
        advantage,
        algorithms,
        bench,
        config,
        distributions,
        envs,
        integrations,
        learners,
        reference,
        rollout,
        surrogate,
        training,
    )
    from ppo_fast.advantage import (
        GAE,
        VTrace,
        discounted_returns,
        gae,
        lambda_returns,
        normalize,
        token_gae,
        valid_rows,
        vtrace,
    )
    from ppo_fast.config import TrainConfig
    from ppo_fast.distributions import (
        Bernoulli,
        Categorical,
        Gaussian,
        MultiCategorical,
        SquashedGaussian,
        StateDependentNoise,
    )
    from ppo_fast.envs import make_vec
    from ppo_fast.info import build_info
    from ppo_fast.surrogate import (
        clipped_surrogate,
        importance_surrogate,
        kl_penalty_surrogate,
        ppo_loss,
    )
    from ppo_fast.training import Policy, TrainResult, load, train

# Where each public name lives; a module's own name stands for the module.
_HOMES = {
    "Bernoulli": "distributions",
    "Categorical": "distributions",
    "GAE": "advantage",
    "Gaussian": "distributions",
    "MultiCategorical": "distributions",
    "Policy": "training",
    "SquashedGaussian": "distributions",
    "StateDependentNoise": "distributions",
    "TrainConfig": "config",
    "TrainResult": "training",
    "VTrace": "advantage",
    "build_info": "info",
    "clipped_surrogate": "surrogate",
    "discounted_returns": "advantage",
    "gae": "advantage",
    "importance_surrogate": "surrogate",
    "kl_penalty_surrogate": "surrogate",
    "lambda_returns": "advantage",
    "load": "training",
    "make_vec": "envs",
    "normalize": "advantage",
    "ppo_loss": "surrogate",
    "token_gae": "advantage",
    "train": "training",
    "valid_rows": "advantage",
    "vtrace": "advantage",
}
_MODULES = frozenset(
    {
        "advantage",
        "algorithms",
        "bench",
        "config",
        "distributions",
        "envs",
        "integrations",
        "learners",
        "reference",
        "rollout",
        "surrogate",
        "training",
    }
)

__all__ = [
    "GAE",
    "Bernoulli",
    "Categorical",
    "Gaussian",
    "MultiCategorical",
    "Policy",
    "SquashedGaussian",
    "StateDependentNoise",
    "TrainConfig",
    "TrainResult",
    "VTrace",
    "__version__",
    "advantage",
    "algorithms",
    "bench",
    "build_info",
    "clipped_surrogate",
    "config",
    "discounted_returns",
    "distributions",
    "envs",
    "gae",
    "importance_surrogate",
    "integrations",
    "kl_penalty_surrogate",
    "lambda_returns",
    "learners",
    "load",
    "make_vec",
    "normalize",
    "ppo_loss",
    "reference",
    "rollout",
    "surrogate",
    "token_gae",
    "train",
    "training",
    "valid_rows",
    "vtrace",
]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _HOMES:
        value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
        globals()[name] = value
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
