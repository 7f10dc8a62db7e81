"""The studies of lin2024: agreement of gradients, distances while settling, memory; their tables and figures."""

import json
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eqprop as ep
from eqprop import plots
from eqprop._core.memory import peak_bytes
from eqprop._core.state import mean_distance
from eqprop.connections.dense import Dense
from eqprop.dynamics.energy import EnergyDescent
from eqprop.models.convnet import ConvNet
from eqprop.models.mlp import MLP
from eqprop.network import Network, Population
from eqprop.papers.lin2024.recipes import OTHERS
from eqprop.papers.lin2024.reproduction import LIN2024, centred_phases, spiking_rows
from eqprop.papers.lin2024.spiking_alignment import BASIN, BPTT, CEILING, RATE, SpikingAlignment, _layer_names
from eqprop.papers.lin2024.spiking_settling import SpikingSettling
from eqprop.papers.lin2024.spiking_studies import RateTraining, Variant, count_progress
from eqprop.papers.lin2024.training_memory import TrainingMemory, training_step
from eqprop.papers.reproduction.records import Findings, Training, load_study
from eqprop.papers.reproduction.tables import training_tables
from eqprop.solvers.settle import Settle
from eqprop.spiking import Spiking
from eqprop.theorem.alignment import align_layers, bptt_at_rest, estimate_gradient, layer_vectors, loss_gradient
from eqprop.training import SGD, Data, Run
from picture_files import check

NET = ConvNet((1, 8, 8), (4, 6), kernel_size=3, padding=1, pool="avg", dense=(16, 10), dynamics=EnergyDescent(dt=0.5))
RUN = Run("tiny", Data("digits", 20), NET, ep.EquilibriumProp(10, 4, 0.5, "centred"), SGD(0.05, momentum=0.9), epochs=1)
MAX = replace(RUN, model=replace(NET, pool="max"))
TRAININGS = {"avg": RateTraining(RUN, 2), "max": RateTraining(MAX, 2)}
VARIANTS = {"average": Variant("avg", Spiking()), "max": Variant("max", Spiking())}
ALIGNMENT = SpikingAlignment(TRAININGS, VARIANTS, centred_phases(12, 8, 0.5), batches=1, size=4, unrolled_steps=5)


def ignore(*numbers: int) -> None:
    """Ignore progress."""


def batch(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 8, 8, generator=source), torch.arange(n)


def built(**options) -> ep.Model:
    """Return a model with positive biases, so that no unit is stuck at 0."""
    torch.manual_seed(0)
    model = replace(NET, **options).build()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.fill_(0.3)
    return model


def test_a_gradient_agrees_with_itself_and_not_with_its_negative():
    model = built()
    found = estimate_gradient(ep.BPTT(20), model, *batch())
    edges = ["0→1", "1→2", "2→3", "3→4"]
    assert list(align_layers(model, found, found)) == edges == list(layer_vectors(model, found))
    for factor, cosine in ((1.0, 1.0), (3.0, 1.0), (-0.5, -1.0)):
        for both in align_layers(model, {name: factor * g for name, g in found.items()}, found).values():
            assert (both.cosine, both.ratio) == (pytest.approx(cosine), pytest.approx(abs(factor)))
    assert _layer_names(model) == ["conv 0→1", "conv 1→2", "dense 2→3", "dense 3→4"]


def test_agreement_is_that_of_all_parameters_of_a_connection():
    """By hand: weight (1, 2, 2) and bias 0 against weight (2, 0, 0) and bias 2: cosine 2 / (3 sqrt 8), ratio 3 / sqrt 8."""
    model = ep.mlp([3, 1])
    names = [name for name, _ in model.named_parameters()]
    of = dict(zip(names, (torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([0.0])), strict=True))
    to = dict(zip(names, (torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([2.0])), strict=True))
    both = align_layers(model, of, to)["0→1"]
    assert (both.cosine, both.ratio) == (pytest.approx(2 / 72**0.5), pytest.approx(3 / 8**0.5))
    nothing = {name: torch.zeros_like(g) for name, g in to.items()}
    assert align_layers(model, nothing, to)["0→1"].cosine == 0
    with pytest.raises(ValueError, match="`reference` is zero in layer 0→1: leave this batch out"):
        align_layers(model, of, nothing)
    with pytest.raises(ValueError, match=r"has no 'network.connections.0.bias'"):
        align_layers(model, {names[0]: of[names[0]]}, to)


