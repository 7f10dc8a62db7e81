"""Conversion of frozen dataclasses to JSON and back: a class is stored by name, and only classes of a given list are created."""

import json
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from difflib import get_close_matches
from inspect import signature
from typing import Any

from eqprop._core.fields import LATER, LOCAL
from eqprop._core.files import parse_json
from eqprop.activations import ACTIVATIONS, Activation

__all__ = ["decode", "encode", "from_json", "to_json"]


FORMER_CLASSES = {"Normalise": "Normalize", "QuantisedSGD": "QuantizedSGD"}
"""Current class names, by the names in files of the first release."""

FORMER_VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {"SurrogateBPTT": ("BPTT", {"surrogate": True})}
"""Classes in files written before they became values of another class: its name, and the fields that they add."""

FORMER_FIELDS = {"normalise": "normalize", "optimiser": "optimizer"}
"""Current field names, by the names in files of the first release."""

MAX_LISTED = 12
"""Largest number of classes that an error lists by name."""


def to_json(value: object, kinds: tuple[type, ...]) -> str:
    """Return `encode` of a value as indented JSON text with a final newline."""
    return json.dumps(encode(value, kinds), indent=2, allow_nan=False) + "\n"


def from_json(text: str, kinds: tuple[type, ...]) -> Any:
    """Return the object that `to_json` wrote.

    Raises:
        ValueError: if the text is not JSON, or names an unknown class or field.
    """
    try:
        return decode(parse_json(text), kinds)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def encode(value: object, kinds: tuple[type, ...]) -> Any:
    """Return a value as dictionaries, lists, numbers and strings.

    Raises:
        ValueError: if it contains an object of a class that is not in ``kinds``.
    """
    if isinstance(value, Activation) and ACTIVATIONS.get(value.name) is value:
        return value.name
    if type(value) in kinds:
        return {"type": type(value).__name__} | {
            name: encode(getattr(value, name), kinds) for name in _stored_fields(value)
        }
    if isinstance(value, tuple | list):
        return [encode(item, kinds) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    raise ValueError(
        f"a file cannot store {value!r}: a run takes {', '.join(kind.__name__ for kind in kinds)} and activations by name; "
        "for anything else use `Trainer`"
    )


def decode(value: Any, kinds: tuple[type, ...]) -> Any:
    """Return the object that `encode` was given; lists become tuples.

    Raises:
        ValueError: if a class or a field is unknown, or a value is not valid for its class.
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
        some = ", ".join(known) if len(known) <= MAX_LISTED else f"the {len(known)} classes of configurations"
        raise ValueError(f"unknown type {value.get('type')!r}: must be one of {some}{hint}")
    given: dict[Any, Any] = {
        FORMER_FIELDS.get(name, name): decode(item, kinds) for name, item in value.items() if name != "type"
    } | extra
    for name in given:
        if name not in _field_names(kind):
            near = get_close_matches(name, _field_names(kind), 1)
            hint = f"; did you mean {near[0]!r}?" if near else f": it has {', '.join(_field_names(kind))}"
            raise ValueError(f"{kind.__name__} has no field {name!r}{hint}")
    try:
        return kind(**given)
    except TypeError as error:
        raise ValueError(f"{kind.__name__}: {error}") from None


def _stored_fields(value: Any) -> list[str]:
    """Return the fields of an object that are written: later additions only if they differ from their default."""
    later = {f.name: f.default for f in fields(value) if f.metadata.get(LATER)} if is_dataclass(value) else {}
    return [name for name in _field_names(type(value)) if name not in later or getattr(value, name) != later[name]]


def _field_names(kind: type) -> list[str]:
    """Return the fields of a class that a file may have."""
    if is_dataclass(kind):
        return [field.name for field in fields(kind) if not field.metadata.get(LOCAL)]
    return list(signature(kind).parameters)
