"""A pretend device: its tensors compute on the CPU, to the bit, and refuse what the tensors of a GPU refuse.

PyTorch calls it "meta", the name of a device without data, since it knows that name on every machine. Within
`pretend()` a tensor that is made on it, or moved to it, is a PretendTensor, which holds a tensor of the CPU. Then

- an operation on tensors of both devices is an error, but for a number (a tensor without dimensions) of the CPU;
- so are random numbers on the device from a generator of the CPU, and a view of it by NumPy;
- what a GPU allows, but waits for, is an error too: to index its tensors by some of the CPU.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning.pytorch.accelerators import Accelerator
from lightning.pytorch.strategies import SingleDeviceStrategy
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

from cmaml_pl import assembly

DEVICE = torch.device("meta", 1)


class MixedDevicesError(RuntimeError):
    """An operation got tensors of both devices."""


class PretendTensor(Tensor):
    """A tensor on the pretend device, whose numbers the tensor `held` has, on the CPU."""

    held: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl  # type: ignore[assignment]

    @staticmethod
    def __new__(cls: Any, held: Tensor) -> Any:
        """A tensor with the shape and the strides of `held`."""
        layout: Any = {"strides": held.stride(), "storage_offset": held.storage_offset(), "dtype": held.dtype}
        made = torch.Tensor._make_wrapper_subclass(cls, held.size(), **layout, device=DEVICE)
        made.held = held
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        """Compute an operation on such tensors where `pretend` is not active: in a thread, say."""
        return compute(func, args, kwargs or {})

    def tolist(self) -> Any:
        """PyTorch has it for a GPU's tensors, but for no subclass."""
        return self.held.tolist()

    def new_tensor(self, data: Any, *, dtype: torch.dtype | None = None) -> Tensor:  # type: ignore[override]
        """PyTorch's, which would leave out the numbers on "meta"."""
        return torch.tensor(data, dtype=dtype or self.dtype).to(DEVICE)

    def __repr__(self) -> str:  # type: ignore[override]
        return f"pretend {self.held!r}"


def compute(func: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """What an operation of PyTorch gives, computed on the CPU; a PretendTensor where it is on the pretend device."""
    given = list(_flat([args, list(kwargs.values())]))
    tensors = [x for x in given if isinstance(x, Tensor)]
    others = [x for x in tensors if not isinstance(x, PretendTensor)]
    mine, asked, writes = len(tensors) > len(others), kwargs.get("device"), func._schema.is_mutable
    if not mine and asked != DEVICE:
        return func(*args, **kwargs)
    target = args[0] if writes else None
    there = isinstance(target, PretendTensor) if isinstance(target, Tensor) else asked in (None, DEVICE)
    if mine and others and func._schema.name != "aten::copy_":
        # a GPU takes numbers of the CPU, but not in the lists of torch.cat and torch.stack
        alone = all(any(x is value for value in (*args, *kwargs.values())) for x in others)
        if not there or not alone or any(x.dim() or x.is_meta for x in others):
            raise MixedDevicesError(f"{func} got tensors of the device and of the CPU")
    if there and any(isinstance(x, torch.Generator) for x in given):
        raise MixedDevicesError(f"{func} draws on the device from a generator of the CPU")
    if asked == DEVICE:
        kwargs = {**kwargs, "device": torch.device("cpu")}
    result = func(*_each(_held, args), **{name: _each(_held, value) for name, value in kwargs.items()})
    if writes:
        return target if isinstance(target, Tensor) else result
    return _each(_made, result) if there else result


def _flat(values: Iterable[Any]) -> Iterator[Any]:
    for value in values:
        if isinstance(value, list | tuple):
            yield from _flat(value)
        else:
            yield value


def _each(function: Callable[[Any], Any], value: Any) -> Any:
    if type(value) in (list, tuple):
        return type(value)([_each(function, x) for x in value])
    return function(value)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, PretendTensor) else value


def _made(value: Any) -> Any:
    return PretendTensor(value) if isinstance(value, Tensor) else value


class _Operations(TorchDispatchMode):
    """Has every operation computed by `compute`, also one that makes a tensor."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return compute(func, args, kwargs or {})


class _Literals(TorchFunctionMode):
    """Lets torch.tensor and torch.as_tensor make tensors with numbers, which PyTorch leaves out on "meta"."""

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor) and kwargs.get("device") == DEVICE:
            del kwargs["device"]
            return func(*args, **kwargs).to(DEVICE)
        return func(*args, **kwargs)


class PretendAccelerator(Accelerator):
    """The pretend device as Lightning knows devices."""

    def setup_device(self, device: torch.device) -> None:
        """Nothing is needed."""

    def teardown(self) -> None:
        """Nothing is needed."""

    @staticmethod
    def parse_devices(devices: Any) -> int:
        """As many as are asked for."""
        return int(devices)

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        """The same for each process."""
        return [DEVICE] * int(devices)

    auto_device_count = staticmethod(lambda: 1)
    is_available = staticmethod(lambda: True)

    @staticmethod
    def name() -> str:
        """Of no accelerator that Lightning knows."""
        return "pretend"

    def get_device_stats(self, device: Any) -> dict[str, Any]:
        """None."""
        return {}


@contextmanager
def pretend() -> Iterator[None]:
    """Within the block the pretend device is there."""
    with _Literals(), _Operations():
        yield


@contextmanager
def trainers_use_it(monkeypatch: Any, strategy: Any = None) -> Iterator[None]:
    """Within the block trainers use the pretend device; `strategy` is that of several processes, None for one."""
    with monkeypatch.context() as patch, pretend():
        patch.setattr(assembly, "choose_accelerator", lambda **_: PretendAccelerator())
        patch.setattr(assembly, "choose_strategy", lambda *_, **__: strategy or SingleDeviceStrategy(DEVICE))
        yield
