"""What a fault is."""

from dataclasses import dataclass

__all__ = ["Mutant"]


@dataclass(frozen=True)
class Mutant:
    """Replace the one occurrence of ``old`` in ``file`` by ``new``; ``tests`` must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str
