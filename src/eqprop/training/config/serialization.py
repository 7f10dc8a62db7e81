"""Frozen choices to JSON and back: an object becomes its class's name and its fields, and only named classes come back."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from inspect import signature
from typing import Any

from eqprop._core.fields import LATER, LOCAL
from eqprop.activations import ACTIVATIONS, Activation

__all__ = ["decode", "encode", "from_json", "to_json"]


FORMER_CLASSES = {"Normalise": "Normalize", "QuantisedSGD": "QuantizedSGD"}
"""Names of classes in files written before they were renamed."""

FORMER_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"SurrogateBPTT": ("BPTT", {"surrogate": True})}
"""Classes in files written before they became values of another class: its name, and the fields that they add."""

FORMER_FIELDS = {"normalise": "normalize", "optimiser": "optimizer"}
"""Names of fields in files written before they were renamed."""

FEW = 12
"""So many classes are listed by name in an error."""


def to_json(value: object, kinds: tuple[type, ...]) -> str:
    """`encode`, as indented JSON text with a final newline."""
    return json.dumps(encode(value, kinds), indent=2, allow_nan=False) + "\n"


def from_json(text: str, kinds: tuple[type, ...]) -> Any:
    """The object that `to_json` wrote.

    Raises:
        ValueError: if the text is not JSON, or names a class or a field that is not known.
    """
    try:
        return decode(json.loads(text, parse_constant=refuse), kinds)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def refuse(constant: str) -> None:
    """NaN and the infinities are no JSON."""
    raise ValueError(f"{constant} is not a number that a configuration may hold")


def encode(value: object, kinds: tuple[type, ...]) -> Any:
    """Dictionaries, lists, numbers and strings that stand for ``value``.

    Raises:
        ValueError: if it holds an object of a class that is not among ``kinds``.
    """
    if isinstance(value, Activation) and ACTIVATIONS.get(value.name) is value:
        return value.name
    if type(value) in kinds:
        return {"type": type(value).__name__} | {name: encode(getattr(value, name), kinds) for name in written(value)}
    if isinstance(value, tuple | list):
        return [encode(item, kinds) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"a file cannot carry {value!r}: a run takes {', '.join(kind.__name__ for kind in kinds)} and activations by name; "
        "for anything else use `Trainer`"
    )


def decode(value: Any, kinds: tuple[type, ...]) -> Any:
    """The object that `encode` made ``value`` from; lists become tuples.

    Raises:
        ValueError: if a class or a field is not known, or a value is not what its class takes.
    """
    if isinstance(value, list):
        return tuple(decode(item, kinds) for item in value)
    if not isinstance(value, Mapping):
        return value
    known = {k.__name__: k for k in kinds}
    named = str(value.get("type"))
    current, extra = FORMER_VARIANTS.get(named, (FORMER_CLASSES.get(named, named), {}))
    kind = known.get(current)
    if kind is None:
        near = get_close_matches(str(value.get("type")), known, 1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        some = ", ".join(known) if len(known) <= FEW else f"the {len(known)} classes of configurations"
        raise ValueError(f"unknown type {value.get('type')!r}: must be one of {some}{hint}")
    given: dict[Any, Any] = {
        FORMER_FIELDS.get(name, name): decode(item, kinds) for name, item in value.items() if name != "type"
    } | extra
    for name in given:
        if name not in names(kind):
            near = get_close_matches(name, names(kind), 1)
            hint = f"; did you mean {near[0]!r}?" if near else f": it has {', '.join(names(kind))}"
            raise ValueError(f"{kind.__name__} has no field {name!r}{hint}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def written(value: Any) -> list[str]:
    """The fields that an object's file has."""
    later = {f.name: f.default for f in fields(value) if f.metadata.get(LATER)} if is_dataclass(value) else {}
    return [name for name in names(type(value)) if name not in later or getattr(value, name) != later[name]]


def names(kind: type) -> list[str]:
    """The fields that a file may have."""
    if is_dataclass(kind):
        return [field.name for field in fields(kind) if not field.metadata.get(LOCAL)]
    return list(signature(kind).parameters)
