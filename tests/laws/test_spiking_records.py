"""Recordings agree with the phases; operation counts agree with explicit matrices."""

import pytest
import torch

import eqprop as ep
import zoo
from eqprop.spiking import Bernoulli, fan_out, operations, record


def mlp(**options) -> ep.Model:
    torch.manual_seed(0)
    return ep.mlp([5, 7, 4], dynamics=ep.Spiking(**options)).double()


def batch(n=3):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 5, generator=generator, dtype=torch.double), torch.arange(n) % 4


def matrix(connection, pre, post, *, down: bool) -> torch.Tensor:
    """Of the current without bias, a column a unit that it comes from."""
    if down:
        units = torch.eye(post.numel()).double().view(-1, *post)
        zero = torch.zeros(len(units), *pre).double()
        return connection.down(units, zero).flatten(1).t()
    units = torch.eye(pre.numel()).double().view(-1, *pre)
    return (connection.up(units) - connection.up(torch.zeros_like(units))).flatten(1).t()


def conv(*args, **options):
    return ep.Conv2d(*args, **options).double()


@pytest.mark.parametrize(
    ("connection", "pre", "post"),
    [
        (ep.Dense(5, 3), (5,), (3,)),
        (ep.Dense(12, 3), (3, 2, 2), (3,)),
        (ep.Untied(ep.Dense(5, 3), 40), (5,), (3,)),
        (ep.Mismatched(ep.Dense(5, 3), 0.1), (5,), (3,)),
        (conv(2, 3, 3), (2, 6, 5), (3, 4, 3)),
        (conv(2, 3, 3, padding=1), (2, 6, 5), (3, 6, 5)),
        (conv(2, 3, 3, stride=2, padding=1), (2, 6, 5), (3, 3, 3)),
        (conv(2, 3, 2, stride=3), (2, 7, 8), (3, 2, 3)),
        (conv(2, 3, 3, pool="avg"), (2, 8, 7), (3, 3, 2)),
        (conv(2, 3, 3, padding=1, pool="avg"), (2, 7, 6), (3, 3, 3)),
        (conv(1, 2, 2, stride=3, pool="avg"), (1, 11, 11), (2, 2, 2)),
        (conv(1, 2, 3, padding=2, pool="avg", pool_size=3), (1, 7, 8), (2, 3, 3)),
        (ep.Untied(conv(2, 3, 3, padding=1, pool="avg"), 30), (2, 7, 6), (3, 3, 3)),
    ],
    ids=str,
)
def test_a_fan_out_is_the_number_of_weights_in_a_column(connection, pre, post):
    torch.manual_seed(3)
    connection = connection.double()
    up, down = connection.fan_out(pre, post)
    for fan, way in ((up, False), (down, True)):
        counted = matrix(connection, torch.Size(pre), torch.Size(post), down=way).abs().gt(1e-12).sum(0)
        assert fan.flatten().tolist() == counted.tolist()
    assert up.shape == pre
    assert down.shape == post
    assert up.sum() == down.sum()


@pytest.mark.parametrize("name", ["chain", "input-skip", "skip", "lateral", "parallel", "downward"])
def test_the_fan_outs_of_a_network_are_columns_of_its_currents(name):
    """Entries of the Jacobian of all currents by all activities, each connection and direction by itself."""
    network = zoo.GRAPHS[name].network()
    fans = fan_out(network)
    wanted = [torch.zeros(p.shape) for p in network.populations]
    for pre, post, connection in network.edges():
        n_post, n_pre = connection.weight.shape
        wanted[pre] += n_post
        wanted[post] += n_pre if pre else 0
    assert [fan.tolist() for fan in fans] == [fan.tolist() for fan in wanted]


@pytest.mark.parametrize(
    ("pool", "reason"), [("max", "max pooling .* depends on the image"), ("softmax", "softmax pooling")]
)
def test_max_and_softmax_pooling_have_no_fan_out(pool, reason):
    with pytest.raises(ValueError, match=reason):
        fan_out(ep.convnet((1, 6, 6), (2,), kernel_size=3, pool=pool, dense=(3,)).network)


def test_a_custom_connection_must_define_its_fan_out():
    with pytest.raises(ValueError, match=r"LowRank does not tell .* give it a `fan_out`"):
        fan_out(zoo.GRAPHS["own-lateral"].network())


@pytest.mark.parametrize("given", ["spikes", "current"])
def test_operations_by_matrices(given):
    """Count every spike of a recorded phase through the matrices, including those of a spiking input."""
    torch.manual_seed(0)
    model = ep.convnet(
        (1, 7, 7), (2,), kernel_size=3, pool="avg", dense=(3,), dynamics=ep.Spiking(input=given)
    ).double()
    x = torch.rand(4, 1, 7, 7).double()
    found = record(
        model, x, 15, units={n: range(p.numel()) for n, p in enumerate(shapes(model)) if n or given == "spikes"}
    )
    first, second = model.network.connections
    columns = [
        matrix(first, *shapes(model)[:2], down=False).ne(0).sum(0),
        matrix(second, *shapes(model)[1:], down=False).ne(0).sum(0),
        matrix(second, *shapes(model)[1:], down=True).ne(0).sum(0),
    ]
    total = sum((traces.spike.sum((0, 1)) * columns[n]).sum().item() for n, traces in found.traces.items()) / 4
    cost = operations(model, found)
    assert cost.synops == pytest.approx(total)
    assert cost.spikes == pytest.approx(sum(traces.spike.sum().item() for traces in found.traces.values()) / 4)
    pairs = [column.sum().item() for column in columns]
    assert cost.macs == 15 * sum(pairs)
    assert cost.macs_cached == pairs[0] + 15 * sum(pairs[1:])


