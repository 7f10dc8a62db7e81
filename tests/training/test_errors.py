"""Every error that a user can meet: what was got, what to do."""

import re

import numpy as np
import pytest
import torch
from torch import nan

import eqprop as ep
import zoo


def small(**choices):
    return ep.mlp([4, 5, 3], settle=5, **choices)


X, Y = torch.rand(2, 4), torch.tensor([0, 2])
EP = ep.EquilibriumProp(3, 2, 0.1)


def with_parameter(value):
    model = small()
    with torch.no_grad():
        model.network.connections[1].weight[0, 0] = value
    return model


class Mean(ep.Connection):
    def phi(self, pre, post):
        return (pre.mean() * post).mean()


class Unfit(ep.Connection):
    def phi(self, pre, post):
        return (pre * post).sum(1)


def network(sizes, ends):
    return ep.Network([ep.Population(n) for n in sizes], [(i, j, ep.Dense(sizes[i], sizes[j])) for i, j in ends])


def low_rank():
    edges = [(0, 1, ep.Dense(4, 5)), (1, 2, zoo.LowRank(5, 3))]
    return ep.Model(ep.Network([ep.Population(n) for n in (4, 5, 3)], edges), ep.Prototypical(), ep.SquaredError())


CONSTRUCTORS = {
    "zero beta": (lambda: ep.EquilibriumProp(3, 2, 0.0), r"`beta` must be non-zero and finite, got 0\.0"),
    "beta nan": (lambda: ep.EquilibriumProp(3, 2, nan), r"`beta` must be non-zero and finite, got nan"),
    "beta text": (lambda: ep.EquilibriumProp(3, 2, "1"), r"`beta` must be non-zero and finite, got '1'"),
    "negative steps": (
        lambda: ep.EquilibriumProp(-3, 2, 0.1),
        r"`free_steps` must be a whole number of at least 1, got -3",
    ),
    "zero nudged steps": (
        lambda: ep.EquilibriumProp(3, 0, 0.1),
        r"`nudged_steps` must be a whole number of at least 1, got 0",
    ),
    "fractional steps": (lambda: ep.BPTT(2.5), r"`free_steps` must be a whole number of at least 1, got 2\.5"),
    "truth as steps": (lambda: ep.BPTT(True), r"`free_steps` must be a whole number of at least 1, got True"),
    "nudging": (
        lambda: ep.EquilibriumProp(3, 2, 0.1, "both"),
        r"`nudging` must be one of 'one-sided', 'centred', .*got 'both'",
    ),
    "unrolled": (lambda: ep.BPTT(5, 6), r"`unrolled_steps` must be at most the 5 free steps, got 6"),
    "no unrolled": (lambda: ep.BPTT(5, 0), r"`unrolled_steps` must be a whole number of at least 1, got 0"),
    "adjoint": (lambda: ep.ImplicitDiff(5, -1), r"`adjoint_steps` must be a whole number of at least 1, got -1"),
    "no adjoint": (lambda: ep.ImplicitDiff(5, 0), r"`adjoint_steps` must be a whole number of at least 1, got 0"),
    "settle steps": (lambda: ep.Settle(0), r"`steps` must be a whole number of at least 1, got 0"),
    "settle tol": (lambda: ep.Settle(5, tol=-1.0), r"`tol` must be a finite number above 0, got -1\.0"),
    "settle check": (
        lambda: ep.Settle(5, tol=1.0, check_every=0),
        r"`check_every` must be a whole number of at least 1",
    ),
    "nudge": (lambda: ep.Prototypical(nudge="top"), r"`nudge` must be one of 'outside', 'inside', got 'top'"),
    "dt": (lambda: ep.EnergyDescent(dt=0), r"`dt` must be a finite number above 0, got 0"),
    "large dt": (lambda: ep.EnergyDescent(dt=1.5), r"`dt` must be at most 1, got 1\.5: larger Euler steps overshoot"),
    "activation": (lambda: ep.Population(3, "sigmiod"), r"`activation` 'sigmiod' is unknown: did you mean 'sigmoid'\?"),
    "far activation": (
        lambda: ep.mlp([2, 2], activation="x"),
        r"`activation` 'x' is unknown: known: sigmoid, hard_sigmoid, .*`Activation`",
    ),
    "shape": (lambda: ep.Population(0), r"`shape` must be a whole number of at least 1, got 0"),
    "dense": (lambda: ep.Dense(3, -1), r"`n_post` must be a whole number of at least 1, got -1"),
    "one size": (lambda: ep.mlp([5]), r"`sizes` must name the input and at least one more population, got \[5\]"),
    "bare size": (lambda: ep.mlp(5), r"`sizes` must be a list of whole numbers, input first, got 5"),
    "zero size": (lambda: ep.mlp([5, 0, 2]), r"`sizes` must be a whole number of at least 1, got 0"),
    "settle of a model": (
        lambda: small(cost=ep.SquaredError()).__class__(small().network, ep.Prototypical(), ep.SquaredError(), 0),
        r"`settle` must be a whole number of at least 1, got 0",
    ),
    "mlp settle": (lambda: ep.mlp([2, 2], settle=0), r"`settle` must be a whole number of at least 1, got 0"),
    "continual beta": (lambda: ep.ContinualEP(3, 2, 0), r"`beta` must be non-zero and finite, got 0"),
    "continual tolerance": (
        lambda: ep.ContinualEP(3, ep.Settle(2, tol=1e-3), 0.1),
        r"`nudged_steps` must be a whole number of at least 1, got Settle\(steps=2",
    ),
    "continual nudging": (lambda: ep.ContinualSGD(3, 2, 0.1, 0.1, "both"), r"`nudging` must be one of .*got 'both'"),
    "continual steps": (
        lambda: ep.ContinualSGD(0, 2, 0.1),
        r"`free_steps` must be a whole number of at least 1, got 0",
    ),
    "rates in the place of nudging": (
        lambda: ep.ContinualEP(3, 2, 0.1, 0.05),
        r"`nudging` must be one of 'one-sided', .*got 0\.05",
    ),
    "negative rate": (
        lambda: ep.ContinualSGD(3, 2, 0.1, (0.1, -0.1)),
        r"`rates` must be a finite number of at least 0, got -0\.1",
    ),
    "rate nan": (lambda: ep.ContinualSGD(3, 2, 0.1, nan), r"`rates` must be a finite number of at least 0, got nan"),
    "rate text": (lambda: ep.ContinualSGD(3, 2, 0.1, "x"), r"`rates` must be a finite number of at least 0, got 'x'"),
    "no rates": (lambda: ep.ContinualSGD(3, 2, 0.1, ()), r"`rates` is empty: give one learning rate"),
    "angle, tied": (
        lambda: ep.mlp([4, 3, 2], angle=30),
        r"`angle` is 30, but tied weights are their own feedback: add `tied=False`",
    ),
    "angle": (lambda: ep.mlp([4, 3, 2], tied=False, angle=181), r"`angle` must be between 0 and 180 degrees, got 181"),
    "untied angle": (lambda: ep.Untied(ep.Dense(2, 2), -1), r"`angle` must be between 0 and 180 degrees, got -1"),
    "toy": (lambda: ep.toy(hidden=0), r"`hidden` must be a whole number of at least 1, got 0"),
    "readout": (lambda: ep.CrossEntropyReadout(0, 3), r"`features` must be a whole number of at least 1, got 0"),
    "readout units": (
        lambda: small(cost=ep.CrossEntropyReadout(7, 3)),
        r"the readout has 7 features, but the output population has 3 units",
    ),
    "empty": (
        lambda: ep.Network([ep.Population(3)], []),
        r"`populations` must hold the input and at least one more, got 1",
    ),
    "unreachable": (
        lambda: network([4, 3, 2, 2], [(0, 1), (2, 3)]),
        r"no path joins population 2 to the input: add an edge",
    ),
    "no such population": (
        lambda: ep.Network([ep.Population(3)] * 2, [(0, 2, ep.Dense(3, 3))]),
        r"edge 0 -> 2 names a population that does not exist: they are numbered 0 to 1",
    ),
    "into the input": (lambda: network([4, 3], [(1, 0)]), r"edge 1 -> 0 ends in the input, which is static"),
    "sizes": (
        lambda: ep.Network([ep.Population(4), ep.Population(3)], [(0, 1, ep.Dense(5, 3))]),
        r"edge 0 -> 1: Dense\(5, 3, bias=True\) does not fit populations of shapes \(4,\) and \(3,\)",
    ),
    "own connection": (
        lambda: ep.Network([ep.Population(4), ep.Population(3)], [(0, 1, Unfit())]),
        r"edge 0 -> 1: Unfit\(\) does not fit",
    ),
    "bridge beta": (
        lambda: ep.Equilibrium(small().network, ep.Prototypical(), 5, 5, 0.0),
        r"`beta` must be non-zero and finite, got 0\.0",
    ),
    "bridge nudge": (
        lambda: ep.Equilibrium(small().network, ep.Prototypical(), 5, 5, 1.0),
        r"outside nudge.*cannot settle",
    ),
    "bridge steps": (lambda: ep.Equilibrium(small().network, ep.Prototypical(), 5, 0, 0.1), r"`nudged_steps` must be"),
    "bridge nudging": (
        lambda: ep.Equilibrium(small().network, ep.Prototypical(), 5, 5, 0.1, "x"),
        r"`nudging` must be one of",
    ),
}

