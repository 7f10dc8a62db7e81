"""Checkpoints: tensors and JSON values in one safetensors file, written atomically; nothing is unpickled.

Safetensors has no checksum, so the file's metadata holds the SHA-256 of everything else in it.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eqprop._core.files import DamagedError, check_regular, parse_json, write_atomic

__all__ = [
    "DamagedError",
    "check_replaceable",
    "check_training_facts",
    "check_training_state",
    "load_optimizer",
    "load_scheduler",
    "load_weights",
    "model_state",
    "optimizer_state",
    "read",
    "read_facts",
    "scheduler_state",
    "write",
]

KEY = "eqprop"
"""The only key of the file's metadata: safetensors does not keep the order of several keys, and files must be reproducible."""

MODEL, OPTIMIZER = "model.", "optimizer."
"""Prefixes of the names of tensors."""

FORMER_OPTIMIZERS = {"Quantised": "Quantized"}
"""Current names of optimizer classes, by the names in files of the first release."""


def write(path: Path, tensors: Mapping[str, Tensor], facts: Mapping[str, Any]) -> None:
    """Write tensors and facts (JSON values) atomically.

    Raises:
        OSError: if the file cannot be written; a previous file is still there then.
    """
    from safetensors.torch import save

    stored = _unshared({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    note = json.dumps({"facts": facts, "sha256": _digest(stored, text)}, sort_keys=True)
    write_atomic(path, save(stored, metadata={KEY: note}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors, on the CPU, and the facts, and verify the SHA-256.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedError: if it is not what `write` wrote.
    """
    return _read(path, only_facts=False)


def read_facts(path: Path) -> dict[str, Any]:
    """Return the facts from the header of the file, without its tensors, whose SHA-256 is not verified.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedError: if it is not a checkpoint, or is truncated.
    """
    return _read(path, only_facts=True)[1]


def check_replaceable(path: Path) -> None:
    """Check that a checkpoint can be written.

    Raises:
        DamagedError: if a folder or a device is in its place.
    """
    if path.exists():
        check_regular(path)


def _read(path: Path, only_facts: bool) -> tuple[dict[str, Tensor], dict[str, Any]]:
    from safetensors import SafetensorError, safe_open

    if not path.exists():
        raise FileNotFoundError(f"no checkpoint at {path}")
    check_regular(path)
    try:
        with safe_open(path, framework="pt") as file:
            note = parse_json((file.metadata() or {})[KEY])
            facts, sha = dict(note["facts"]), note["sha256"]
            if only_facts:
                return {}, facts
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
            intact = sha == _digest(tensors, json.dumps(facts, sort_keys=True, allow_nan=False))
    except (SafetensorError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise DamagedError(f"{path} is not a checkpoint, or is damaged ({error})") from None
    if not intact:
        raise DamagedError(f"{path} is damaged: its content does not match the SHA-256 in its header")
    return tensors, facts


def _unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Clone tensors that share memory (a connection of two edges), which safetensors refuses."""
    names = Counter(tensor.data_ptr() for tensor in tensors.values())
    return {name: tensor.clone() if names[tensor.data_ptr()] > 1 else tensor for name, tensor in tensors.items()}


def _digest(tensors: dict[str, Tensor], text: str) -> str:
    """Return the SHA-256 of the text and of names, dtypes, shapes and bytes of the tensors."""
    sha = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


def check_training_state(tensors: Mapping[str, Tensor], facts: Mapping[str, Any], path: Path) -> None:
    """Check that a file holds the whole state of a training, as `Trainer.state_dict` returns it, and not weights alone.

    Raises:
        DamagedError: if a part is missing or has another type.
    """
    check_training_facts(facts, path)
    for name in ("tally", *(f"random.{part}" for part in ("torch", "epoch", "estimator"))):
        if name not in tensors:
            raise DamagedError(f"{path} is not the state of a training: its {name!r} is missing; restore the file")


def check_training_facts(facts: Mapping[str, Any], path: Path) -> None:
    """Check the JSON values as `check_training_state`."""
    for name, kinds in _FACTS.items():
        if name not in facts or not isinstance(facts[name], kinds) or isinstance(facts[name], bool):
            raise DamagedError(
                f"{path} is not the state of a training: its {name!r} is missing or damaged; restore the file"
            )


_FACTS: dict[str, tuple[type, ...]] = {
    "epoch": (int,),
    "batch": (int,),
    "counts": (list,),
    "config": (str, type(None)),
    "best": (dict, type(None)),
    "optimizer": (dict,),
    "spent": (int, float),
}
"""JSON values of a training's state, by type; "scheduler" may have any."""


def model_state(model: nn.Module) -> dict[str, Tensor]:
    """Return the model's tensors under the names of a checkpoint.

    Raises:
        FloatingPointError: if one is not finite.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FloatingPointError(f"parameter {name} is not finite: the training diverged; lower the learning rate")
    return {MODEL + name: tensor for name, tensor in state.items()}


def load_weights(model: nn.Module, tensors: Mapping[str, Any], source: str | Path) -> None:
    """Copy the weights of a checkpoint into the model.

    Args:
        model: the model.
        tensors: by the names of a checkpoint; those of other parts are ignored.
        source: the file, for errors.

    Raises:
        ValueError: if names or shapes differ from the model's.
    """
    state = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    there, here = ({name: tuple(tensor.shape) for name, tensor in s.items()} for s in (state, model.state_dict()))
    for name in there | here:
        if there.get(name) != here.get(name):
            shapes = f"{name} has shape {there.get(name)} in the file and {here.get(name)} in the model"
            raise ValueError(f"{source} holds the weights of another model: {shapes}")
    model.load_state_dict(state)


@dataclass(frozen=True)
class OptimizerState:
    """State of an optimizer, split into tensors and JSON values."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def optimizer_state(optimizer: Optimizer) -> OptimizerState:
    """Return the state of an optimizer whose values are tensors, numbers, strings and None."""
    state = optimizer.state_dict()
    tensors, numbers = {}, {}
    for index, values in state["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{OPTIMIZER}{index}.{name}"] = value
    kind = type(optimizer).__name__
    return OptimizerState(
        tensors, {"kind": kind, "groups": state["param_groups"], "numbers": numbers, "tensors": sorted(tensors)}
    )


def load_optimizer(optimizer: Optimizer, tensors: Mapping[str, Any], facts: Mapping[str, Any]) -> None:
    """Restore what `optimizer_state` returned.

    Raises:
        ValueError: if it belongs to another class of optimizer, or a part is missing.
    """
    missing = [name for name in ("kind", "groups", "numbers") if name not in facts]
    missing += [
        name for name in facts.get("tensors", ()) if name not in tensors
    ]  # files of early versions have no list
    if missing:
        raise DamagedError(f"the state of the optimizer is damaged: its {missing[0]!r} is missing")
    stored, kind = FORMER_OPTIMIZERS.get(facts["kind"], facts["kind"]), type(optimizer).__name__
    if stored != kind:
        raise ValueError(f"the checkpoint has the state of the optimizer {stored}, but the optimizer is {kind}")
    state: dict[int, dict[str, Any]] = {}
    for key, value in {**tensors, **facts["numbers"]}.items():
        if key.startswith(OPTIMIZER):
            index, name = key.removeprefix(OPTIMIZER).split(".", 1)
            state.setdefault(int(index), {})[name] = value
    try:
        groups = [group | _tuples(group) for group in facts["groups"]]
        optimizer.load_state_dict({"state": state, "param_groups": groups})
    except (ValueError, TypeError, KeyError) as error:
        raise DamagedError(f"the state of the optimizer does not fit the model: {error}") from None


def _tuples(group: dict[str, Any]) -> dict[str, Any]:
    """Return the items that JSON turned from tuples into lists, such as Adam's ``betas``, as tuples."""
    return {name: tuple(value) for name, value in group.items() if isinstance(value, list) and name != "params"}


def scheduler_state(scheduler: LRScheduler | None) -> Any:
    """Return the scheduler's state; None without a scheduler."""
    return None if scheduler is None else scheduler.state_dict()


def load_scheduler(scheduler: LRScheduler | None, facts: Any) -> None:
    """Restore what `scheduler_state` returned.

    Raises:
        ValueError: if only one of the checkpoint and the training has a scheduler.
    """
    if (scheduler is None) != (facts is None):
        has, lacks = ("training", "checkpoint") if facts is None else ("checkpoint", "training")
        raise ValueError(f"the {has} has a learning-rate scheduler and the {lacks} has none: use the same in both")
    if scheduler is not None:
        scheduler.load_state_dict(_restore_counters(facts, scheduler.state_dict()))


def _restore_counters(value: Any, like: Any) -> Any:
    """Turn JSON objects back into the Counters of a fresh state (milestones), whose integer keys JSON made strings."""
    if isinstance(like, Counter):
        return Counter({int(key): number for key, number in value.items()})
    if isinstance(like, dict):
        return {key: _restore_counters(item, like.get(key)) for key, item in value.items()}
    if isinstance(like, list) and len(like) == len(value):
        return [_restore_counters(item, other) for item, other in zip(value, like, strict=True)]
    return value
