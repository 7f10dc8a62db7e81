"""Peak memory of a computation, counted exactly and in the same way on every device.

A dispatch mode sees every operation of torch. It counts each storage that an operation returns, autograd's own included, until
the last tensor on that storage is freed. The peak is therefore independent of the machine and of the allocator's reserve. Not
counted are storages that existed before, such as weights and the batch, and scratch memory that an operation frees before it
returns.
"""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["StorageCounter", "peak_bytes"]


def peak_bytes(work: Callable[[], object]) -> int:
    """Return the largest number of bytes of new tensors alive at any moment of ``work()``; its result is dropped.

    >>> import torch
    >>> peak_bytes(lambda: torch.zeros(1000).sum())
    4004
    """
    with StorageCounter() as counter:
        work()
    return counter.peak


class StorageCounter(TorchDispatchMode):
    """Counts the bytes of the storages that operations return: alive now (``live``) and at most (``peak``)."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        # A storage that is first seen as an argument existed before: it is entered with size 0.
        for argument in tree_leaves((args, kwargs)):
            self._count(argument, new=False)
        result = func(*args, **(kwargs or {}))
        for output in tree_leaves(result):
            self._count(output, new=True)
        self.peak = max(self.peak, self.live)
        return result

    def _count(self, value: Any, *, new: bool) -> None:
        if not isinstance(value, Tensor):
            return
        storage = value.untyped_storage()
        key = storage._cdata
        if key not in self._sizes:
            self._sizes[key] = storage.nbytes() if new else 0
            self.live += self._sizes[key]
            weakref.finalize(storage, self._forget, key)

    def _forget(self, key: int) -> None:
        self.live -= self._sizes.pop(key, 0)
