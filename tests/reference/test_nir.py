"""NIR graphs, read from the file and stepped by the definitions of their nodes, compared with the dynamics and the rate model."""

import sys

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from torch import nn

import eqprop as ep
from eqprop.connections.base import Connection
from eqprop.spiking import OSA, Bernoulli, Decay, input_spikes, to_nir, write_nir
from eqprop.spiking import nir as export
from nir_steps import Graph

nir = pytest.importorskip("nir", reason="needs the extra: pip install 'eqprop[nir]'")

CALM = ep.Spiking(eps=0.3, lam=0.4)
VARIANTS = [{}, {"input": "current"}, {"decode": "before"}, {"input": "current", "decode": "before"}]


def calm(model: ep.Model) -> ep.Model:
    """Return a model with weights so small that no potential reaches 0 or 1."""
    for name, p in model.double().named_parameters():
        with torch.no_grad():
            p.uniform_(0.45, 0.55) if name.endswith("bias") else p.mul_(0.3)
    return model


def lateral(dynamics) -> ep.Model:
    """An image below dense weights, a population joined to itself, and two connections side by side."""
    edges = [
        (0, 1, ep.Dense(12, 4)), (1, 1, ep.Dense(4, 4, bias=False)), (1, 2, ep.Untied(ep.Dense(4, 3), 80.0)),
        (1, 2, ep.Dense(4, 3, bias=False)), (0, 2, ep.Dense(12, 3, bias=False)),
    ]  # fmt: skip
    populations = [ep.Population((3, 2, 2)), ep.Population(4), ep.Population(3)]
    return ep.Model(ep.Network(populations, edges), dynamics, ep.SquaredError(), 30)


def mismatched(dynamics) -> ep.Model:
    """Convolutions and dense weights whose feedback deviates."""
    edges = [
        (0, 1, ep.Mismatched(ep.Conv2d(1, 2, 2), 0.3)), (1, 2, ep.Mismatched(ep.Conv2d(2, 2, 2, pool="avg"), 0.5)),
        (2, 3, ep.Mismatched(ep.Untied(ep.Dense(8, 3), 60.0), 0.5)),
    ]  # fmt: skip
    populations = [ep.Population((1, 7, 7)), ep.Population((2, 6, 6)), ep.Population((2, 2, 2)), ep.Population(3)]
    return ep.Model(ep.Network(populations, edges), dynamics, ep.SquaredError(), 30)


MODELS = {
    "dense": lambda d: ep.mlp([4, 5, 3], dynamics=d),
    "one layer": lambda d: ep.mlp([4, 3], dynamics=d),
    "untied": lambda d: ep.mlp([4, 5, 4, 3], dynamics=d, tied=False, angle=70.0),
    "average pooling": lambda d: ep.convnet((1, 11, 10), (2, 3), kernel_size=2, pool="avg", dense=(4, 3), dynamics=d),
    "strides": lambda d: ep.convnet(
        (2, 8, 8), (2, 3), kernel_size=3, padding=1, stride=2, pool=None, dense=(3,), dynamics=d
    ),
    "averages of strides": lambda d: ep.convnet((1, 9, 9), (2,), kernel_size=2, stride=2, pool="avg", dynamics=d),
    "skips": lambda d: ep.convnet(
        (1, 8, 8), (2, 3), kernel_size=3, padding=1, pool="avg", skips=[(0, 2), (1, 2)], tied=False, angle=50.0, dynamics=d
    ),
    "image at the end": lambda d: ep.convnet(
        (1, 6, 6), (2, 2), kernel_size=3, pool=None, dense=(), cost=ep.CrossEntropyReadout(8, 3), dynamics=d
    ),
    "lateral": lateral,
    "mismatched": mismatched,
}  # fmt: skip


def stepped(model: ep.Model, values: torch.Tensor, folder, tick: float = 1.0) -> tuple[Graph, dict[str, np.ndarray]]:
    """The graph of a model's file, and what its nodes gave for these values at its input."""
    write_nir(model, folder / "model.nir", tick)
    graph = Graph(folder / "model.nir", tick)
    return graph, graph.run(values.numpy())


def driven(model: ep.Model, x: torch.Tensor, ticks: int) -> torch.Tensor:
    """Return the values for the graph's input."""
    return input_spikes(model, x, ticks) if model.dynamics.input == "spikes" else x.clamp(0, 1).expand(ticks, *x.shape)


