r"""Export of a spiking network to NIR, the neuromorphic intermediate representation (Pedersen et al. 2024, Nat. Commun. 15, 8122).

A graph of NIR has nodes, which are differential equations or maps, and edges, whose values add up where they meet. With Euler steps
of one tick, nodes taken in the order in which they feed each other, and a `Delay` handing on what it was given one tick ago,

    I       v' = R i                              v <- v + tick R i
    LI      tau v' = (v_leak - v) + R i           v <- v + (tick / tau) (v_leak - v + R i)

the nodes of population n, which are named after it, do what `eqprop.spiking.dynamics` says:

    decoder_n     LI, tau = tick / lambda             r           of the spikes that come through all synapses
    potential_n   LI, tau = tick / eps, v_leak = b    u           of the decoder: leaks to the bias
    integral_n    I, R = 1 / tick                                 of u, less the spikes that were sent
    advance_n     Scale (1 - lambda) / lambda                     of u
    spike_n       Threshold 1/2                       q           of integral_n + advance_n, which are phi
    sent_n        Delay of a tick                                 a spike takes a tick to cross its synapses
    reset_n       Scale -1                                        of what was sent, back to integral_n

since the predictive code ``a_t = u_t + (u_t - u_{t-1}) (1 - lambda) / lambda`` sums up to ``sum u + u_t (1 - lambda) / lambda``.
With ``decode="before"`` the decoder of a population is one of the spikes that it sends, and its synapses come after it.

*Potentials do not stop at 0 and 1*: NIR has no node that clips. The coder saturates in their place, at no spike and at one a tick,
so that rates at rest are those of the model. But while a potential is outside, its coder winds up, without end if it stays
there, and has to unwind when it comes back. A graph therefore starts each input from zero.

*Synapses.* A dense connection is a `Linear` upwards and another downwards. NIR has no transposed convolution, and nothing that
makes an image of a vector, as would be needed where a dense connection feeds back to an image. Images that relax are therefore
vectors, channel by channel, row by row, and convolutions between them `Linear` with the whole matrix. The convolution of an
input image is a `Conv2d`. Average pooling is part of kernel and stride.
"""

import io
import re
from math import prod
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from eqprop._core.checks import instance, positive, positive_int
from eqprop._core.files import write_atomic
from eqprop.connections.base import Connection
from eqprop.connections.conv import Conv2d
from eqprop.connections.dense import Dense
from eqprop.costs import CrossEntropyReadout
from eqprop.models.model import Model
from eqprop.spiking.coders import SigmaDelta
from eqprop.spiking.dynamics import Spiking
from eqprop.spiking.nir_builder import NIRBuilder, upwards
from eqprop.spiking.step_sizes import step_size_at
from eqprop.version import __version__

if TYPE_CHECKING:
    from nir import NIRGraph

__all__ = ["ENTRIES", "input_spikes", "to_nir", "write_nir"]

ENTRIES = 2**24
"""A matrix that stands for a convolution has at most so many entries: 64 MiB in single precision."""


def to_nir(model: Model, tick: float = 1.0) -> "NIRGraph":
    """The graph of a spiking model; see the module for its nodes and how they are to be stepped.

    ``input`` takes one value a tick: the spikes of `input_spikes`, or, with ``input="current"``, the input within [0, 1] itself.
    ``output`` gives the spikes of the last population, whose mean over the last ticks is the model's output, or, of a model with a
    readout, scores whose mean over ticks counts. The graph's metadata say lambda, eps, tick and how it is stepped.

    Args:
        model: with `Spiking` dynamics of constant step sizes and `SigmaDelta` coders; dense connections and convolutions, with
            average pooling or none, tied, untied or mismatched, in any graph.
        tick: how long a tick is in the unit of NIR's time constants, which many take for seconds.

    Raises:
        ModuleNotFoundError: if nir is not installed.
        ValueError: if a part of the model, which is named, has no expression in NIR.

    >>> import eqprop as ep
    >>> graph = to_nir(ep.mlp([4, 3], dynamics=ep.Spiking()))  # doctest: +SKIP
    >>> sorted(graph.nodes)  # doctest: +SKIP
    ['advance_1', 'decoder_1', 'input', 'integral_1', 'output', 'potential_1', 'reset_1', 'sent_0', 'sent_1', 'spike_1', 'up_0_1']
    """
    nir = installed()
    dynamics = expressible(model)
    draft = NIRBuilder(nir, model.network, dynamics, positive("tick", tick))
    draft.put_input()
    for name, edge in zip(model.network.edge_names(), model.network.edges(), strict=True):
        draft.put_synapses("_".join(re.findall(r"\d+", name)), *edge)
    for n in range(1, len(model.network.populations)):
        draft.put_units(n)
    for n in range(len(model.network.populations)):
        draft.put_decoder(n)
    draft.put_output(model.cost)
    return nir.NIRGraph(draft.nodes, draft.edges, metadata=facts(model, dynamics, tick))