CONSTRUCTORS |= {
    "phi of a batch": (
        lambda: ep.Network([ep.Population(3)] * 2, [(0, 1, Mean())]),
        r"`phi` of Mean must return one scalar per sample, \(2,\), got \(\)",
    ),
    "dynamics": (
        lambda: ep.Model(small().network, ep.Prototypical, ep.SquaredError()),
        r"`dynamics` must be an object of class Dynamics, got the class Prototypical itself",
    ),
    "cost": (
        lambda: small(cost=ep.SquaredError),
        r"`cost` must be an object of class Cost, got the class SquaredError itself",
    ),
    "network": (
        lambda: ep.Model(small(), ep.Prototypical(), ep.SquaredError()),
        r"`network` must be an object of class Network",
    ),
    "bridge network": (
        lambda: ep.Equilibrium(small(), ep.Prototypical(), 5, 5, 0.1),
        r"`network` must be an object of class Network",
    ),
    "torch layer": (
        lambda: ep.Network([ep.Population(3)] * 2, [(0, 1, torch.nn.Linear(3, 3))]),
        r"`edges` must be an object of class Connection, got an object of class Linear",
    ),
    "bare population": (
        lambda: ep.Network([4, 3], []),
        r"`populations` must be an object of class Population, got an object of class int",
    ),
    "untied forward": (
        lambda: ep.Untied(zoo.LowRank(3, 3)),
        r"`forward` must be a Dense or a Conv2d, got LowRank\(\)",
    ),
    "angle text": (lambda: ep.Untied(ep.Dense(2, 2), "a"), r"`angle` must be between 0 and 180 degrees, got 'a'"),
    "no shape": (lambda: ep.Population(()), r"`shape` must be a whole number of at least 1, got \(\)"),
    "activation list": (lambda: ep.Population(3, ["tanh"]), r"`activation` \['tanh'\] is unknown"),
    "toy activation": (lambda: ep.toy(activation="tan"), r"`activation` 'tan' is unknown: did you mean 'tanh'\?"),
    "toy settle": (lambda: ep.toy(settle=-1), r"`settle` must be a whole number of at least 1, got -1"),
}

