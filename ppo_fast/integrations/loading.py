"""Modules of other libraries, which are imported only to be patched."""

import importlib
from types import ModuleType


def load(module: str, how: str) -> ModuleType:
    """Import a module of a library.

    Parameters
    ----------
    module
        Its full name.
    how
        What to do for want of it, e.g. `pip install skrl`.

    Raises
    ------
    ModuleNotFoundError
        If there is no such module, saying how to get it.
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise
        raise ModuleNotFoundError(
            f"there is no module {error.name}; {how}", name=error.name
        ) from None
