"""Checkpoints: tensors and a few numbers in one safetensors file that is whole or absent; nothing is unpickled.

Safetensors carries no checksum, so the file's metadata holds the SHA-256 of everything else in it.
"""

import hashlib
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from eqprop._core.files import DamagedError, write_atomic

__all__ = [
    "DamagedError",
    "load_optimizer",
    "load_scheduler",
    "load_weights",
    "optimizer_state",
    "read",
    "scheduler_state",
    "weights",
    "write",
]

KEY = "eqprop"
"""The one key of a file's metadata: with several, their order would differ from process to process."""


def write(path: Path, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """Write tensors and facts (what JSON can carry) in one step.

    Raises:
        OSError: if the file cannot be written; what was there before is still there then.
    """
    from safetensors.torch import save

    held = unshared({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()})
    text = json.dumps(facts, sort_keys=True, allow_nan=False)
    note = json.dumps({"facts": facts, "sha256": digest(held, text)}, sort_keys=True)
    write_atomic(path, save(held, metadata={KEY: note}))


def read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and the facts, on the CPU.

    Raises:
        FileNotFoundError: if there is no such file.
        DamagedError: if it is not what `write` wrote.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileNotFoundError(f"no checkpoint at {path}")
    try:
        with safe_open(path, framework="pt") as file:
            note = json.loads((file.metadata() or {})[KEY])
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - a handle, no dictionary
            facts = note["facts"]
            sound = note["sha256"] == digest(tensors, json.dumps(facts, sort_keys=True, allow_nan=False))
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise DamagedError(f"{path} is no checkpoint, or a damaged one ({error})") from None
    if not sound:
        raise DamagedError(f"{path} is damaged: its content does not have the SHA-256 written with it")
    return tensors, facts


def unshared(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Copies where several names stand for the same memory (a connection of two edges), which safetensors refuses."""
    names = Counter(tensor.data_ptr() for tensor in tensors.values())
    return {name: tensor.clone() if names[tensor.data_ptr()] > 1 else tensor for name, tensor in tensors.items()}


def digest(tensors: dict[str, Tensor], text: str) -> str:
    """SHA-256 of names, kinds, shapes and bytes of the tensors, and of the text."""
    sha = hashlib.sha256(text.encode())
    for name, tensor in sorted(tensors.items()):
        sha.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        sha.update(tensor.reshape(-1).view(torch.uint8).numpy().tobytes())
    return sha.hexdigest()


MODEL, OPTIMIZER = "model.", "optimizer."


def weights(model: nn.Module) -> dict[str, Tensor]:
    """The model's tensors under the names of a checkpoint.

    Raises:
        FloatingPointError: if one is not finite.
    """
    state = model.state_dict()
    for name, tensor in state.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise FloatingPointError(f"parameter {name} is not finite: the training diverged; lower the learning rate")
    return {MODEL + name: tensor for name, tensor in state.items()}


def load_weights(model: nn.Module, tensors: dict[str, Tensor], path: Path) -> None:
    """Copy the checkpoint's weights into the model.

    Raises:
        ValueError: if they are those of another model.
    """
    state = {name.removeprefix(MODEL): tensor for name, tensor in tensors.items() if name.startswith(MODEL)}
    there, here = ({name: tuple(tensor.shape) for name, tensor in s.items()} for s in (state, model.state_dict()))
    for name in there | here:
        if there.get(name) != here.get(name):
            shapes = f"{name} has shape {there.get(name)} there and {here.get(name)} here"
            raise ValueError(f"{path} holds the weights of another model: {shapes}")
    model.load_state_dict(state)


@dataclass(frozen=True)
class OptimizerState:
    """An optimizer's state, cut into what safetensors and what JSON can carry."""

    tensors: dict[str, Tensor]
    facts: dict[str, Any]


def optimizer_state(optimizer: Optimizer) -> OptimizerState:
    """The state of any `torch.optim` optimizer whose values are tensors, numbers, strings and None."""
    state = optimizer.state_dict()
    tensors, numbers = {}, {}
    for index, values in state["state"].items():
        for name, value in values.items():
            (tensors if isinstance(value, Tensor) else numbers)[f"{OPTIMIZER}{index}.{name}"] = value
    return OptimizerState(tensors, {"kind": kind(optimizer), "groups": state["param_groups"], "numbers": numbers})


def load_optimizer(optimizer: Optimizer, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
    """What `optimizer_state` gave.

    Raises:
        ValueError: if it is another optimizer's.
    """
    if facts["kind"] != kind(optimizer):
        raise ValueError(f"the checkpoint is of the optimizer {facts['kind']}, not of {kind(optimizer)}")
    state: dict[int, dict[str, Any]] = {}
    for key, value in (tensors | facts["numbers"]).items():
        if key.startswith(OPTIMIZER):
            index, name = key.removeprefix(OPTIMIZER).split(".", 1)
            state.setdefault(int(index), {})[name] = value
    groups = [group | listed(group) for group in facts["groups"]]
    optimizer.load_state_dict({"state": state, "param_groups": groups})


def kind(optimizer: Optimizer) -> str:
    """The optimizer's class."""
    return type(optimizer).__name__


def listed(group: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples; Adam's `betas` is one."""
    return {name: tuple(value) for name, value in group.items() if isinstance(value, list) and name != "params"}


def scheduler_state(scheduler: LRScheduler | None) -> Any:
    """Its state; None if there is none."""
    return None if scheduler is None else scheduler.state_dict()


def load_scheduler(scheduler: LRScheduler | None, facts: Any) -> None:
    """What `scheduler_state` gave.

    Raises:
        ValueError: if there was a scheduler and there is none now, or the other way round.
    """
    if (scheduler is None) != (facts is None):
        raise ValueError("the checkpoint has a scheduler and the training has none, or the other way round")
    if scheduler is not None:
        scheduler.load_state_dict(revived(facts, scheduler.state_dict()))


def revived(value: Any, like: Any) -> Any:
    """What JSON made of a state, with the counters that a fresh state has there (milestones; JSON's keys are strings)."""
    if isinstance(like, Counter):
        return Counter({int(key): number for key, number in value.items()})
    if isinstance(like, dict):
        return {key: revived(item, like.get(key)) for key, item in value.items()}
    if isinstance(like, list) and len(like) == len(value):
        return [revived(item, other) for item, other in zip(value, like, strict=True)]
    return value