CALLS = {
    "x columns": (
        lambda: list(EP(small(), torch.rand(2, 5), Y)),
        r"`x` must be \(B, 4\) with B of at least 1, got \(2, 5\)",
    ),
    "x without batch": (lambda: small()(torch.rand(4)), r"`x` must be \(B, 4\) with B of at least 1, got \(4,\)"),
    "no samples": (lambda: small()(torch.rand(0, 4)), r"`x` must be \(B, 4\) with B of at least 1, got \(0, 4\)"),
    "x kind": (
        lambda: small()(torch.rand(2, 4).double()),
        r"`x` is torch\.float64 on cpu, the weights are torch\.float32 on cpu: convert",
    ),
    "x integers": (
        lambda: ep.relax(small(), torch.ones(2, 4, dtype=torch.long), 3),
        r"`x` is torch\.int64 .* convert one of them",
    ),
    "x array": (lambda: small()(X.numpy()), r"`x` must be an object of class Tensor, got an object of class ndarray"),
    "y list": (
        lambda: list(EP(small(), X, [0, 2])),
        r"`y` must be an object of class Tensor, got an object of class list",
    ),
    "y without beta": (
        lambda: ep.relax(small(), X, 3, torch.tensor([0, 77])),
        r"`y` must hold classes from 0 to 2, got 77",
    ),
    "state kind": (
        lambda: ep.relax(small(), X, 3, state=(torch.rand(2, 5), torch.rand(2, 3).double())),
        r"`state` must hold .*\(2, 3\) torch\.float32, got .*\(2, 3\) torch\.float64",
    ),
    "energy state": (
        lambda: small().energy((torch.rand(1, 5), torch.rand(1, 3)), X),
        r"`state` must hold \(2, 5\) torch\.float32, .*got \(1, 5\)",
    ),
    "bridge x": (
        lambda: ep.Equilibrium(small().network, ep.Prototypical(), 5, 5, 0.1)(torch.rand(2, 3)),
        r"`x` must be \(B, 4\) with B of at least 1, got \(2, 3\)",
    ),
    "y length": (
        lambda: list(EP(small(), X, torch.tensor([0]))),
        r"`y` must be \(2,\) classes or \(2, 3\) floats, got \(1,\) torch\.int64",
    ),
    "y columns": (
        lambda: list(EP(small(), X, torch.rand(2, 4))),
        r"`y` must be \(2, 3\) floats or \(2,\) classes, got \(2, 4\) floats",
    ),
    "y flags": (lambda: list(EP(small(), X, torch.tensor([True, False]))), r"`y` must be .* got \(2,\) torch\.bool"),
    "y class": (lambda: list(EP(small(), X, torch.tensor([0, 3]))), r"`y` must hold classes from 0 to 2, got 3"),
    "y negative": (
        lambda: list(ep.BPTT(3)(small(), X, torch.tensor([-1, 0]))),
        r"`y` must hold classes from 0 to 2, got -1",
    ),
    "y nan": (lambda: list(ep.BPTT(3)(small(), X, torch.full((2, 3), nan))), r"`y` holds values that are not finite"),
    "no target": (
        lambda: ep.relax(small(), X, 3, beta=0.1),
        r"`beta` is 0\.1, but there is no target: give `y`",
    ),
    "relax beta": (lambda: ep.relax(small(), X, 3, Y, beta=nan), r"`beta` must be a finite number, got nan"),
    "relax steps": (lambda: ep.relax(small(), X, -2), r"`steps` must be a whole number of at least 1, got -2"),
    "relax average": (
        lambda: ep.Settle(3, average=0),
        r"`average` must be a whole number of at least 1, got 0",
    ),
    "state": (
        lambda: ep.relax(small(), X, 3, state=(torch.rand(2, 5),)),
        r"`state` must hold \(2, 5\) torch\.float32, \(2, 3\) torch\.float32, got \(2, 5\) torch\.float32$",
    ),
    "outside nudge": (
        lambda: list(ep.EquilibriumProp(3, 2, -1.0)(small(), X, Y)),
        r'outside nudge .* `beta` = -1\.0 it cannot settle; take a smaller one, or `Prototypical\(nudge="inside"\)`',
    ),
    "outside nudge, relax": (lambda: ep.relax(small(), X, 3, Y, 2.0), r"outside nudge .* cannot settle"),
    "outside nudge, continual": (
        lambda: list(ep.ContinualEP(3, 2, 1.0)(small(), X, Y)),
        r"outside nudge .* cannot settle",
    ),
    "outside nudge, continual SGD": (
        lambda: list(ep.ContinualSGD(3, 2, -1.0, 0.1)(small(), X, Y)),
        r"outside nudge .* cannot settle",
    ),
    "rates left out": (
        lambda: ep.ContinualSGD(3, 2, 0.1)(small(), X, Y),
        r"`rates` is left out, and there is no optimizer to take it from: give it, or use `Trainer`",
    ),
    "three rates": (
        lambda: ep.ContinualSGD(3, 2, 0.1, (0.1, 0.2, 0.3))(small(), X, Y),
        r"`rates` names 3 learning rates, but the model has 2 connections",
    ),
    "x requires a gradient": (
        lambda: list(ep.ContinualEP(3, 2, 0.1)(small(), X.clone().requires_grad_(), Y)),
        r"`x` requires a gradient, .*: detach it, or use EquilibriumProp",
    ),
    "x requires a gradient, SGD": (
        lambda: list(ep.ContinualSGD(3, 2, 0.1, 0.1)(small(), X.clone().requires_grad_(), Y)),
        r"`x` requires a gradient",
    ),
    "x requires a gradient, any connection": (
        lambda: list(ep.ContinualSGD(3, 2, 0.1, 0.1)(low_rank(), X.clone().requires_grad_(), Y)),
        r"`x` requires a gradient",
    ),
    "continual x": (
        lambda: list(ep.ContinualEP(3, 2, 0.1)(small(), torch.rand(2, 5), Y)),
        r"`x` must be \(B, 4\) with B of at least 1, got \(2, 5\)",
    ),
    "continual y": (
        lambda: list(ep.ContinualSGD(3, 2, 0.1, 0.1)(small(), X, torch.tensor([0, 3]))),
        r"`y` must hold classes from 0 to 2, got 3",
    ),
    "energy": (
        lambda: zoo.model("own-activation", ep.Prototypical()).energy(
            (torch.rand(3, 5).double(), torch.rand(3, 3).double()), torch.rand(3, 4).double()
        ),
        r"has no `potential`",
    ),
    "phi only, up": (
        lambda: zoo.LowRank(2, 2).up(torch.rand(1, 2)),
        r"LowRank supplies only `phi`: call `up\(pre, post\)`",
    ),
    "phi only, down": (
        lambda: zoo.LowRank(2, 2).down(torch.rand(1, 2)),
        r"LowRank supplies only `phi`: call `down\(post, pre\)`",
    ),
}


