"""Methods that are derived from other methods by hand, and what replaces them in a subclass.

A hand-written formula, such as the force of a squared error, is right only for the function it was derived from. Its class declares
that: ``@derived_from("value")``. If a subclass overrides ``value`` and not the formula, the formula is *stale* there, and the next
definition in the method resolution order replaces it: the base class's, which computes the same from ``value`` by autograd, or
raises and says what else to override.
"""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

__all__ = ["derived_from", "replace_stale"]

Method = TypeVar("Method", bound=Callable[..., Any])

_SOURCES = "_derived_from"
_REPLACED = "_replaced_names"


def derived_from(*sources: str) -> Callable[[Method], Method]:
    """Declare the methods that a method was derived from."""

    def mark(method: Method) -> Method:
        setattr(method, _SOURCES, sources)
        return method

    return mark


def replace_stale(cls: type, values: Mapping[str, str] | None = None) -> None:
    """Replace what ``cls`` inherits and invalidates by the next definition that is valid; call from ``__init_subclass__``.

    Args:
        cls: the class that has just been defined.
        values: class attributes that are derived too, each with the method that it is a property of.

    Raises:
        TypeError: if ``cls`` overrides a method that is marked as `typing.final`.
    """
    for name in vars(cls):
        owner = next((c for c in cls.__mro__[1:] if name in vars(c)), None)
        if owner is not None and getattr(_function(vars(owner)[name]), "__final__", False):
            raise TypeError(f"`{name}` of {owner.__name__} cannot be overridden, as {cls.__name__} does")
    derived = {name for c in cls.__mro__ for name, member in vars(c).items() if hasattr(member, _SOURCES)}
    sources = {
        name: {c: getattr(vars(c)[name], _SOURCES, ()) for c in cls.__mro__ if _defines(c, name)} for name in derived
    }
    for name, source in (values or {}).items():
        sources[name] = {c: (source,) for c in cls.__mro__ if _defines(c, name)}
    replaced = {}
    for name, definitions in sources.items():
        chosen = _first_valid(cls, definitions)
        if chosen is not next(c for c in cls.__mro__ if name in vars(c)):
            replaced[name] = vars(chosen)[name]
    for name, member in replaced.items():
        setattr(cls, name, member)
    setattr(cls, _REPLACED, frozenset(replaced))


def _first_valid(cls: type, definitions: Mapping[type, tuple[str, ...]]) -> type:
    """Return the first class whose definition no subclass of it made stale; ``definitions`` maps classes to the sources."""
    rank = {c: n for n, c in enumerate(cls.__mro__)}

    def is_valid(owner: type) -> bool:
        overrides = (c for c in cls.__mro__[: rank[owner]] for source in definitions[owner] if _defines(c, source))
        return next(overrides, None) is None

    return next((c for c in definitions if is_valid(c)), [*definitions][-1])


def _defines(c: type, name: str) -> bool:
    """Return whether the class's own body defines the name: what was put there in place of a stale method does not count."""
    return name in vars(c) and name not in vars(c).get(_REPLACED, ())


def _function(member: object) -> object:
    """Return the function behind a property."""
    return member.fget if isinstance(member, property) else member
