"""Measurements of a report, on handmade series whose results are sums of a few numbers."""

import json
from dataclasses import replace
from math import acos, degrees, sqrt

import pytest
import torch
from torch import Tensor

import eqprop as ep
import zoo
from eqprop._core.angles import angle_between
from eqprop.theorem import Series
from eqprop.theorem.report import output_distances, parameter_labels


def process(ep_side, bptt):
    return Series(torch.tensor(ep_side, dtype=torch.double), torch.tensor(bptt, dtype=torch.double))


def opposite(shape, scale=1.0):
    """Return a series that satisfies the theorem up to a factor."""
    nabla = torch.randn(shape, dtype=torch.double)
    return Series(-scale * nabla, nabla)


@pytest.mark.parametrize(
    ("ups", "downs", "error"),
    [
        ([[1.0], [2.0]], [[-1.0], [-2.0]], 0.0),
        ([[0.0], [0.0]], [[0.0], [0.0]], 0.0),
        ([[0.0], [0.0]], [[3.0], [4.0]], 1.0),
        ([[3.0], [4.0]], [[0.0], [0.0]], 1.0),
        ([[1.0], [2.0]], [[1.0], [2.0]], 2.0),
        ([[3.0], [4.0]], [[-3.0], [0.0]], 0.8),  # |(0, 4)| / |(3, 4)|
        ([[3.0], [0.0]], [[-3.0], [-4.0]], 0.8),  # the larger norm is BPTT's
        ([[1.0], [0.0]], [[0.0], [1.0]], sqrt(2)),
        ([[1.0, 5.0, 0.0], [2.0, 5.0, 0.0]], [[-1.0, 5.0, 0.0], [-2.0, 5.0, 0.0]], 2 / 3),  # a mean over components
        ([[1.0, 100.0], [0.0, 0.0]], [[0.0, -100.0], [0.0, 0.0]], 1 / 2),  # each has the same say
    ],
)
def test_relative_error(ups, downs, error):
    assert process(ups, downs).relative_error() == pytest.approx(error, abs=1e-15)


def test_relative_errors_by_component():
    found = process([[[1.0, 3.0]], [[1.0, 4.0]]], [[[-1.0, 0.0]], [[-1.0, -4.0]]]).relative_errors()
    torch.testing.assert_close(found, torch.tensor([[0.0, 0.6]], dtype=torch.double))


def test_a_floor_bounds_small_norms():
    """Norms 0.003 and 4: below a floor of 0.3 the first error, 1, becomes 0.003 / 0.3."""
    made = process([[0.003, 4.0]], [[0.0, 0.0]])
    assert made.relative_error() == pytest.approx(1)
    assert made.relative_error(floor=0.3) == pytest.approx((0.01 + 1) / 2)
    assert made.relative_error(floor=8.0) == pytest.approx((0.003 / 8 + 0.5) / 2)
    assert process([[0.0]], [[0.0]]).relative_error(floor=1.0) == 0


def test_accumulated_sums_and_later_steps():
    made = process([[1.0], [2.0], [4.0]], [[-1.0], [0.0], [-6.0]])
    assert made.accumulated().ep.flatten().tolist() == [1, 3, 7]
    assert made.accumulated().bptt.flatten().tolist() == [-1, -1, -7]
    assert made.relative_error() == pytest.approx(sqrt(4 + 4) / sqrt(37))
    assert made.accumulated().relative_error() == pytest.approx(2 / sqrt(59))
    assert made.from_step(1).ep.flatten().tolist() == [2, 4]
    assert made.from_step(2).relative_error() == pytest.approx(1 / 3)
    assert made.relative_error(accumulated=True) == pytest.approx(2 / sqrt(59))
    assert made.relative_error(floor=20.0, accumulated=True) == pytest.approx(2 / 20)
    assert (
        made.from_step(3).relative_error() == made.from_step(3).relative_error(accumulated=True) == 0
    )  # nothing is left


