r"""Export of a spiking network to NIR, the neuromorphic intermediate representation (Pedersen et al. 2024, Nat. Commun. 15, 8122).

A NIR graph has nodes, which are differential equations or maps, and edges, whose values are added where they meet. Take Euler
steps of one tick, with nodes in topological order and a `Delay` that returns its input of the previous tick:

    I       v' = R i                              v <- v + tick R i
    LI      tau v' = (v_leak - v) + R i           v <- v + (tick / tau) (v_leak - v + R i)

The nodes of population n, named after it, implement `eqprop.spiking.dynamics`:

    decoder_n     LI, tau = tick / lambda             r           of the spikes from all synapses
    potential_n   LI, tau = tick / eps, v_leak = b    u           of the decoder; leaks to the bias
    integral_n    I, R = 1 / tick                                 of u, minus the spikes sent
    advance_n     Scale (1 - lambda) / lambda                     of u
    spike_n       Threshold 1/2                       q           of phi = integral_n + advance_n
    sent_n        Delay of a tick                                 a spike takes a tick to cross its synapses
    reset_n       Scale -1                                        of the spikes sent, to integral_n

since the predictive code ``a_t = u_t + (u_t - u_{t-1}) (1 - lambda) / lambda`` sums to ``sum u + u_t (1 - lambda) / lambda``.
With ``decode="before"`` the decoder of a population decodes the spikes that it sends, and its synapses follow the decoder.

*Potentials are not clipped to [0, 1]*, since NIR has no clipping node. The coder saturates instead, at no spike or one spike per
tick, so that steady-state rates are those of the model. While a potential is out of range, the residual of its coder grows without
bound, and must shrink again when the potential returns. Start each input from the zero state.

*Synapses.* A dense connection becomes one `Linear` upwards and one downwards. NIR has no transposed convolution, and no node that
reshapes a vector to an image, which feedback from a dense layer to an image would need. Relaxing images are therefore vectors,
ordered by channel, row and column, and convolutions between them are `Linear` nodes with the full matrix. The convolution of an
input image is a `Conv2d`. Average pooling is folded into kernel and stride.
"""

import io
import re
from math import prod
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eqprop._core.checks import ArgumentError, instance, positive, positive_int
from eqprop._core.customized import is_customized
from eqprop._core.files import write_atomic
from eqprop.connections.base import Connection
from eqprop.connections.conv import Conv2d
from eqprop.connections.dense import Dense
from eqprop.costs import Cost, CrossEntropyReadout
from eqprop.models.model import Model
from eqprop.spiking.coders import SigmaDelta
from eqprop.spiking.dynamics import Spiking
from eqprop.spiking.nir_builder import NIRBuilder, forward_connection
from eqprop.spiking.recording import spiking_dynamics
from eqprop.spiking.step_sizes import step_size_at
from eqprop.version import __version__

if TYPE_CHECKING:
    from nir import NIRGraph

__all__ = ["MAX_ENTRIES", "import_nir", "input_spikes", "to_nir", "write_nir"]

MAX_ENTRIES = 2**24
"""Largest size of a matrix that replaces a convolution: 64 MiB in single precision."""


def to_nir(model: Model, tick: float = 1.0) -> "NIRGraph":
    """Convert a spiking model to a NIR graph; see the module for its nodes and how to step them.

    ``input`` takes one value per tick: the spikes of `input_spikes`, or, with ``input="current"``, the input in [0, 1]. ``output``
    returns the spikes of the last population, whose mean over the last ticks is the model's output, or, for a model with a readout,
    scores to average over ticks. The graph's metadata contain lambda, eps, tick and the stepping rule.

    Args:
        model: with `Spiking` dynamics of constant step sizes and `SigmaDelta` coders; dense connections and convolutions, with
            average pooling or none, tied, untied or mismatched, in any graph.
        tick: duration of a tick in the unit of NIR's time constants, often seconds.

    Raises:
        ModuleNotFoundError: if nir is not installed.
        ValueError: if NIR cannot express a part of the model.

    >>> import eqprop as ep
    >>> graph = to_nir(ep.mlp([4, 3], dynamics=ep.Spiking()))  # doctest: +SKIP
    >>> sorted(graph.nodes)  # doctest: +SKIP
    ['advance_1', 'decoder_1', 'input', 'integral_1', 'output', 'potential_1', 'reset_1', 'sent_0', 'sent_1', 'spike_1', 'up_0_1']
    """
    nir = import_nir()
    dynamics = _check_model(model)
    builder = NIRBuilder(nir, model.network, dynamics, positive("tick", tick))
    builder.add_input()
    for name, edge in zip(model.network.edge_names(), model.network.edges(), strict=True):
        builder.add_synapses("_".join(re.findall(r"\d+", name)), *edge)
    for n in range(1, len(model.network.populations)):
        builder.add_units(n)
    for n in range(len(model.network.populations)):
        builder.add_decoder(n)
    builder.add_output(model.cost)
    return nir.NIRGraph(builder.nodes, builder.edges, metadata=_metadata(model, dynamics, tick))


