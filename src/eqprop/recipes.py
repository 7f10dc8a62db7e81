"""Deprecated: recipes live in `eqprop.papers`."""

from typing import Any
from warnings import warn

__all__: list[str] = []


def __getattr__(name: str) -> Any:
    """Return the attribute of `eqprop.papers`, with a deprecation warning."""
    from eqprop import papers

    if name.startswith("__") or not hasattr(papers, name):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(f"`eqprop.recipes.{name}` is deprecated: use `eqprop.papers.{name}`", DeprecationWarning, stacklevel=2)
    return getattr(papers, name)
