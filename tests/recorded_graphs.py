"""What a CUDA graph is, without a GPU: the operations of one call, run again on the same tensors.

`recorded` puts a recorder in the place of the capture of `ppo_fast.cuda_graphs`. The operators of
torch and the functions of the extension that a call starts are written down with their tensors;
`replay` starts them again and runs no Python of the call. So a number that is read from Python
instead of from memory stays what it was, a tensor that has been replaced is missed, and a look at a
number on the device is an error, as it is in a capture.
"""

import dataclasses

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import ppo_fast.cuda
from ppo_fast.cuda_graphs import Graphs

# Operators whose results or shapes a device must be waited for, or that copy from the host.
FORBIDDEN = (
    "_local_scalar_dense",
    "nonzero",
    "masked_select",
    "unique",
    "lift_fresh",
    "equal",
    "is_pinned",
    "_pin_memory",
)
# Functions that leave or enter the device without an operator, where both are the CPU.
FORBIDDEN_FUNCTIONS = frozenset(
    {"numpy", "tolist", "item", "cpu", "cuda", "tensor", "as_tensor", "from_numpy", "pin_memory"}
    | {"__bool__", "__int__", "__float__", "__index__"}
)


# Modules of objects whose attributes a call may write to.
OPENED = ("ppo_fast", "torch", "test_")


class NotCapturable(AssertionError):
    """What a capture would refuse, or get wrong without a word."""


class _Watch(TorchFunctionMode):
    def __torch_function__(self, function, types, args=(), kwargs=None):
        name = getattr(function, "__name__", "")
        enters = name != "as_tensor" or not isinstance(args[0], torch.Tensor)
        if name in FORBIDDEN_FUNCTIONS and enters:
            raise NotCapturable(f"{name} waits for the device, or copies from the host")
        return function(*args, **(kwargs or {}))


class _Recorder(TorchDispatchMode):
    def __init__(self, calls):
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name.removeprefix("aten::")
        if name in FORBIDDEN:
            raise NotCapturable(f"{name} waits for the device, or copies from the host")
        if name == "index" and any(x is not None and x.dtype == torch.bool for x in args[1]):
            raise NotCapturable("a mask as an index: its length is on the device")
        results = function(*args, **kwargs)
        self.calls.append((function, args, kwargs, results))
        return results


@dataclasses.dataclass
class _Recording:
    """In the place of a torch.cuda.CUDAGraph."""

    calls: list

    def pool(self):
        return None

    def replay(self):
        with torch.no_grad():
            for function, args, kwargs, results in self.calls:
                again = function(*args, **kwargs)
                for old, new in zip(_tensors(results), _tensors(again), strict=True):
                    # Else it is a view, or has been written where it was told to be.
                    if old.untyped_storage().data_ptr() != new.untyped_storage().data_ptr():
                        old.copy_(new)


def _tensors(results):
    results = results if isinstance(results, (list, tuple)) else [results]
    return [x.detach() for x in results if isinstance(x, torch.Tensor)]


class _RecordingModule:
    """The extension, whose calls are written down as well."""

    def __init__(self, module, recorders):
        self._module = module
        self._recorders = recorders

    def __getattr__(self, name):
        function = getattr(self._module, name)

        def call(*args):
            # What it allocates by torch is no operator here.
            with torch.utils._python_dispatch._disable_current_modes():
                result = function(*args)
            for calls in self._recorders:
                calls.append((function, args, {}, result))
            return result

        return call if callable(function) else function


def recorded(monkeypatch):
    """Let graphs be recordings; returns the list of names that were captured."""
    recorders = []
    captured = []
    module = ppo_fast.cuda.kernels("a test")
    wrapped = _RecordingModule(module, recorders)
    monkeypatch.setattr(ppo_fast.cuda, "usable", lambda: (wrapped, ""))
    monkeypatch.setattr("ppo_fast.cuda_graphs.captures", lambda place: True)
    monkeypatch.setattr(Graphs, "_run_once", lambda self, function: function())

    def capture(self, function):
        captured.append(function.func.__name__)
        kept = _state(function)
        calls = []
        recorders.append(calls)
        try:
            with _Recorder(calls), _Watch():
                function()
        finally:
            recorders.remove(calls)
        for tensor, copy in kept:  # a capture runs nothing
            with torch.no_grad():
                tensor.copy_(copy)
        return _Recording(calls)

    monkeypatch.setattr(Graphs, "_captured", capture)
    return captured


def _state(function):
    """All tensors that a captured call may write to, with copies."""
    seen = {}
    queue = [function.func.__self__, *function.args]
    known = set()
    while queue:
        thing = queue.pop()
        if isinstance(thing, torch.Tensor):
            seen[thing.data_ptr(), thing.numel()] = thing.detach()
            if thing.grad is not None:
                queue.append(thing.grad)
        elif isinstance(thing, dict):
            queue += thing.values()
        elif isinstance(thing, (list, tuple)):
            queue += thing
        elif type(thing).__module__.startswith(OPENED) and id(thing) not in known:
            known.add(id(thing))
            queue += getattr(thing, "__dict__", {}).values()
    return [(x, x.clone()) for x in seen.values()]
