"""Old names of public functions, classes and keyword arguments: they still work, with a `DeprecationWarning`."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, TypeVar
from warnings import warn

__all__ = ["former_names", "renamed_arguments"]

F = TypeVar("F", bound=Callable[..., Any])


def former_names(module: str, namespace: Mapping[str, Any], names: Mapping[str, str]) -> Callable[[str], Any]:
    """Return a module's ``__getattr__`` that resolves old names.

    Args:
        module: name of the module.
        namespace: its ``globals()``.
        names: new name by old name.
    """

    def getattr_(name: str) -> Any:
        if name not in names:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        warn(f"`{module}.{name}` is deprecated: use `{names[name]}`", DeprecationWarning, stacklevel=2)
        return namespace[names[name]]

    return getattr_


def renamed_arguments(**names: str) -> Callable[[F], F]:
    """Return a decorator for a function or a class that accepts keyword arguments under their old names.

    Args:
        **names: new name by old name.
    """

    def decorate(function: F) -> F:
        target: Any = function.__init__ if isinstance(function, type) else function

        @wraps(target)
        def call(*args: Any, **kwargs: Any) -> Any:
            for old in names.keys() & kwargs.keys():
                warn(f"argument `{old}` is deprecated: use `{names[old]}`", DeprecationWarning, stacklevel=2)
                if names[old] in kwargs:
                    raise TypeError(f"got both `{names[old]}` and its old name `{old}`")
                kwargs[names[old]] = kwargs.pop(old)
            return target(*args, **kwargs)

        if isinstance(function, type):
            function.__init__ = call  # type: ignore[misc]
            return function  # type: ignore[return-value]
        return call  # type: ignore[return-value]

    return decorate
