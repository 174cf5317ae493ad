"""What a distribution refuses during training is no mistake of the caller's."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def as_divergence() -> Iterator[None]:
    """What a distribution refuses here is what the networks gave: they have diverged."""
    try:
        yield
    except ValueError as error:
        raise FloatingPointError(str(error)) from None
