r"""Checks of the nudging strength beta against a model: its precision, its dynamics and its cost.

*Precision*. EP divides a difference of two states by beta. States of order 1 are rounded by eps (`torch.finfo`), so that the
estimate has the relative rounding error ``eps / |beta|``, and the error ``c |beta|`` of a finite nudge,
or ``c beta^2`` if centred.

    |beta| <= eps          rounding is as large as the estimate, which is zero or noise                                 refused
    |beta| <  sqrt(eps)    more than half of the digits are lost; rounding exceeds the error of even a one-sided nudge,
                           so that a larger beta is better in every way                                                 warning
    |beta| >= 1 / eps      the force rounds the current of the network away                                             refused

sqrt(eps) is 3e-4 in single and 1.5e-8 in double precision, 0.03 in half precision and 0.09 in bfloat16. Autocast changes nothing,
since phases run in the precision of the weights.

*Self-feedback*. The force of a cost with curvature ``h = d^2C/ds^2`` feeds the output back to itself with strength ``-beta h``
(`Dynamics.check_feedback`). The squared error has ``h = 1``; costs of unknown curvature are not checked.
"""

import torch
from torch import nn

from eqprop._core.checks import ArgumentError
from eqprop._core.warn import warn_user
from eqprop.costs import Cost
from eqprop.dynamics.base import Dynamics
from eqprop.network import Network

__all__ = ["check_precision", "check_stability", "dtype_of", "warn_if_imprecise"]


def dtype_of(network: nn.Module) -> torch.dtype:
    """Return the dtype of the weights, in which states are computed."""
    return next((p.dtype for p in network.parameters()), torch.get_default_dtype())


def check_precision(beta: float, dtype: torch.dtype) -> None:
    """Check that differences of states divided by ``beta`` mean something.

    Raises:
        ArgumentError: if they do not.
    """
    eps = torch.finfo(dtype).eps
    if eps < abs(beta) < 1 / eps:
        return
    name = str(dtype).removeprefix("torch.")
    if abs(beta) >= 1 / eps:
        raise ArgumentError(
            "beta",
            f"`beta` must be below {1 / eps:.1g} in size in {name}, got {beta!r}: the nudge would be all that counts",
        )
    raise ArgumentError(
        "beta",
        f"`beta` must be above {eps:.1g} in size in {name}, got {beta!r}: EP divides differences of states, which are rounded by "
        f"as much; take {eps**0.5:.0e} or more" + ("" if dtype == torch.float64 else ", or `model.double()`"),
    )


def warn_if_imprecise(beta: float, dtype: torch.dtype) -> None:
    """Warn if more than half of the digits of EP's estimate are lost to rounding."""
    least = torch.finfo(dtype).eps ** 0.5
    if abs(beta) < least:
        warn_user(
            f"`beta` = {beta!r} loses more than half of the digits of {str(dtype).removeprefix('torch.')}: EP divides by it the "
            f"rounding errors of states; take {least:.0e} or more"
            + ("" if dtype == torch.float64 else ", or `model.double()`")
        )


def check_stability(
    dynamics: Dynamics, network: Network, cost: Cost, beta: float, *, both_signs: bool = False, warn: bool = True
) -> None:
    """Check that nudged phases can settle.

    Args:
        dynamics: how the populations move.
        network: the network.
        cost: cost of the output, whose force nudges it.
        beta: nudging strength.
        both_signs: whether there are phases at -beta too.
        warn: whether to warn of a strength at which only some networks settle.

    Raises:
        ArgumentError: if the dynamics are unstable at this ``beta``.
    """
    dynamics.check_beta(beta)
    if cost.curvature is not None:
        strength = beta * cost.curvature
        problem = dynamics.check_feedback(network, (strength, -strength) if both_signs else (strength,))
        if problem and warn:
            warn_user(problem)