def write_nir(model: Model, path: str | Path, tick: float = 1.0) -> None:
    """Write `to_nir` of the model to a file, which is whole or absent.

    Raises:
        ModuleNotFoundError, ValueError: as `to_nir`.
        OSError: if the file cannot be written.
    """
    graph, file = to_nir(model, tick), io.BytesIO()
    installed().write(file, graph)
    write_atomic(Path(path), file.getvalue())


def input_spikes(model: Model, x: Tensor, ticks: int) -> Tensor:
    """What a model's input coder sends in the first ticks, 0 or 1: ``(ticks, B, *shape)``.

    Raises:
        ValueError: if the model's input does not come in spikes, or ``x`` does not fit it.
    """
    dynamics = model.dynamics
    if not isinstance(dynamics, Spiking) or dynamics.input != "spikes":
        raise ValueError(f'`model` must have an input that spikes, `Spiking(input="spikes")`, got {dynamics!r}')
    value = dynamics.encode(model.network, model.network.check_input(x))
    before, memory, sent = torch.zeros_like(value), dynamics.coder.begin([value]), []
    for tick in range(1, positive_int("ticks", ticks) + 1):
        lam = step_size_at(dynamics.lam, tick + 1)
        (spike,), memory = dynamics.coder.encode([value], [before], memory, lam, tick)
        before = value
        sent.append(spike)
    return torch.stack(sent)


def installed() -> ModuleType:
    """The package nir.

    Raises:
        ModuleNotFoundError: if it is not there.
    """
    try:
        import nir
    except ImportError:
        raise ModuleNotFoundError("NIR is not installed: pip install 'eqprop[nir]'") from None
    return nir


def expressible(model: Model) -> Spiking:
    """The dynamics of a model that has an expression in NIR.

    Raises:
        ValueError: if some part, which is named, has none.
    """
    dynamics = instance("model", model, Model).dynamics
    if not isinstance(dynamics, Spiking):
        raise ValueError(f"NIR is for spiking networks, but the model has {dynamics!r}: give it `Spiking()` dynamics")
    for name in ("eps", "lam"):
        if not isinstance(getattr(dynamics, name), int | float):
            raise ValueError(f"`{name}` is {getattr(dynamics, name)!r}, but NIR's time constants stay: take a number")
    if not isinstance(dynamics.coder, SigmaDelta):
        raise ValueError(f"`coder` is {dynamics.coder!r}, which no node of NIR expresses: take `SigmaDelta()`")
    if isinstance(model.cost, nn.Module) and not isinstance(model.cost, CrossEntropyReadout):
        raise ValueError(f"`cost` is a {type(model.cost).__name__}, whose weights have no expression in NIR")
    for name, parameter in model.named_parameters():
        if not parameter.isfinite().all():
            raise ValueError(f"parameter {name} is not finite: the training diverged, and there is nothing to export")
    for name, (pre, post, connection) in zip(model.network.edge_names(), model.network.edges(), strict=True):
        check_connection(
            name, connection, *(model.network.populations[n].shape for n in (pre, post)), from_input=not pre
        )
    return dynamics


def check_connection(
    name: str, connection: Connection, pre: tuple[int, ...], post: tuple[int, ...], *, from_input: bool
) -> None:
    """Refuse a connection that NIR's maps do not express.

    Raises:
        ValueError: with the reason.
    """
    forward = upwards(connection)
    if not isinstance(forward, Dense | Conv2d):
        raise ValueError(
            f"connection {name} is a {type(forward).__name__}, which no node of NIR expresses: only `Dense` and `Conv2d` have one"
        )
    if not isinstance(forward, Conv2d):
        return
    if forward.pool not in ("avg", None):
        raise ValueError(
            f'connection {name} pools by {forward.pool!r}, which no node of NIR expresses on the way back: take "avg" or None'
        )
    if not from_input and (entries := prod(pre) * prod(post)) > ENTRIES:
        raise ValueError(
            f"connection {name}, a convolution, becomes a matrix of {prod(post)} x {prod(pre)} in NIR, which has no transposed "
            f"convolution; these are {entries} entries, and at most {ENTRIES} are written: take smaller images"
        )


def facts(model: Model, dynamics: Spiking, tick: float) -> dict[str, Any]:
    """What a reader of the graph should know."""
    readout = isinstance(model.cost, CrossEntropyReadout)
    return {
        "eqprop": __version__,
        "lambda": step_size_at(dynamics.lam, 1),
        "eps": dynamics.eps,
        "tick": tick,
        "ticks": model.settle.steps,
        "stepping": "forward Euler, a step a tick, nodes in the order in which they feed each other, from zero",
        "clipping": "potentials are not clipped to [0, 1]; spike rates saturate there",
        "input": "sigma-delta spikes" if dynamics.input == "spikes" else "values in [0, 1]",
        "output": "scores: their mean over ticks" if readout else "spikes: their mean over ticks",
        "populations": ", ".join("x".join(map(str, p.shape)) for p in model.network.populations),
        "readout": f"spike_{len(model.network.relaxing)}",
    }
