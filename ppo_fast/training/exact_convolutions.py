"""Convolutions of a run on a GPU: the same bits from the same seed, and float32 that is float32."""

from collections.abc import Iterator
from contextlib import contextmanager

from ppo_fast.extras import require


@contextmanager
def exact_convolutions() -> Iterator[None]:
    """Let cuDNN take algorithms by shape, without atomics or tf32; the caller's settings come back.

    `torch.backends.cudnn.flags` fails where a program has settled the precision of convolutions.
    """
    cudnn = require("torch").backends.cudnn
    settings = (
        (cudnn, "benchmark", False),
        (cudnn, "deterministic", True),
        (cudnn.conv, "fp32_precision", "ieee"),
        (cudnn.rnn, "fp32_precision", "ieee"),
    )
    before = [(of, name, getattr(of, name)) for of, name, _ in settings]
    try:
        for of, name, value in settings:
            setattr(of, name, value)
        yield
    finally:
        for of, name, value in before:
            setattr(of, name, value)