@pytest.mark.filterwarnings("ignore:`x` has values that .* dynamics clip")
@pytest.mark.parametrize("options", VARIANTS, ids=str)
@pytest.mark.parametrize("name", MODELS)
def test_spikes_match_the_model_without_clipping(name, options, tmp_path):
    model = calm(MODELS[name](ep.Spiking(eps=0.3, lam=0.4, **options)))
    x = 1.2 * torch.rand(2, *model.network.populations[0].shape, dtype=torch.float64) - 0.1
    states = ep.relax(model, x, 30, trajectory=True).trajectory[1:]
    _, seen = stepped(model, driven(model, x, 30), tmp_path)
    for n in range(len(model.network.relaxing)):
        u, q = seen[f"potential_{n + 1}"], seen[f"spike_{n + 1}"]
        assert u.min() > 0
        assert u.max() < 1
        trains = [state.spike[n - len(model.network.relaxing)] for state in states]
        assert_array_equal(q, torch.stack(trains).flatten(2))
        assert 0 < q.mean() < 1
        assert_allclose(u, torch.stack([state.potential[n] for state in states]).flatten(2), atol=1e-12)


@pytest.mark.parametrize("lam", [0.2, 1])
@pytest.mark.parametrize("name", ["dense", "average pooling", "lateral"])
def test_steady_state_rates_match_the_rate_model(name, lam, tmp_path):
    """Over M ticks each node's sums satisfy the steady-state equation of the rate model, up to boundary terms of order 1 / M.

    The coder keeps at most 1, and u and r keep (1 - lambda) / lambda, 1 / lambda and 1 / eps times what they move by at rest. The
    weights are so small that nothing is amplified more than twice.
    """
    model = MODELS[name](ep.Spiking(eps=0.5, lam=lam)).double()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(0.4).add_(0.6 * torch.randn_like(parameter) * (parameter.dim() == 1))
    x = torch.rand(3, *model.network.populations[0].shape, dtype=torch.float64)
    rest = ep.relax(model.rate_model(), x, ep.Settle(3000, tol=1e-12))
    _, seen = stepped(model, driven(model, x, 600), tmp_path)
    late = {node: values[-400:] for node, values in seen.items()}
    moves = {
        kind: max(np.ptp(late[node], 0).max() for node in late if node.startswith(kind)) for kind in ("pot", "dec")
    }
    kept = 1 + ((1 - lam) / lam + 1 / 0.5) * moves["pot"] + moves["dec"] / lam
    assert kept < 4
    for n, s in enumerate(rest.activity, start=1):
        assert_allclose(late[f"spike_{n}"].mean(0), s.flatten(1), atol=2 * kept / 400)
        assert_allclose(late[f"potential_{n}"].mean(0).clip(0, 1), s.flatten(1), atol=2 * kept / 400)
    s = torch.cat([s.flatten() for s in rest.activity])
    assert ((s == 0) | (s == 1)).any()  # where clipping counts
    assert ((s > 0.1) & (s < 0.9)).any()


def test_the_mean_of_the_output_is_what_a_readout_predicts(tmp_path):
    model = calm(MODELS["image at the end"](CALM))
    x = torch.rand(2, 1, 6, 6, dtype=torch.float64)
    graph, seen = stepped(model, driven(model, x, 40), tmp_path)
    assert graph.metadata["output"].startswith("scores")
    rates = torch.from_numpy(seen["spike_2"][-20:].mean(0))
    assert_allclose(seen["output"][-20:].mean(0), model.cost.predict(rates).detach(), atol=1e-12)


def test_ticks_of_any_length(tmp_path):
    model = calm(MODELS["dense"](CALM))
    values = input_spikes(model, torch.rand(2, 4, dtype=torch.float64), 25)
    _, seen = stepped(model, values, tmp_path)
    graph, same = stepped(model, values, tmp_path, tick=1e-3)
    assert_array_equal(seen["output"], same["output"])
    assert_allclose(graph.nodes["decoder_1"].tau, 1e-3 / 0.4)
    assert_allclose(graph.nodes["potential_1"].tau, 1e-3 / 0.3)


def test_input_spikes_are_those_of_the_equations():
    model, x = ep.mlp([2, 2], dynamics=ep.Spiking(lam=Decay(0.9, 0.5))).double(), torch.tensor([[0.3, 1.4]]).double()
    found = input_spikes(model, x, 20)
    s, last, phi = np.clip(x.numpy(), 0, 1), 0, 0
    for tick, spikes in enumerate(found, start=1):
        lam = 0.9 / (tick + 1) ** 0.5  # the decoder reads them one tick later
        phi = phi + (s - (1 - lam) * last) / lam
        last, q = s, phi > 0.5
        phi = phi - q
        assert_array_equal(spikes, q)