def test_batch_mean():
    """Errors of 1 with opposite signs cancel in the mean."""
    made = process([[[2.0], [0.0]]], [[[-1.0], [-1.0]]])
    assert made.batch_mean().ep.tolist() == [[1.0]]
    assert made.batch_mean().relative_error() == 0
    assert made.relative_error() == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize(
    ("ups", "downs", "cosine"),
    [
        ([[1.0, 0.0]], [[-5.0, 0.0]], 1),
        ([[1.0, 0.0]], [[5.0, 0.0]], -1),
        ([[1.0], [0.0]], [[0.0], [7.0]], 0),
        ([[1.0, 0.0], [0.0, 0.0]], [[-1.0, 0.0], [-1.0, 0.0]], 1 / sqrt(2)),
        ([[0.0]], [[0.0]], 1),
        ([[0.0]], [[1.0]], 0),
    ],
)
def test_cosine(ups, downs, cosine):
    assert process(ups, downs).cosine() == pytest.approx(cosine, abs=1e-15)


def test_sign_agreement_compares_the_sums_and_counts_zeros_separately():
    """Totals (1, 1, -1, 0, 0, 2) against (3, -1, -1, 0, 2, 0): of five that are not both zero two agree."""
    ups = [[2.0, 1.0, -1.0, 1.0, 0.0, 1.0], [-1.0, 0.0, 0.0, -1.0, 0.0, 1.0]]
    downs = [[-3.0, 1.0, 1.0, 0.0, -1.0, 1.0], [0.0, 0.0, 0.0, 0.0, -1.0, -1.0]]
    agreement = process(ups, downs).sign_agreement()
    assert agreement.same == pytest.approx(2 / 5)
    assert agreement.zero == pytest.approx(1 / 6)
    assert process([[0.0, 0.0]], [[0.0, 0.0]]).sign_agreement() == (1, 1)
    assert opposite((3, 4, 2)).sign_agreement() == (1, 0)


def test_stuck_components_have_a_gradient_and_never_move():
    ups = [[0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 0.0]]
    downs = [[0.0, 0.0, 1.0, 1.0], [0.0, 1.0, 1.0, 1.0]]
    assert process(ups, downs).stuck() == 2 / 4


def test_angle_between():
    def angle(a, b):
        return angle_between([torch.tensor(part) for part in a], [torch.tensor(part) for part in b])

    assert angle([[1.0], [0.0]], [[1.0], [1.0]]) == pytest.approx(45)
    assert angle([[[1.0, 2.0]], [3.0]], [[[-1.0, -2.0]], [-3.0]]) == pytest.approx(180)
    assert angle([[0.0]], [[0.0]]) == 0
    assert angle([[0.0]], [[1.0]]) == angle([[1.0]], [[0.0]]) == 90
    assert angle([], []) == 0
    for digits in torch.rand(200, 7):  # round-off must not leave the cosine above 1
        assert angle([digits.tolist()], [(3 * digits).tolist()]) == pytest.approx(0, abs=1e-3)


def report_of(neurons, parameters, near=None, free=None) -> ep.GDUReport:
    """Return a report with these series; other fields are arbitrary."""
    model = zoo.model("chain", ep.EnergyDescent(dt=0.4, clamp=False))
    like = ep.gdu(model, *zoo.batch(model), 4, 3, 0.1)
    still: list[Tensor] = [torch.zeros_like(p.ep) for p in neurons]
    return replace(
        like,
        neurons=neurons,
        parameters=parameters,
        free=free or still,
        labels={name: name for name in parameters},
        distances=near or [0] * len(neurons),
    )


