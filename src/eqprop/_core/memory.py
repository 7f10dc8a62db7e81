"""How much memory a piece of work needs: the peak of all tensors that are alive at once.

Every operation that torch carries out is watched while the work goes on, and every block of memory that it returns is counted from
there until the last tensor on it is gone, autograd's own included. So the number is exact, the same on every machine, and free of
what an allocator keeps in reserve; scratch space inside an operation, given back before that ends, is not in it. It holds for any
device. What was there before, such as weights and the batch, is not counted.
"""

import weakref
from collections.abc import Callable
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

__all__ = ["peak_bytes"]


def peak_bytes(work: Callable[[], object]) -> int:
    """The most bytes of new tensors that were alive at once while ``work()`` went on; what it returns is dropped at the end.

    >>> import torch
    >>> peak_bytes(lambda: torch.zeros(1000).sum())
    4004
    """
    with Ledger() as ledger:
        work()
    return ledger.peak


class Ledger(TorchDispatchMode):
    """Counts blocks of memory that operations return.

    Attributes:
        live: bytes that are alive.
        peak: the most there have been.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._sizes: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        for given in tree_leaves((args, kwargs)):
            self._note(given, new=False)
        result = func(*args, **(kwargs or {}))
        for found in tree_leaves(result):
            self._note(found, new=True)
        self.peak = max(self.peak, self.live)
        return result

    def _note(self, value: Any, *, new: bool) -> None:
        """Count the memory of a tensor that has not been seen yet; what is first seen as an argument was there before."""
        if not isinstance(value, Tensor):
            return
        block = value.untyped_storage()
        place = block._cdata
        if place not in self._sizes:
            self._sizes[place] = block.nbytes() if new else 0
            self.live += self._sizes[place]
            weakref.finalize(block, self._forget, place)

    def _forget(self, place: int) -> None:
        self.live -= self._sizes.pop(place, 0)
