"""Checks of tensors and modules at the public entry points: what the settling loop cannot compute with, and why."""

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError

__all__ = ["check_dense", "check_hooks", "check_parts", "check_uniform", "without_inference"]

_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HOOKS = ("_forward_pre_hooks", "_forward_hooks", "_backward_pre_hooks", "_backward_hooks")


def check_dense(name: str, value: Tensor) -> None:
    """Refuse tensors without a plain array of values: sparse, nested, quantized, and those on the meta device."""
    if value.layout != torch.strided or value.is_quantized or value.is_nested:
        raise ArgumentError(
            name, f"`{name}` must be a dense tensor, got {_kind(value)}: convert it, as by `{name}.to_dense()`"
        )
    if value.is_meta:
        raise ArgumentError(name, f"`{name}` is on the meta device and has no values: give a tensor with data")


def _kind(value: Tensor) -> str:
    return f"a quantized one, {value.dtype}" if value.is_quantized else str(value.layout)


def check_parts(name: str, module: nn.Module, like: Tensor) -> None:
    """Check hooks and parameters of a module and its parts, as `check_hooks` and `check_uniform`; one quick pass if all is well."""
    kind = like.dtype, like.device
    for part in module.modules():
        if part._forward_pre_hooks or part._forward_hooks or part._backward_pre_hooks or part._backward_hooks:
            check_hooks(name, module)
        for parameter in part._parameters.values():
            if parameter is not None and (parameter.dtype, parameter.device) != kind:
                check_uniform(name, module, like)
    if like.dtype not in _DTYPES:
        check_uniform(name, module, like)


def check_uniform(name: str, module: nn.Module, like: Tensor) -> None:
    """Check that every parameter of ``module`` has a dtype for phases, and the dtype and device of ``like``."""
    for key, parameter in module.named_parameters():
        if (parameter.dtype, parameter.device) != (like.dtype, like.device):
            raise ArgumentError(
                name,
                f"`{name}`: `{key}` is {parameter.dtype} on {parameter.device}, other weights are {like.dtype} on "
                f"{like.device}: convert the whole model, as by `model.to(...)`",
            )
    if like.dtype not in _DTYPES:
        raise ArgumentError(
            name, f"`{name}` must be of one of the dtypes {_names()}, got {like.dtype}: convert the model and `x`"
        )


def _names() -> str:
    return ", ".join(str(dtype).removeprefix("torch.") for dtype in _DTYPES)


def check_hooks(name: str, module: nn.Module) -> None:
    """Refuse hooks on modules without a ``forward``, such as connections: they would never run.

    `torch.nn.utils.prune` and the old `weight_norm` and `spectral_norm` compute the weights in such hooks. Modules that a user's
    connection calls itself, and those of `torch.nn.utils.parametrize`, have a ``forward``, so that their hooks run.
    """
    for part, child in module.named_modules():
        if any(getattr(child, kind) for kind in _HOOKS) and not _has_forward(child):
            where = f"`{name}`" if not part else f"`{part}` of `{name}`"
            raise ArgumentError(
                name,
                f"{where} has hooks, which phases never run, as of `torch.nn.utils.prune` or the old `spectral_norm`: remove them; "
                "use `torch.nn.utils.parametrizations`, `prune.remove`, or `on_step` and `on_free_phase` to observe",
            )


def _has_forward(module: nn.Module) -> bool:
    return type(module).forward is not nn.Module.forward


def without_inference(value: Tensor) -> Tensor:
    """Return a tensor that autograd accepts: a copy of one made under `torch.inference_mode`, others unchanged."""
    if not value.is_inference():
        return value
    with torch.inference_mode(False):
        return value.clone()
