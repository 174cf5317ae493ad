"""Modules of other libraries, which are imported only to be patched."""

import importlib
from types import ModuleType


def load(module: str, package: str) -> ModuleType:
    """Import a module of a library.

    Parameters
    ----------
    module
        Its full name.
    package
        What pip installs it from.

    Raises
    ------
    ModuleNotFoundError
        With the command that installs the package, if there is no such module.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ModuleNotFoundError(
            f"there is no module {error.name}: pip install {package}", name=error.name
        ) from None