def test_input_spikes_need_a_spiking_input():
    for dynamics in (ep.Spiking(input="current"), ep.EnergyDescent()):
        with pytest.raises(ValueError, match=r"`model` must have a spiking input"):
            input_spikes(ep.mlp([2, 2], dynamics=dynamics), torch.rand(1, 2), 3)


def test_the_file_holds_the_graph_and_its_facts(tmp_path):
    model = ep.convnet((1, 6, 6), (2,), kernel_size=3, pool="avg", dense=(3,), settle=40, dynamics=CALM)
    write_nir(model, tmp_path / "model.nir", tick=2.0)
    made, read = to_nir(model, 2.0), nir.read(tmp_path / "model.nir")
    assert set(read.nodes) == set(made.nodes)
    assert sorted(read.edges) == sorted(made.edges)
    assert_array_equal(read.nodes["up_1_2"].weight, model.network.connections[1].weight.detach())
    assert_array_equal(read.nodes["down_1_2"].weight, model.network.connections[1].weight.detach().t())
    assert read.nodes["up_0_1"].weight.dtype == np.float32
    assert {**read.metadata} == {**made.metadata}
    facts = {"eqprop": ep.__version__, "lambda": 0.4, "eps": 0.3, "tick": 2.0, "ticks": 40, "readout": "spike_2"}
    assert facts.items() <= read.metadata.items()
    assert read.metadata["populations"] == "1x6x6, 2x2x2, 3"
    assert [path.name for path in tmp_path.iterdir()] == ["model.nir"]


class Own(Connection):
    def phi(self, pre, post):
        return (pre[:, :3] * post).sum(1)


class Weighted(nn.Module, ep.Cost):
    """A cost whose weights NIR cannot express."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(()))

    def value(self, out, y):
        return self.scale * ep.SquaredError().value(out, y)


def own() -> ep.Model:
    network = ep.Network([ep.Population(4), ep.Population(3)], [(0, 1, Own())])
    return ep.Model(network, ep.Spiking(), ep.SquaredError())


def pooled(pool: str) -> ep.Model:
    return ep.convnet((1, 6, 6), (2,), kernel_size=3, pool=pool, dynamics=ep.Spiking(decode="before"))


REFUSED = {
    "rates": (lambda: ep.mlp([4, 3]), r"must have spiking dynamics, got Prototypical\("),
    "bernoulli": (lambda: ep.mlp([4, 3], dynamics=ep.Spiking(coder=Bernoulli())), r"`coder` must be `SigmaDelta\(\)`.* got Bern"),
    "eps": (lambda: ep.mlp([4, 3], dynamics=ep.Spiking(eps=OSA(0.1))), r"`eps` must be a number.* got OSA\(target=0.1\)"),
    "lam": (lambda: ep.mlp([4, 3], dynamics=ep.Spiking(lam=Decay())), r"`lam` must be a number.* got Decay\("),
    "max": (lambda: pooled("max"), r"connection 0→1 has pooling 'max'.*use \"avg\" or None"),
    "softmax": (lambda: pooled("softmax"), r"connection 0→1 has pooling 'softmax'"),
    "own": (own, r"connection 0→1 is a Own, which NIR cannot express"),
    "cost": (lambda: ep.mlp([4, 3], dynamics=ep.Spiking(), cost=Weighted()), r"`cost` is a Weighted"),
}  # fmt: skip


@pytest.mark.parametrize("part", REFUSED)
def test_unsupported_parts_are_named_and_nothing_is_written(part, tmp_path):
    make, message = REFUSED[part]
    (tmp_path / "model.nir").write_bytes(b"an older one")
    with pytest.raises(ValueError, match=message) as caught:
        write_nir(make(), tmp_path / "model.nir")
    assert "\n" not in str(caught.value)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"an older one"]


def test_too_large_convolutions_between_images_are_rejected(monkeypatch):
    model = ep.convnet((1, 6, 6), (2, 3), kernel_size=3, pool=None, dense=(3,), dynamics=ep.Spiking())
    monkeypatch.setattr(export, "MAX_ENTRIES", 12 * 32)
    to_nir(model)
    monkeypatch.setattr(export, "MAX_ENTRIES", 12 * 32 - 1)
    with pytest.raises(ValueError, match=r"connection 1→2, a convolution, becomes a matrix of 12 x 32 .*384 entries"):
        to_nir(model)


@pytest.mark.parametrize("tick", [0, -1.0, float("nan")])
def test_tick_must_be_positive(tick):
    with pytest.raises(ValueError, match=r"`tick` must be a finite number above 0"):
        to_nir(ep.mlp([4, 3], dynamics=ep.Spiking()), tick)


def test_without_nir_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "nir", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'eqprop\[nir\]'"):
        to_nir(ep.mlp([4, 3], dynamics=ep.Spiking()))