def shapes(model):
    return [torch.Size(p.shape) for p in model.network.populations]


def test_synops_equal_macs_if_all_units_spike_at_every_tick():
    model = mlp()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.fill_(9.0 if name.endswith("bias") else 0.0)
    x = torch.ones(2, 5).double()
    state = ep.relax(model, x, 20).state  # all potentials are at 1
    found = record(model, x, 10, state=state)
    assert found.spikes_per_unit == 1
    cost = operations(model, found)
    assert cost.synops == cost.macs == 10 * (5 * 7 + 2 * 7 * 4)


def test_operations_of_a_step_are_those_of_its_phases():
    model, (x, y) = mlp(), batch()
    free = record(model, x, 20)
    nudged = [record(model, x, 9, y, beta, free) for beta in (-0.5, 0.5)]
    costs = [operations(model, each) for each in (free, *nudged)]
    whole = operations(model, free, *nudged)
    assert whole.synops == pytest.approx(sum(cost.synops for cost in costs))
    assert whole.macs == (20 + 18) * (5 * 7 + 2 * 7 * 4)


def test_decoding_before_the_synapses_has_no_synops():
    model, (x, _) = mlp(decode="before"), batch()
    with pytest.raises(ValueError, match='synaptic operations need decode="after"'):
        operations(model, record(model, x, 5))


@pytest.mark.parametrize("options", [{}, {"coder": Bernoulli()}, {"input": "current"}, {"decode": "before"}], ids=str)
def test_a_recording_matches_relax(options):
    """Its end is that of `relax`, its counts are the sums of the spikes of the trajectory, free and nudged on."""
    model, (x, y) = mlp(**options), batch()
    torch.manual_seed(5)
    one = ep.relax(model, x, 12, trajectory=True)
    two = ep.relax(model, x, 6, y, 0.4, one.state, trajectory=True)
    drawn = torch.get_rng_state()
    torch.manual_seed(5)
    free = record(model, x, 12, units=2)
    nudged = record(model, x, 6, y, 0.4, free)
    assert torch.get_rng_state().equal(drawn)
    for found, solution in ((free, one), (nudged, two)):
        states = solution.trajectory[1:]
        for n, count in enumerate(found.counts):
            spikes = torch.stack([state.spike[n] for state in states])
            assert count.equal(spikes.sum(0))
            torch.testing.assert_close(found.activity[n], spikes.mean((1, 2)))
            traces = found.traces[found.populations[n]]
            assert traces.spike.equal(spikes[:, :, list(traces.units)])
        for n, u in enumerate(found.state.potential, start=1):
            assert u.equal(solution.state.potential[n - 1])
            values = torch.stack([state.potential[n - 1] for state in states])
            assert found.traces[n].value.equal(values[:, :, list(found.traces[n].units)])
        assert found.spikes_per_unit == pytest.approx(torch.cat([r.flatten() for r in found.rates]).mean().item())
        assert max(rate.max() for rate in found.rates) <= 1
    assert (free.ticks, nudged.ticks, free.beta, nudged.beta) == (range(1, 13), range(13, 19), 0, 0.4)
    assert free.populations == ((1, 2) if options.get("input") == "current" else (0, 1, 2))


def test_memory_does_not_grow_with_the_ticks():
    model, (x, _) = mlp(), batch()
    sizes = []
    for steps in (10, 40):
        found = record(model, x, steps)
        sizes.append(
            [t.numel() for t in found.counts] + [found.activity.numel() / steps, found.saturation.numel() / steps]
        )
        assert found.traces == {}
    assert sizes[0] == sizes[1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"units": {3: [0]}}, r"`units` must name spiking populations, \[0, 1, 2\], got 3"),
        ({"units": {1: [7]}}, r"`units` of population 1 must be from 0 to 6, got \[7\]"),
        ({"units": -1}, "`units` must be a whole number of at least 0"),
        ({"beta": 0.5}, "there is no target"),
        ({"state": (torch.zeros(1),)}, "`state` must be a SpikingState, such as that of a solution, got a tuple"),
    ],
)
def test_invalid_arguments_raise(arguments, message):
    model, (x, _) = mlp(), batch()
    with pytest.raises(ValueError, match=message):
        record(model, x, 5, **arguments)


def test_models_without_spikes_raise():
    with pytest.raises(ValueError, match="must have spiking dynamics, got Prototypical"):
        record(ep.mlp([5, 4]).double(), batch()[0], 5)


def test_non_finite_input_raises():
    model, (x, _) = mlp(), batch()
    with torch.no_grad():
        model.network.connections[0].weight[0, 0] = torch.nan
    with pytest.raises(FloatingPointError, match=r"parameter .* is not finite"):
        record(model, x, 5)