def test_gradient_leaves_grad_untouched():
    model, (x, y) = built(), batch()
    found = estimate_gradient(ep.BPTT(20), model, x, y)
    assert all(p.grad is None for p in model.parameters())
    for loss in ep.BPTT(20)(model, x, y):
        loss.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad)
    with pytest.raises(ValueError, match="must yield one loss for each batch, ContinualEP yielded"):
        estimate_gradient(ep.ContinualEP(5, 3, 0.5), model, x, y)


def test_bptt_at_rest_is_bptt_of_a_settled_phase():
    """With one steady state and a long free phase, the initial state and the split of the phase do not matter."""
    model, (x, y) = built().double(), batch()
    x = x.double()
    start = model.dynamics.init(model.network, x)
    found = bptt_at_rest(model, x, y, start, rest=Settle(200), unrolled_steps=7)
    against = estimate_gradient(ep.BPTT(207, 7), model, x, y)
    assert list(found) == list(against)
    for name in found:
        torch.testing.assert_close(found[name], against[name])


def test_bptt_at_rest_stays_in_its_basin():
    """A unit that feeds 2 s back to itself, with a bias of -1, stays where it starts: at 0 or at 1.

    One step from there is s/2 + (2 s - 1)/2, at 1 as at 0 on the edge of the clip, whose slope is 1 on the closed interval at 1 and
    0 below 0. So by the bias dL/db = dt (s - y) at 1, and 0 at 0.
    """
    own, up = Dense(1, 1, bias=False), Dense(1, 1)
    network = Network([Population(1), Population(1)], [(0, 1, up), (1, 1, own)])
    with torch.no_grad():
        for p, value in ((own.weight, 1.0), (up.weight, 0.0), (up.bias, -1.0)):
            p.fill_(value)
    model, x, y = ep.Model(network, EnergyDescent(dt=0.5), ep.SquaredError()), torch.zeros(1, 1), torch.tensor([[0.25]])
    found = [bptt_at_rest(model, x, y, (torch.tensor([[start]]),), unrolled_steps=1) for start in (0.0, 1.0)]
    assert [one["network.connections.0.bias"].item() for one in found] == [0.0, 0.5 * 0.75]


def test_ep_from_a_state_continues_the_free_phase():
    model, (x, y) = built(), batch()
    estimator = ep.EquilibriumProp(6, 4, 0.5, "centred")
    zero = model.dynamics.init(model.network, x)
    (loss,) = estimator.from_state(model, x, y, zero)
    whole = estimate_gradient(ep.EquilibriumProp(9, 4, 0.5, "centred"), model, x, y)
    half = ep.relax(model, x, 3).state
    (later,) = estimator.from_state(model, x, y, half)
    for name, g in loss_gradient(loss, model).items():
        torch.testing.assert_close(g, estimate_gradient(estimator, model, x, y)[name], rtol=0, atol=0)
    for name, g in loss_gradient(later, model).items():
        torch.testing.assert_close(g, whole[name], rtol=0, atol=0)
    with pytest.raises(ValueError, match="`state` must hold"):
        list(estimator.from_state(model, x, y, zero[:1]))


def test_a_rate_network_aligns_with_itself():
    """Without spikes the rate model is the model itself: cosine and ratio to rate EP are 1."""
    found = ALIGNMENT.measure(built(), [batch()])
    assert list(found) == [RATE, BASIN, BPTT, CEILING]
    for both in found[RATE]["layers"].values():
        assert (both["cosine"], both["ratio"]) == (pytest.approx([1.0]), pytest.approx([1.0]))
    assert found[BPTT]["left out"] == 0


def test_batches_with_a_vanishing_gradient_are_left_out_and_counted():
    """A network with zero weights stays at 0, and its gradient by BPTT vanishes below the output."""
    model = built(dynamics=Spiking())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    found = ALIGNMENT.measure(model, [batch(), batch()])
    assert [facts["left out"] for facts in found.values()] == [2, 2, 2, 2]
    assert found[BPTT]["layers"]["conv 0→1"] == {"cosine": [], "ratio": []}