def test_relative_error_of_a_report():
    """Step 0 is wrong by a sign everywhere; s1 is reached at step 2 only, and moves before."""
    early = process([[[9.0]], [[5.0]], [[3.0]]], [[[0.0]], [[0.0]], [[-3.0]]])
    weight = process([[[1.0]], [[3.0]], [[4.0]]], [[[1.0]], [[-3.0]], [[-4.0]]])
    report = report_of([early, opposite((3, 1, 1))], {"network.w": weight}, near=[2, 0])
    assert report.relative_error() == pytest.approx({"s1": sqrt(106 / 115), "s2": 0, "network.w": 2 / sqrt(26)})
    assert report.relative_error(first=False) == pytest.approx({"s1": 5 / sqrt(34), "s2": 0, "network.w": 0})
    assert report.relative_error(mask=True) == pytest.approx({"s1": 0, "s2": 0, "network.w": 2 / sqrt(26)})
    assert report.relative_error(mask=True, first=False)["s1"] == 0
    assert report.relative_error(floor=52.0)["network.w"] == pytest.approx(2 / 52)
    # sums: 1, 4, 8 against 1, -2, -6; from step 1 on 3, 7 against -3, -7
    found = report.relative_error(accumulated=True)
    assert found == pytest.approx(
        {"s1": sqrt((81 + 196 + 196) / (81 + 196 + 289)), "s2": 0, "network.w": sqrt((4 + 4 + 4) / 81)}
    )
    assert report.relative_error(accumulated=True, first=False)["network.w"] == 0


def test_neurons_are_averaged_over_the_batch_first():
    samples = process([[[2.0], [0.0]]], [[[-1.0], [-1.0]]])
    report = report_of([samples], {})
    assert report.relative_error() == {"s1": 0}
    assert report.cosine() == pytest.approx({"s1": 2 / sqrt(8)})
    assert report_of([process([[[1.0], [-1.0]]], [[[1.0], [1.0]]])], {}).stuck() == {"s1": 1}


def test_angle_is_of_the_networks_weights():
    """(1, 1) against (1, 0) or, from step 1 on, (-2, 1) against (0, -4); biases and the readout do not count."""
    parameters = {
        "network.a.weight": process([[[3.0]], [[-2.0]]], [[[-1.0]], [[0.0]]]),
        "network.b.weight": process([[[0.0]], [[1.0]]], [[[-4.0]], [[4.0]]]),
        "network.a.bias": process([[9.0], [9.0]], [[9.0], [9.0]]),
        "cost.weight": process([[[9.0]], [[0.0]]], [[[9.0]], [[0.0]]]),
    }
    report = report_of([opposite((2, 1, 1))], parameters)
    assert report.angle() == pytest.approx(45)
    assert report.angle(first=False) == pytest.approx(degrees(acos(-1 / sqrt(5))))
    assert list(report.sign_agreement()) == list(parameters)


def test_free_share():
    """|free| over the larger of |free| and |ep|."""
    moves = [process([[[4.0]]], [[[1.0]]]), process([[[0.0]]], [[[1.0]]]), process([[[3.0]]], [[[1.0]]])]
    free = [torch.tensor([[[v]]]).double() for v in (1.0, 0.0, 6.0)]
    assert report_of(moves, {}, free=free).free_share() == {"s1": 0.25, "s2": 0, "s3": 1}


LABELS = {
    "chain": ["0→1 weight", "0→1 bias", "1→2 weight", "1→2 bias"],
    "parallel": ["0→1 weight", "0→1 bias", "1→2 (1) weight", "1→2 (1) bias", "1→2 (2) weight"],
    "lateral": ["0→1 weight", "0→1 bias", "1→1 weight", "1→2 weight", "1→2 bias"],
    "downward": ["0→1 weight", "0→1 bias", "2→1 weight", "2→1 bias"],
    "own-lateral": ["0→1 weight", "0→1 bias", "1→1 u", "1→1 v", "1→2 weight", "1→2 bias"],
}


@pytest.mark.parametrize("name", LABELS)
def test_labels(name):
    network = zoo.GRAPHS[name].network()
    names = [f"network.{n}" for n, _ in network.named_parameters()]
    assert parameter_labels(network, names) == dict(zip(names, LABELS[name], strict=True))


