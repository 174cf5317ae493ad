"""Replacing functions of another library: explicit, reversible, and saying what was done."""

import logging
from types import TracebackType
from typing import Any, NamedTuple

_LOG = logging.getLogger("ppo_fast")
_applied: dict[str, "Patch"] = {}


class Target(NamedTuple):
    """One attribute to replace."""

    owner: Any
    """Module or class that holds it."""
    attribute: str
    replacement: Any

    def __str__(self) -> str:
        ours = f"{self.replacement.__module__}.{self.replacement.__qualname__}"
        return f"{self.place} -> {ours}"

    @property
    def place(self) -> str:
        """Where the attribute stands, e.g. `package.module.Class.method`."""
        owner = self.owner
        is_class = isinstance(owner, type)
        name = f"{owner.__module__}.{owner.__qualname__}" if is_class else owner.__name__
        return f"{name}.{self.attribute}"


class Patch:
    """Attributes of another library that are replaced until `undo`, or to the end of a `with`.

    `str(patch)` tells what was replaced by what; so does a record of the logger "ppo_fast".

    Raises
    ------
    ValueError
        If there is a patch of that name already.
    AttributeError
        If the library, in the version that is installed, lacks one of the attributes: nothing is
        touched then.
    """

    def __init__(self, name: str, targets: list[Target]) -> None:
        if name in _applied:
            raise ValueError(f"patch: {name!r} is patched already; call undo() of that patch first")
        self.name = name
        self.targets = targets
        self._originals = [_own_attribute(target) for target in targets]
        for target in targets:
            setattr(target.owner, target.attribute, target.replacement)
        _applied[name] = self
        _LOG.info("%s", str(self))  # what is so now, whenever the record is formatted

    def undo(self) -> None:
        """Put the originals back; a second call does nothing.

        Raises
        ------
        RuntimeError
            If somebody else has replaced one of the attributes since: nothing is touched then.
        """
        if _applied.get(self.name) is not self:
            return
        for target in self.targets:
            if vars(target.owner).get(target.attribute) is not target.replacement:
                raise RuntimeError(
                    f"patch: {target} has been replaced again since; undo that replacement first"
                )
        for target, original in zip(self.targets, self._originals, strict=True):
            setattr(target.owner, target.attribute, original)
        del _applied[self.name]
        _LOG.info("%s: undone", self.name)

    def __enter__(self) -> "Patch":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.undo()

    def __str__(self) -> str:
        state = "patched" if _applied.get(self.name) is self else "not patched"
        return "\n".join([f"{self.name}: {state}", *(f"  {target}" for target in self.targets)])

    __repr__ = __str__


def _own_attribute(target: Target) -> Any:
    """What stands in the owner itself, descriptors (staticmethod) included."""
    try:
        return vars(target.owner)[target.attribute]
    except KeyError:
        raise AttributeError(
            f"patch: there is no {target.place}; ppo_fast does not know this version of the library"
        ) from None