def growing(factor=10.0):
    """A linear self-connection that multiplies by ``factor`` at every step, at rest at 0."""
    grow = ep.Dense(1, 1, bias=False)
    network = ep.Network([ep.Population(1, "identity")] * 2, [(0, 1, ep.Dense(1, 1, bias=False)), (1, 1, grow)])
    with torch.no_grad():
        grow.weight.fill_(factor / 2)  # u = (W + W^T) s
    return ep.Model(network, ep.Prototypical(), ep.SquaredError())


NOT_FINITE = {
    "adjoint": (
        lambda: list(ep.ImplicitDiff(5, 60)(growing(), torch.zeros(1, 1), torch.ones(1, 1))),
        r"the adjoint is not finite: the free state is unstable",
    ),
    "input inf, phi only": (
        lambda: zoo.model("nonlinear-connection", ep.Prototypical())(torch.full((2, 4), torch.inf).double()),
        r"the input \(population 0\) is not finite in 2 of 2 samples",
    ),
    "bridge cotangent": (
        lambda: (ep.Equilibrium(small().network, ep.Prototypical(), 5, 5, 0.1)(X) * nan).sum().backward(),
        r"population 2 is not finite at step 1 of the nudged phase",
    ),
    "bridge input": (
        lambda: ep.Equilibrium(small().network, ep.Prototypical(), 5, 5, 0.1)(X * nan),
        r"the input \(population 0\) is not finite",
    ),
    "input nan": (
        lambda: small()(torch.tensor([[0.0] * 4, [0, nan, 0, 0]])),
        r"the input \(population 0\) is not finite in 1 of 2 samples, the first at index 1",
    ),
    "input inf": (
        lambda: list(EP(small(activation="tanh"), torch.full((2, 4), torch.inf), Y)),
        r"the input \(population 0\) is not finite in 2 of 2 samples",
    ),
    "input, bptt": (lambda: list(ep.BPTT(3)(small(), X * nan, Y)), r"the input \(population 0\) is not finite"),
    "weight": (
        lambda: with_parameter(nan)(X),
        r"parameter connections\.1\.weight is not finite: the training diverged",
    ),
    "state": (
        lambda: ep.relax(small(), X, 3, state=(torch.rand(2, 5), torch.full((2, 3), nan))),
        r"population 2 is not finite at step 0 of the free phase",
    ),
    "overflow": (
        lambda: ep.relax(small(activation="identity"), 1e38 * X, 50, Y, 0.1),
        r"population [12] is not finite at step \d+ of the nudged phase",
    ),
}


