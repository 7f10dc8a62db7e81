"""What a study is: a computation of a paper that is neither a theorem check nor a training, with its own section in the report."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, ClassVar

from eqprop.report import Table

__all__ = ["Progress", "Study"]

Progress = Callable[[int, int], object]
"""Callback with the work done so far and the total work."""


class Study(ABC):
    """A computation whose result is kept in a JSON file and shown as text, a table and a figure.

    Attributes:
        name: name of its files.
        title: title of its section and figure.
    """

    name: ClassVar[str]
    title: ClassVar[str]

    @property
    @abstractmethod
    def text(self) -> str:
        """The paragraph that explains table and figure, in Markdown."""

    @property
    @abstractmethod
    def key(self) -> list[str]:
        """Everything that determines the result; a recorded result with another key is not used."""

    @abstractmethod
    def compute(self, device: str, root: str | None, progress: Progress) -> dict[str, Any]:
        """Return the result in a form that JSON can hold.

        Args:
            device: where to compute.
            root: folder in which to look for data sets first.
            progress: called with the work done and the total work.
        """

    @abstractmethod
    def table(self, found: Mapping[str, Any]) -> Table:
        """Return the result as a table."""

    @abstractmethod
    def draw(self, found: Mapping[str, Any], path: Path) -> None:
        """Draw the result to ``path``, given without a file extension."""

    def summary(self, found: Mapping[str, Any]) -> Iterable[str]:
        """Return sentences for the summary at the top of the report; none by default."""
        return ()
