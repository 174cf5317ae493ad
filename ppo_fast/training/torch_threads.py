"""torch's thread count, set for a while: its operators' bits depend on it."""

from collections.abc import Iterator
from contextlib import contextmanager

from ppo_fast.extras import require


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """Give torch this many threads, and the caller's number back afterwards."""
    torch = require("torch")
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