def one_line(message):
    assert "\n" not in message
    assert len(message) < 300


@pytest.mark.parametrize("case", [*CONSTRUCTORS, *CALLS])
def test_a_bad_value_is_named_with_its_remedy(case):
    call, pattern = {**CONSTRUCTORS, **CALLS}[case]
    with pytest.raises(ValueError, match=pattern) as caught:
        call()
    one_line(str(caught.value))


@pytest.mark.parametrize("case", NOT_FINITE)
def test_what_is_not_finite_is_named(case):
    call, pattern = NOT_FINITE[case]
    with pytest.raises(FloatingPointError, match=pattern) as caught:
        call()
    one_line(str(caught.value))


def test_the_step_at_which_a_state_breaks_is_named():
    """A tenfold growth from 1e30 passes float32's 3.4e38 at a step that one can count."""
    with pytest.raises(FloatingPointError, match="population 1 is not finite at step 9 of the free phase"):
        ep.relax(growing(), torch.zeros(1, 1), 20, state=(torch.full((1, 1), 1e30),))


def test_a_broken_phase_is_repeated_in_full_precision_too():
    """In bfloat16 a growth of 1.1 a step is one of 1.102, and another step would be named."""
    model, start = growing(1.1), (torch.full((1, 1), 1e30),)
    with (
        torch.autocast("cpu", dtype=torch.bfloat16),
        pytest.raises(FloatingPointError, match="at step 207 of the free"),
    ):
        ep.relax(model, torch.zeros(1, 1), 300, state=start)


