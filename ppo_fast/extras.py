"""Optional dependencies: one message for whoever lacks one."""

import importlib
from types import ModuleType


def require(module: str, extra: str = "train") -> ModuleType:
    """Import an optional dependency.

    Raises
    ------
    ModuleNotFoundError
        With the command that installs it, e.g. `pip install "ppo-fast[train]"`.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise
        raise ModuleNotFoundError(
            f'{error.name} is not installed: pip install "ppo-fast[{extra}]"', name=error.name
        ) from None


def require_train() -> None:
    """Refuse to train without the packages of the extra `train`, before anything is written."""
    for module in ("torch", "tensorboard", "matplotlib", "rich"):
        require(module)
