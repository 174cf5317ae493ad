"""Encoders are tried before they are trained: what would go wrong later, or unnoticed, is refused.

They are judged by what they do with rows that the environment could show, not by what they are made
of: dropout is a module, a function or a setting of another module, and with a rate of 0 it is fine.
"""

import traceback
from pathlib import Path

import torch
from torch import Tensor, nn

# Of the largest feature: what rounding may do, where rows are taken together or one by one.
_ROUNDING = 1e-3
# Whose lines are no place to look for a mistake in an encoder.
_NOT_THEIRS = tuple(str(Path(file).parent) for file in (torch.__file__, __file__))


class Unfit(ValueError):
    """What an encoder does that it must not, to be read after its name."""


def try_encoder(encoder: nn.Sequential, rows: Tensor) -> int:
    """Call an encoder on rows [B, size], and say how many features it gives.

    Its last module is the one that has an author.

    Raises
    ------
    Unfit
        If it cannot be trained.
    """
    features = _features(encoder, rows)  # first, as lazy modules are made by it
    module = encoder[-1]
    _check_parameters(module, features)
    before = _copy_of_state(module)
    with torch.no_grad():  # as when it acts
        again = _features(encoder, rows)
    for name, x in module.state_dict().items():
        if not torch.equal(x, before[name]):
            raise Unfit(
                f"changes {name} when it is called, so that a policy would be another one after it "
                "has acted; leave that out (LayerNorm and GroupNorm keep nothing)"
            )
    if not _is_close(again, features):
        raise Unfit(
            "gives other features for the same observations when it is called once more, so that "
            "an action would have another probability when it is learned from; leave out dropout, "
            "noise and memory"
        )
    with torch.no_grad():
        alone = [_features(encoder, row) for row in torch.split(rows, 1)]
    if not all(map(_is_close, alone, torch.split(features, 1))):
        raise Unfit(
            "gives other features for an observation alone than beside others, but batches are put "
            "together anew for every step; leave out what goes across them, such as batch "
            "normalisation"
        )
    return features.shape[1]


def require_forward_mode(encoder: nn.Module, rows: Tensor) -> None:
    """Raise Unfit if there is no derivative of it in forward mode (`TorchTrustRegion`)."""
    here = {name: p.detach() for name, p in encoder.named_parameters() if p.requires_grad}

    def features(parameters: dict[str, Tensor]) -> Tensor:
        found: Tensor = torch.func.functional_call(encoder, parameters, (rows,))
        return found

    try:
        if here:
            torch.func.jvp(features, (here,), (here,))
    except Exception as error:
        raise Unfit(
            f"cannot be trained by trpo: {words_of(error)}; choose another algorithm"
        ) from error


def words_of(error: BaseException) -> str:
    """Type and first line of an error in an encoder, and its last place outside of torch."""
    text = str(error).strip().partition("\n")[0]
    places = [
        f"{frame.filename}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if not frame.filename.startswith(_NOT_THEIRS)
    ]
    where = f" ({places[-1]})" if places else ""
    return f"{type(error).__name__}: {text}{where}"


def _features(encoder: nn.Module, rows: Tensor) -> Tensor:
    """What the encoder gives, if that can be features."""
    given = rows.clone()
    features = encoder(given)
    if not torch.equal(given, rows):
        raise Unfit("writes to the observations that it is given; work on a copy")
    words = (
        "must give features [B, F], a tensor of float32 where the observations are; for "
        f"B = {len(rows)} it gave "
    )
    if not isinstance(features, Tensor):
        raise Unfit(words + type(features).__name__)
    is_right = features.dtype == torch.float32 and features.device == rows.device
    if not is_right or features.ndim != 2 or len(features) != len(rows) or not features.numel():
        raise Unfit(words + f"{tuple(features.shape)}, {features.dtype} on {features.device}")
    if not torch.isfinite(features).all():
        raise Unfit("gives features that are not finite for observations of the space")
    return features


def _check_parameters(module: nn.Module, features: Tensor) -> None:
    for name, parameter in module.named_parameters():
        if parameter.dtype != torch.float32:
            raise Unfit(f"must have parameters of float32, got {parameter.dtype} of {name}")
    if any(p.requires_grad for p in module.parameters()) and not features.requires_grad:
        raise Unfit(
            "has parameters that no gradient reaches; leave out detach and no_grad in forward, or "
            "let them not require one"
        )


def _copy_of_state(module: nn.Module) -> dict[str, Tensor]:
    state = module.state_dict()
    for name, x in state.items():
        if not isinstance(x, Tensor):
            raise Unfit(
                f"must have a state_dict of tensors, as checkpoints hold, got {name}: "
                f"{type(x).__name__}; keep it in a buffer"
            )
    return {name: x.clone() for name, x in state.items()}


def _is_close(features: Tensor, expected: Tensor) -> bool:
    if features.shape != expected.shape:
        return False
    return bool((features - expected).abs().max() <= _ROUNDING * expected.abs().max())