def test_the_alignment_of_the_study_equals_a_recomputation():
    """First batch of the test digits, trained weights; the gradients are concatenated by hand."""
    calls: list[tuple[int, int]] = []
    found = ALIGNMENT.compute("cpu", None, lambda *both: calls.append(both))
    assert [done for done, _ in calls] == sorted(done for done, _ in calls)
    assert calls[-1][0] == calls[-1][1]
    training = TRAININGS["avg"]
    model = VARIANTS["average"].build(training, training.trained_weights("cpu"))
    x, y = training.test_batches(4, 1, "cpu")[0]
    ours, theirs = (estimate_gradient(ALIGNMENT.estimator, m, x, y) for m in (model, model.rate_model()))
    for n, name in enumerate(_layer_names(model)):
        keys = [f"network.connections.{n}.{part}" for part in ("weight", "bias")]
        g, h = (torch.cat([one[key].flatten() for key in keys]) for one in (ours, theirs))
        cosine = torch.nn.functional.cosine_similarity(g, h, dim=0).item()
        assert found["trained"]["average"][RATE]["layers"][name]["cosine"][0] == pytest.approx(cosine, abs=1e-5)
    table = ALIGNMENT.table(json.loads(json.dumps(found)))
    assert len(table.rows) == 2 * 2 * 4
    assert table.head[3:7] == tuple(_layer_names(model))
    assert len(list(ALIGNMENT.summary(found))) == 2
    assert "T 12, K 8, beta 0.5" in ALIGNMENT.text


