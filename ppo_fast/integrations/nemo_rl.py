"""GAE for NeMo-RL: its estimator's `_compute_gae`, computed by `ppo_fast.token_gae`.

    ppo_fast.integrations.patch("nemo_rl")

before training. Whitening is left to NeMo-RL.
"""

from typing import Any

from torch import Tensor

from ppo_fast.advantage import token_gae
from ppo_fast.integrations.loading import load
from ppo_fast.integrations.patching import Target


def compute_gae(
    token_level_rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gae_gamma: float,
    gae_lambda: float | Tensor,
) -> tuple[Tensor, Tensor]:
    """Advantages and returns of `GeneralizedAdvantageEstimator._compute_gae`.

    Tokens outside the mask are skipped: the ones around them are neighbours. NeMo-RL gives them the
    advantage of the token that follows, and 0 later on; here they get advantage 0 and the value as
    return. A mask of other weights than 0 and 1 counts every token that is not 0.

    Parameters
    ----------
    token_level_rewards, values
        [B, L], floating-point.
    mask
        [B, L], 0 and 1: tokens that count.
    gae_gamma
        In [0, 1].
    gae_lambda
        In [0, 1]: one number, or [B], one for each sequence (VAPO), which are not checked on a CUDA
        device.

    Returns
    -------
    tuple[Tensor, Tensor]
        Advantages and returns [B, L].

    Raises
    ------
    ValueError
        For a wrong shape, tensors on several devices or a factor outside [0, 1].
    """
    if isinstance(gae_lambda, Tensor):
        gae_lambda = gae_lambda.double() if values.dtype.itemsize == 8 else gae_lambda.float()
    advantages, returns = token_gae(
        token_level_rewards, values, mask=mask != 0, gamma=gae_gamma, gae_lambda=gae_lambda
    )
    return advantages, returns


def _compute_gae(
    self: Any,
    token_level_rewards: Tensor,
    values: Tensor,
    mask: Tensor,
    gae_lambda: float | Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    own = self.gae_lambda if gae_lambda is None else gae_lambda
    return compute_gae(token_level_rewards, values, mask, self.gae_gamma, own)


def targets() -> list[Target]:
    """What `patch("nemo_rl")` replaces: one method of its GAE estimator."""
    package = "git+https://github.com/NVIDIA-NeMo/RL"
    estimators = load("nemo_rl.algorithms.advantage_estimator", package)
    return [Target(estimators.GeneralizedAdvantageEstimator, "_compute_gae", _compute_gae)]
