"""Deprecated: recipes live in `eqprop.papers`."""

from typing import Any
from warnings import warn

__all__: list[str] = []

_RENAMED = {"published": "published_errors", "surrogate": "surrogate_baseline"}


def __getattr__(name: str) -> Any:
    """Return the attribute of `eqprop.papers`, with a deprecation warning."""
    from eqprop import papers

    new = _RENAMED.get(name, name)
    if name.startswith("__") or not hasattr(papers, new):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warn(f"`eqprop.recipes.{name}` is deprecated: use `eqprop.papers.{new}`", DeprecationWarning, stacklevel=2)
    return getattr(papers, new)