def test_large_numbers_are_finite():
    assert ep.relax(small(activation="tanh"), torch.full((2, 4), 3e38), 3).state[-1].isfinite().all()


def test_whole_numbers_of_numpy_are_whole_numbers():
    assert ep.Settle(np.int64(3)) == ep.Settle(3)


def test_losses_drawn_under_no_grad_are_refused():
    losses = EP(small(), X, Y)
    with torch.no_grad(), pytest.raises(RuntimeError, match="EquilibriumProp was called under `no_grad`"):
        next(losses)


@pytest.mark.parametrize(
    "estimator",
    [ep.ContinualEP(5, 60, 0.1), ep.ContinualSGD(5, 60, 0.1, 0.0), ep.ContinualSGD(5, 60, 0.1, 0.0, "centred")],
    ids=str,
)
def test_the_nudged_step_at_which_a_state_breaks_is_named(estimator):
    """From rest, s <- 10 s + beta (1 - s) is beta (9.9^t - 1) / 8.9, which passes float32's 3.4e38 at t = 41; so does its
    counterpart at -beta."""
    pattern = "population 1 is not finite at step 41 of the nudged phase, in which the weights move: lower the rates"
    with pytest.raises(FloatingPointError, match=pattern) as caught:
        list(estimator(growing(), torch.zeros(1, 1), torch.ones(1, 1)))
    one_line(str(caught.value))


@pytest.mark.parametrize(
    "estimator", [EP, ep.BPTT(3), ep.ImplicitDiff(3), ep.ContinualEP(3, 2, 0.1), ep.ContinualSGD(3, 2, 0.1, 0.1)]
)
def test_an_estimator_under_no_grad_is_refused(estimator):
    with torch.no_grad(), pytest.raises(RuntimeError, match=rf"{type(estimator).__name__} was called under `no_grad`"):
        estimator(small(), X, Y)


STRONG = {
    "estimator": lambda: ep.EquilibriumProp(3, 2, 0.7)(small(), X, Y),
    "continual": lambda: ep.ContinualEP(3, 2, 0.7)(small(), X, Y),
    "continual SGD": lambda: ep.ContinualSGD(3, 2, 0.7, 0.1)(small(), X, Y),
    "relax": lambda: ep.relax(small(), X, 3, Y, 0.7),
    "bridge": lambda: ep.Equilibrium(small().network, ep.Prototypical(), 3, 2, 0.7),
}


@pytest.mark.parametrize("call", STRONG)
def test_a_strong_outside_nudge_is_warned_of_where_it_is_asked_for(call):
    message = re.escape('above 0.55; take a smaller one, or `Prototypical(nudge="inside")`')  # a^2 > 1 - beta
    with pytest.warns(UserWarning, match=message) as caught:
        STRONG[call]()
    assert caught[0].filename == __file__


def test_energy_dynamics_bear_strong_nudges():
    assert len(list(ep.EquilibriumProp(3, 2, 2.0)(small(dynamics=ep.EnergyDescent()), X, Y))) == 1