def write_nir(model: Model, path: str | Path, tick: float = 1.0) -> None:
    """Write the graph of `to_nir` to a file, atomically.

    Raises:
        ModuleNotFoundError, ValueError: as `to_nir`.
        OSError: if the file cannot be written.
    """
    graph, file = to_nir(model, tick), io.BytesIO()
    import_nir().write(file, graph)
    write_atomic(Path(path), file.getvalue())


def input_spikes(model: Model, x: Tensor, ticks: int) -> Tensor:
    """Return the spikes of a model's input coder in the first ticks, 0 or 1: ``(ticks, B, *shape)``.

    Raises:
        ValueError: if the model's input does not spike, or ``x`` does not fit it.
    """
    dynamics = instance("model", model, Model).dynamics
    if not isinstance(dynamics, Spiking) or dynamics.input != "spikes":
        raise ArgumentError("model", f'`model` must have a spiking input, `Spiking(input="spikes")`, got {dynamics!r}')
    value = dynamics.encode(model.network, model.network.check_input(x))
    before, memory, sent = torch.zeros_like(value), dynamics.coder.init([value]), []
    for tick in range(1, positive_int("ticks", ticks) + 1):
        lam = step_size_at(dynamics.lam, tick + 1)
        (spike,), memory = dynamics.coder.encode([value], [before], memory, lam, tick)
        before = value
        sent.append(spike)
    return torch.stack(sent)


def import_nir() -> ModuleType:
    """Import the package nir.

    Raises:
        ModuleNotFoundError: if it is not installed.
    """
    try:
        import nir
    except ImportError:
        raise ModuleNotFoundError("NIR is not installed: pip install 'eqprop[nir]'") from None
    return nir


def _check_model(model: Model) -> Spiking:
    """Return the dynamics of a model, after checking that NIR can express every part."""
    dynamics = spiking_dynamics(instance("model", model, Model))
    for name in ("eps", "lam"):
        if not isinstance(getattr(dynamics, name), int | float):
            raise ArgumentError(name, f"`{name}` must be a number to be exported, got {getattr(dynamics, name)!r}")
    if not isinstance(dynamics.coder, SigmaDelta):
        raise ArgumentError("coder", f"`coder` must be `SigmaDelta()` to be exported, got {dynamics.coder!r}")
    if is_customized(dynamics, Spiking):
        raise ArgumentError(
            "dynamics", f"`dynamics` are {type(dynamics).__name__}, which NIR cannot express: use `Spiking`"
        )
    if type(model.cost).predict not in (Cost.predict, CrossEntropyReadout.predict):
        raise ArgumentError("cost", f"`cost` is a {type(model.cost).__name__}, whose `predict` NIR cannot express")
    if isinstance(model.cost, nn.Module) and not isinstance(model.cost, CrossEntropyReadout):
        raise ArgumentError("cost", f"`cost` is a {type(model.cost).__name__}, whose weights NIR cannot express")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"parameter {name} is not finite: the training diverged; export another checkpoint")
    for name, (pre, post, connection) in zip(model.network.edge_names(), model.network.edges(), strict=True):
        _check_connection(
            name, connection, *(model.network.populations[n].shape for n in (pre, post)), from_input=not pre
        )
    return dynamics


def _check_connection(
    name: str, connection: Connection, pre: tuple[int, ...], post: tuple[int, ...], *, from_input: bool
) -> None:
    """Raise ValueError for a connection that NIR's maps cannot express."""
    forward = forward_connection(connection)
    if not isinstance(forward, Dense | Conv2d):
        raise ValueError(
            f"connection {name} is a {type(forward).__name__}, which NIR cannot express: use `Dense` or `Conv2d`"
        )
    if is_customized(connection, Connection) or is_customized(forward, Connection):
        raise ValueError(
            f"connection {name} is a class of your own, whose currents NIR cannot express: use `Dense` or `Conv2d`"
        )
    if not isinstance(forward, Conv2d):
        return
    if forward.pool not in ("avg", None):
        raise ValueError(
            f'connection {name} has pooling {forward.pool!r}, whose feedback NIR cannot express: use "avg" or None'
        )
    if not from_input and (entries := prod(pre) * prod(post)) > MAX_ENTRIES:
        raise ValueError(
            f"connection {name}, a convolution, becomes a matrix of {prod(post)} x {prod(pre)} in NIR, which has no transposed "
            f"convolution: {entries} entries, more than the limit of {MAX_ENTRIES}; use smaller images"
        )


def _metadata(model: Model, dynamics: Spiking, tick: float) -> dict[str, Any]:
    readout = isinstance(model.cost, CrossEntropyReadout)
    return {
        "eqprop": __version__,
        "lambda": step_size_at(dynamics.lam, 1),
        "eps": dynamics.eps,
        "tick": tick,
        "ticks": model.settle.steps,
        "stepping": "forward Euler, one step per tick, nodes in topological order, from zero",
        "clipping": "potentials are not clipped to [0, 1]; spike rates saturate there",
        "input": "sigma-delta spikes" if dynamics.input == "spikes" else "values in [0, 1]",
        "output": "scores: their mean over ticks" if readout else "spikes: their mean over ticks",
        "populations": ", ".join("x".join(map(str, p.shape)) for p in model.network.populations),
        "readout": f"spike_{len(model.network.relaxing)}",
    }
