# The kernels for CUDA devices. Arguments are checked here, in C++ (csrc/*/cuda_bind.cpp);
# documentation is at the Python functions that call these.
from collections.abc import Callable
from typing import Any

toolkit: str
architectures: str

def devices() -> tuple[int, str]: ...
def advantage(
    exchange_api: Any,
    function: str,
    given: tuple[Any, ...],
    empty_like: Callable[[Any], Any],
    new_out: Callable[[str, tuple[Any, ...]], Any],
) -> Any: ...
def load_env(path: str) -> None: ...
def find_env(name: str) -> Any: ...
def step_env(
    exchange_api: Any, env: Any, batch: tuple[Any, ...], given: tuple[Any, ...]
) -> None: ...
def loss(
    exchange_api: Any,
    function: str,
    form: tuple[Any, ...],
    given: tuple[Any, ...],
    settings: tuple[Any, ...],
    outputs: tuple[Any, ...],
    scratch: Callable[[int], Any],
) -> None: ...
def sample(
    exchange_api: Any,
    dist: tuple[Any, ...],
    noise: tuple[Any, ...] | None,
    seed: int,
    first_id: int,
    step: Any,
    deterministic: bool,
    results: tuple[Any, ...],
    scratch: Callable[[int], Any],
) -> None: ...
def evaluate(
    exchange_api: Any,
    dist: tuple[Any, ...],
    actions: Any,
    results: tuple[Any, ...],
    scratch: Callable[[int], Any],
) -> None: ...
def evaluate_backward(
    exchange_api: Any,
    dist: tuple[Any, ...],
    actions: Any,
    logp_gradient: Any,
    entropy_gradient: Any,
    results: tuple[Any, ...],
    scratch: Callable[[int], Any],
) -> None: ...
def kl(
    exchange_api: Any,
    old: tuple[Any, ...],
    dist: tuple[Any, ...],
    result: Any,
    scratch: Callable[[int], Any],
) -> None: ...
def kl_backward(
    exchange_api: Any,
    old: tuple[Any, ...],
    dist: tuple[Any, ...],
    gradient: Any,
    results: tuple[Any, ...],
    scratch: Callable[[int], Any],
) -> None: ...