def test_labels_of_untied_weights_and_of_a_readout():
    model = ep.mlp([4, 5, 3], tied=False, cost=ep.CrossEntropyReadout(3, 2))
    found = ep.gdu(model, torch.rand(2, 4), torch.tensor([0, 1]), 5, 2, 0.1).labels
    assert list(found) == [name for name, _ in model.named_parameters()]
    assert list(found.values()) == [
        *("0→1 weight", "0→1 bias", "1→2 upward.weight", "1→2 upward.bias", "1→2 feedback"),
        *("cost.weight", "cost.bias"),
    ]


DISTANCES = {"one-layer": [0], "chain": [1, 0], "deep-chain": [2, 1, 0], "input-skip": [1, 0], "skip": [1, 1, 0]}


@pytest.mark.parametrize("name", DISTANCES)
def test_distances(name):
    assert output_distances(zoo.GRAPHS[name].network()) == DISTANCES[name]


def test_distances_do_not_pass_through_the_input():
    """It is static: the nudge goes from 4 over 3 and 2 to 1, though 1 and 4 have the input in common."""
    edges = [(0, 1), (1, 2), (2, 3), (3, 4), (0, 4)]
    network = ep.Network([ep.Population(2)] * 5, [(i, j, ep.Dense(2, 2)) for i, j in edges])
    assert output_distances(network) == [3, 2, 1, 0]


@pytest.mark.parametrize("name", zoo.GRAPHS)
@pytest.mark.parametrize("dynamics", [ep.Prototypical(), ep.EnergyDescent(dt=0.4, clamp=False)], ids=["P", "EB"])
def test_a_distance_is_the_step_at_which_the_gradient_arrives(name, dynamics):
    model = zoo.model(name, dynamics)
    report = ep.gdu(model, *zoo.batch(model), 8, 4, 0.1)
    for process, distance in zip(report.neurons, report.distances, strict=True):
        assert (process.bptt[:distance] == 0).all()
        assert process.bptt[distance].any()


def test_the_summary_is_json_and_agrees_with_the_methods():
    model = zoo.model("skip", ep.EnergyDescent(dt=0.4, clamp=True), "readout")
    report = ep.gdu(model, *zoo.batch(model), ep.Settle(400, tol=1e-3, check_every=1), 4, 0.1, "centred")
    found = json.loads(json.dumps(report.summary(), allow_nan=False))
    assert found["free_steps"] == report.steps < 400
    assert (found["nudged_steps"], found["beta"], found["nudging"]) == (4, 0.1, "centred")
    assert (found["samples"], found["dtype"], found["dt"], found["against"]) == (zoo.BATCH, "float64", 0.4, "dL/ds")
    assert found["residual"] == report.residual.max().item()
    assert (found["angle"], found["angle_without_first"]) == (report.angle(), report.angle(first=False))
    assert [a["name"] for a in found["assumptions"] if not a["holds"]] == [a.name for a in report.broken]
    assert list(found["populations"]) == list(report.populations) == ["s1", "s2", "s3"]
    assert list(found["parameters"]) == list(report.parameters)
    for name, measures in (found["populations"] | found["parameters"]).items():
        assert measures["relative_error"] == report.relative_error()[name]
        assert measures["accumulated"] == report.relative_error(accumulated=True)[name]
        assert measures["without_first"] == report.relative_error(first=False)[name]
        assert measures["masked"] == report.relative_error(mask=True)[name]
        assert measures["cosine"] == report.cosine()[name]
    for name, measures in found["populations"].items():
        assert (measures["stuck"], measures["free_share"]) == (report.stuck()[name], report.free_share()[name])
    for name, measures in found["parameters"].items():
        assert (measures["same_sign"], measures["both_zero"]) == report.sign_agreement()[name]
        assert measures["label"] == report.labels[name]