def test_rate_training_equals_the_trainers_first_batches():
    """Two batches by hand from the same weights and in the same order."""
    from eqprop.training.session import prepare_run

    session = prepare_run(RUN)
    optimizer = RUN.optimizer.build(session.model)
    for (x, y), _ in zip(session.train, range(2), strict=False):
        for loss in RUN.estimator(session.model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for name, value in TRAININGS["avg"].trained_weights("cpu").items():
        torch.testing.assert_close(value, session.model.state_dict()[name], rtol=0, atol=0)


SETTLING = SpikingSettling(TRAININGS, {"pooling": VARIANTS}, (2, 5, 100), images=3)


def test_distances_equal_a_recomputation():
    found = json.loads(json.dumps(SETTLING.compute("cpu", None, ignore)))
    training = TRAININGS["avg"]
    model = VARIANTS["average"].build(training, training.trained_weights("cpu"))
    x, _ = training.test_batches(3, 1, "cpu")[0]
    rest = ep.relax(model.rate_model(), x, 600).state
    for n, tick in enumerate(SETTLING.ticks):
        u = model.dynamics.units(ep.relax(model, x, tick).state)
        apart = sum((a - b).abs().sum().item() for a, b in zip(u, rest, strict=True)) / sum(a.numel() for a in u)
        for which in ("own", "zero"):
            assert found["pooling"]["average"][which][n] == pytest.approx(apart, rel=1e-3, abs=1e-6)
    assert found["pooling"]["average"]["apart"] < 1e-6  # average pooling of small weights has one steady state
    assert len(SETTLING.table(found).rows) == 2
    (said,) = SETTLING.summary(found)
    assert "after 100 ticks" in said


def test_mean_distance():
    u = (torch.rand(2, 3), torch.rand(2, 1))
    assert mean_distance(u, u) == 0
    assert mean_distance(u, tuple(v + 0.5 for v in u)) == pytest.approx(0.5)


def kept(n: int) -> torch.Tensor:
    """At most three blocks of 4 n bytes are alive at the same time; views and in-place operations allocate nothing."""
    a = torch.zeros(n)
    b = a + 1
    c = b * 2
    a.add_(1).view(-1)[1:].mul_(3)
    del a, b
    return c.clone() + 1


def test_the_peak_is_that_of_known_blocks():
    assert peak_bytes(lambda: kept(1000)) == 12000
    there = torch.zeros(5000)
    assert peak_bytes(lambda: there.add_(1).view(50, 100).t()) == 0
    assert peak_bytes(lambda: [torch.zeros(10) for _ in range(7)]) == 7 * 40


def test_tensors_saved_by_autograd_are_counted():
    """tanh saves its result: a chain of n saves n; the backward pass adds a fixed number of gradients."""
    w = torch.ones(1000, requires_grad=True)

    def chain(n: int) -> None:
        s = w
        for _ in range(n):
            s = s.tanh()
        s.sum().backward()
        w.grad = None

    few, many = peak_bytes(lambda: chain(5)), peak_bytes(lambda: chain(25))
    assert many - few == 20 * 4000


def test_peak_bytes_keeps_no_reference():
    gone = []

    def work() -> None:
        x = torch.zeros(10)
        gone.append(weakref.ref(x))

    peak_bytes(work)
    assert gone[0]() is None


SPIKING = replace(RUN, model=replace(NET, dynamics=Spiking()))


def step(estimator):
    model = SPIKING.build()
    x, y = batch(100)
    return training_step(model, estimator, SPIKING.optimizer.build(model), x, y % 10)


@pytest.mark.parametrize("estimator", [centred_phases(8, 4, 0.5), ep.BPTT(8, surrogate=True)], ids=["ep", "bptt"])
def test_the_peak_is_that_of_the_allocator(estimator):
    """As measured by torch's profiler, up to scratch memory within an operation."""
    ours = peak_bytes(step(estimator))
    work = step(estimator)
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as watched:
        work()
    live = peak = 0
    for event in watched.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            peak = max(peak, live)
    assert ours <= peak <= 1.1 * ours


def test_eps_peak_does_not_grow_and_bptts_does():
    study = TrainingMemory(SPIKING, (8, 16, 32), average=2, batch=4)
    found = json.loads(json.dumps(study.compute("cpu", None, ignore)))
    for label, peaks in found["peaks"].items():
        if label.startswith("EP"):
            assert max(peaks) <= 1.02 * min(peaks), label
        else:
            assert peaks[2] - peaks[1] == pytest.approx(2 * (peaks[1] - peaks[0]), rel=0.02), label
    again = study.step(study.candidates(8)["EP, spikes"][0], rates=False, device="cpu")
    assert found["peaks"]["EP, spikes"][0] == peak_bytes(again)
    assert study.table(found).rows[0][1].endswith("MiB (1x)")
    assert "+0.0 % against T = 8" in next(iter(study.summary(found)))


def test_cells_that_do_not_fit_in_memory_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr("eqprop.papers.lin2024.training_memory._free_bytes", lambda device: 1)
    study = TrainingMemory(SPIKING, (8, 16), average=2, batch=4)
    found = study.compute("cpu", None, ignore)
    assert [peaks[1] for peaks in found["peaks"].values()] == [None] * 4
    assert study.table(found).rows[2][2] == "left out"
    assert list(study.summary(found))
    study.draw(found, tmp_path / "picture")
    assert "more than 60% of the free memory" in study.text


def test_count_progress():
    calls = []
    count = count_progress(lambda done, total: calls.append((done, total)), 5)
    for more in (2, 3, 4):
        count(more)
    assert calls == [(2, 5), (5, 5), (5, 5)]


def test_a_study_is_found_by_its_key(tmp_path):
    file = tmp_path / "study.json"
    for study, other in (
        (ALIGNMENT, replace(ALIGNMENT, batches=2)),
        (SETTLING, replace(SETTLING, trainings={"avg": replace(TRAININGS["avg"], batches=3)})),
        (TrainingMemory(SPIKING), TrainingMemory(SPIKING, batch=4)),
    ):
        file.write_text(json.dumps({"key": study.key, "found": {}}))
        assert load_study(file, study) is not None
        assert load_study(file, other) is None


def test_the_figures(tmp_path):
    layer = {"conv 0→1": [0.9, 1.0], "dense 1→2": [0.5]}
    panels = {("rate EP", "initial"): {"average": layer, "max": {**layer, "conv 0→1": []}}}
    plots.layer_bars(panels, tmp_path / "a/bars", marks=panels, mark="best")
    check(tmp_path / "a/bars", "average", "dense", "best")
    curve = [(1.0, 0.1), (10.0, 0.01)]
    plots.distances({"one": {"average": curve}, "two": {"x": curve}}, tmp_path / "b/far", apart={"average": curve})
    check(tmp_path / "b/far", "average", "one", "two")
    plots.over_length({"EP": [(25.0, 10.0), (50.0, 10.0)]}, tmp_path / "c/long", "length", "memory")
    check(tmp_path / "c/long", "EP", "length", "memory")
    for empty in (plots.layer_bars, plots.distances):
        with pytest.raises(ValueError, match="`panels` is empty"):
            empty({}, tmp_path / "d")


def test_rows_of_one_recipe_have_labels():
    rows = spiking_rows("spiking-mnist")
    assert [row.method for row in rows] == ["EP, spikes", "EP, rates", "BPTT, rates", "BPTT through spikes"]
    epochs = [{"test_error": 0.0123, "train_error": 0.01, "seconds": 1.0}] * 6
    found = Findings(Path("nowhere"), trainings={rows[0].command: [Training(rows[0].run, epochs, {})]})
    results, runs = training_tables(rows, found)
    assert results.rows[0][:4] == ["spiking-mnist", "EP, spikes", "0.97 %", "1.23 %"]
    assert [row[1] for row in results.rows] == [row.method for row in rows]
    assert len({row[0] for row in runs.rows}) == 4
    assert LIN2024.other_results is not None
    assert [row[0] for row in LIN2024.other_results.rows] == [work for work, *_ in OTHERS]


def test_the_dense_network_is_one_of_its_rows():
    (row, *_) = spiking_rows("spiking-dense")
    assert isinstance(row.run.model, MLP)
