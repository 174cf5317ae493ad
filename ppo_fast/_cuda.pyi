# The kernels for CUDA devices. Arguments are checked here, in C++ (csrc/*/cuda_bind.cpp);
# documentation is at the Python functions that call these.
from collections.abc import Callable
from typing import Any

toolkit: str
architectures: str

def devices() -> tuple[int, str]: ...
def use_tensors(
    tensor: type,
    empty: Callable[[tuple[int, ...], tuple[int, ...], Any, int], Any],
    empty_here: Callable[[tuple[int, ...], tuple[int, ...], Any], Any] | None,
    dtypes: tuple[Any, ...],
) -> None: ...
def advantage(
    function: str,
    given: tuple[Any, ...],
) -> Any: ...
def load_env(path: str) -> None: ...
def find_env(name: str) -> Any: ...
def step_env(env: Any, batch: tuple[Any, ...], given: tuple[Any, ...]) -> None: ...
def loss(
    function: str,
    form: tuple[Any, ...],
    given: tuple[Any, ...],
    settings: tuple[Any, ...],
) -> list[Any]: ...
def sample(
    dist: tuple[Any, ...],
    noise: tuple[Any, ...] | None,
    seed: int,
    first_id: int,
    step: Any,
    deterministic: bool,
    actions: Any,
    logp: Any,
    entropy: Any,
) -> tuple[Any, Any, Any]: ...
def evaluate(dist: tuple[Any, ...], actions: Any) -> tuple[Any, Any]: ...
def evaluate_backward(
    dist: tuple[Any, ...], actions: Any, logp_gradient: Any, entropy_gradient: Any
) -> tuple[Any, Any]: ...
def kl(old: tuple[Any, ...], dist: tuple[Any, ...]) -> Any: ...
def kl_backward(old: tuple[Any, ...], dist: tuple[Any, ...], gradient: Any) -> tuple[Any, Any]: ...
