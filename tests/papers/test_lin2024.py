"""What ``eqprop reproduce lin2024`` computes: agreement of gradients, distances while settling, memory; its table and pictures."""

import json
import weakref
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eqprop as ep
from command import call
from eqprop import plots
from eqprop._core.memory import peak_bytes
from eqprop._core.state import mean_distance
from eqprop.connections.dense import Dense
from eqprop.dynamics.energy import EnergyDescent
from eqprop.models.convnet import ConvNet
from eqprop.models.mlp import MLP
from eqprop.network import Network, Population
from eqprop.papers.lin2024.rate_training import RateTraining, Variant, counter
from eqprop.papers.lin2024.recipes import OTHERS
from eqprop.papers.lin2024.reproduction import LIN2024, phases, rows_of
from eqprop.papers.lin2024.spiking_alignment import BASIN, BPTT, CEILING, RATE, SpikingAlignment, layer_names
from eqprop.papers.lin2024.spiking_settling import SpikingSettling
from eqprop.papers.lin2024.training_memory import SKIP, TrainingMemory, training_step
from eqprop.papers.reproduction.records import Training, study_in
from eqprop.papers.reproduction.tables import Findings, training_tables
from eqprop.solvers.settle import Settle
from eqprop.spiking import Spiking
from eqprop.theorem.alignment import agreement, bptt_at_rest, gradient, gradient_of, layers
from eqprop.training import SGD, Data, Run
from eqprop.training.session import read_run
from picture_files import check
from small_sets import isolate

NET = ConvNet((1, 8, 8), (4, 6), kernel_size=3, padding=1, pool="avg", dense=(16, 10), dynamics=EnergyDescent(dt=0.5))
RUN = Run("tiny", Data("digits", 20), NET, ep.EquilibriumProp(10, 4, 0.5, "centred"), SGD(0.05, momentum=0.9), epochs=1)
MAX = replace(RUN, model=replace(NET, pool="max"))
TRAININGS = {"avg": RateTraining(RUN, 2), "max": RateTraining(MAX, 2)}
VARIANTS = {"average": Variant("avg", Spiking()), "max": Variant("max", Spiking())}
ALIGNMENT = SpikingAlignment(TRAININGS, VARIANTS, phases(12, 8, 0.5), batches=1, size=4, unrolled_steps=5)


def ignore(*numbers: int) -> None:
    """Is told of progress."""


def batch(n: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    source = torch.Generator().manual_seed(0)
    return torch.rand(n, 1, 8, 8, generator=source), torch.arange(n)


def built(**options) -> ep.Model:
    """A model whose units are alive."""
    torch.manual_seed(0)
    model = replace(NET, **options).build()
    with torch.no_grad():
        for p in model.parameters():
            if p.dim() == 1:
                p.fill_(0.3)
    return model


def test_a_gradient_agrees_with_itself_and_not_with_its_negative():
    model = built()
    found = gradient(ep.BPTT(20), model, *batch())
    edges = ["0→1", "1→2", "2→3", "3→4"]
    assert list(agreement(model, found, found)) == edges == list(layers(model, found))
    for factor, cosine in ((1.0, 1.0), (3.0, 1.0), (-0.5, -1.0)):
        for both in agreement(model, {name: factor * g for name, g in found.items()}, found).values():
            assert (both.cosine, both.ratio) == (pytest.approx(cosine), pytest.approx(abs(factor)))
    assert layer_names(model) == ["conv 0→1", "conv 1→2", "dense 2→3", "dense 3→4"]


def test_agreement_is_that_of_all_parameters_of_a_connection():
    """By hand: weight (1, 2, 2) and bias 0 against weight (2, 0, 0) and bias 2: cosine 2 / (3 sqrt 8), ratio 3 / sqrt 8."""
    model = ep.mlp([3, 1])
    names = [name for name, _ in model.named_parameters()]
    of = dict(zip(names, (torch.tensor([[1.0, 2.0, 2.0]]), torch.tensor([0.0])), strict=True))
    to = dict(zip(names, (torch.tensor([[2.0, 0.0, 0.0]]), torch.tensor([2.0])), strict=True))
    both = agreement(model, of, to)["0→1"]
    assert (both.cosine, both.ratio) == (pytest.approx(2 / 72**0.5), pytest.approx(3 / 8**0.5))
    nothing = {name: torch.zeros_like(g) for name, g in to.items()}
    assert agreement(model, nothing, to)["0→1"].cosine == 0
    with pytest.raises(ValueError, match="gradient `to` is zero in layer 0→1: leave this batch out"):
        agreement(model, of, nothing)
    with pytest.raises(ValueError, match=r"has no 'network.connections.0.bias'"):
        agreement(model, {names[0]: of[names[0]]}, to)


def test_a_gradient_is_taken_without_a_trace():
    model, (x, y) = built(), batch()
    found = gradient(ep.BPTT(20), model, x, y)
    assert all(p.grad is None for p in model.parameters())
    for loss in ep.BPTT(20)(model, x, y):
        loss.backward()
    for name, p in model.named_parameters():
        torch.testing.assert_close(found[name], p.grad)
    with pytest.raises(ValueError, match="must yield one loss a batch, ContinualEP yielded"):
        gradient(ep.ContinualEP(5, 3, 0.5), model, x, y)


def test_bptt_at_rest_is_bptt_of_a_phase_that_has_come_to_rest():
    """With one steady state, and the free phase long enough, where it starts from and how it is cut does not matter."""
    model, (x, y) = built().double(), batch()
    x = x.double()
    start = model.dynamics.init(model.network, x)
    found = bptt_at_rest(model, x, y, start, rest=Settle(200), unrolled_steps=7)
    against = gradient(ep.BPTT(207, 7), model, x, y)
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


def test_ep_from_a_state_is_ep_where_that_state_is_zero_and_goes_on_from_any_other():
    model, (x, y) = built(), batch()
    estimator = ep.EquilibriumProp(6, 4, 0.5, "centred")
    zero = model.dynamics.init(model.network, x)
    (loss,) = estimator.from_state(model, x, y, zero)
    whole = gradient(ep.EquilibriumProp(9, 4, 0.5, "centred"), model, x, y)
    half = ep.relax(model, x, 3).state
    (later,) = estimator.from_state(model, x, y, half)
    for name, g in gradient_of(loss, model).items():
        torch.testing.assert_close(g, gradient(estimator, model, x, y)[name], rtol=0, atol=0)
    for name, g in gradient_of(later, model).items():
        torch.testing.assert_close(g, whole[name], rtol=0, atol=0)
    with pytest.raises(ValueError, match="`state` must hold"):
        list(estimator.from_state(model, x, y, zero[:1]))


def test_a_rate_network_aligns_with_itself():
    """Without spikes the twin is the network itself: in the study's terms cosine and ratio 1 to rate EP."""
    found = ALIGNMENT.of(built(), [batch()])
    assert list(found) == [RATE, BASIN, BPTT, CEILING]
    for both in found[RATE]["layers"].values():
        assert (both["cosine"], both["ratio"]) == (pytest.approx([1.0]), pytest.approx([1.0]))
    assert found[BPTT]["left out"] == 0


def test_batches_with_nothing_to_learn_are_left_out_and_counted():
    """A network without weights at all rests at 0, and its gradient by BPTT vanishes below the output."""
    model = built(dynamics=Spiking())
    with torch.no_grad():
        for p in model.parameters():
            p.zero_()
    found = ALIGNMENT.of(model, [batch(), batch()])
    assert [facts["left out"] for facts in found.values()] == [2, 2, 2, 2]
    assert found[BPTT]["layers"]["conv 0→1"] == {"cosine": [], "ratio": []}


def test_the_alignment_of_a_study_is_that_of_its_parts():
    """Recomputed: the first batch of the test digits, trained weights, the gradients as vectors by hand."""
    told: list[tuple[int, int]] = []
    found = ALIGNMENT.compute("cpu", None, lambda *both: told.append(both))
    assert [done for done, _ in told] == sorted(done for done, _ in told)
    assert told[-1][0] == told[-1][1]
    training = TRAININGS["avg"]
    model = VARIANTS["average"].build(training, training.trained("cpu"))
    x, y = training.samples(4, 1, "cpu")[0]
    ours, theirs = (gradient(ALIGNMENT.estimator, m, x, y) for m in (model, model.rate_model()))
    for n, name in enumerate(layer_names(model)):
        keys = [f"network.connections.{n}.{part}" for part in ("weight", "bias")]
        g, h = (torch.cat([one[key].flatten() for key in keys]) for one in (ours, theirs))
        cosine = torch.nn.functional.cosine_similarity(g, h, dim=0).item()
        assert found["trained"]["average"][RATE]["layers"][name]["cosine"][0] == pytest.approx(cosine, abs=1e-5)
    table = ALIGNMENT.table(json.loads(json.dumps(found)))
    assert len(table.rows) == 2 * 2 * 4
    assert table.head[3:7] == tuple(layer_names(model))
    assert len(list(ALIGNMENT.short(found))) == 2
    assert "T 12, K 8, beta 0.5" in ALIGNMENT.text


def test_the_training_of_a_twin_is_the_trainers():
    """Two batches by hand from the same weights and in the same order."""
    from eqprop.training.session import prepare_run

    session = prepare_run(RUN)
    optimizer = RUN.optimizer.build(session.model)
    for (x, y), _ in zip(session.train, range(2), strict=False):
        for loss in RUN.estimator(session.model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    for name, value in TRAININGS["avg"].trained("cpu").items():
        torch.testing.assert_close(value, session.model.state_dict()[name], rtol=0, atol=0)


SETTLING = SpikingSettling(TRAININGS, {"pooling": VARIANTS}, (2, 5, 100), images=3)


def test_distances_are_those_of_the_states():
    found = json.loads(json.dumps(SETTLING.compute("cpu", None, ignore)))
    training = TRAININGS["avg"]
    model = VARIANTS["average"].build(training, training.trained("cpu"))
    x, _ = training.samples(3, 1, "cpu")[0]
    rest = ep.relax(model.rate_model(), x, 600).state
    for n, tick in enumerate(SETTLING.ticks):
        u = model.dynamics.units(ep.relax(model, x, tick).state)
        apart = sum((a - b).abs().sum().item() for a, b in zip(u, rest, strict=True)) / sum(a.numel() for a in u)
        for which in ("own", "zero"):
            assert found["pooling"]["average"][which][n] == pytest.approx(apart, rel=1e-3, abs=1e-6)
    assert found["pooling"]["average"]["apart"] < 1e-6  # average pooling of small weights has one steady state
    assert len(SETTLING.table(found).rows) == 2
    (said,) = SETTLING.short(found)
    assert "after 100 ticks" in said


def test_a_network_at_rest_is_at_no_distance():
    u = (torch.rand(2, 3), torch.rand(2, 1))
    assert mean_distance(u, u) == 0
    assert mean_distance(u, tuple(v + 0.5 for v in u)) == pytest.approx(0.5)


def kept(n: int) -> torch.Tensor:
    """Three blocks of 4 n bytes are alive at once, and a third one again after one is gone; views and writing in place are free."""
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


def test_what_autograd_keeps_is_counted():
    """tanh keeps its result: n of them in a chain, one gradient and its successor on the way back, and the leaf's own."""
    w = torch.ones(1000, requires_grad=True)

    def chain(n: int) -> None:
        s = w
        for _ in range(n):
            s = s.tanh()
        s.sum().backward()
        w.grad = None

    few, many = peak_bytes(lambda: chain(5)), peak_bytes(lambda: chain(25))
    assert many - few == 20 * 4000


def test_nothing_is_kept_of_what_was_counted():
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


@pytest.mark.parametrize("estimator", [phases(8, 4, 0.5), ep.BPTT(8, surrogate=True)], ids=["ep", "bptt"])
def test_the_peak_is_that_of_the_allocator(estimator):
    """Torch's own allocator, by its profiler, has the same up to scratch space within an operation."""
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
    again = study.step(study.contenders(8)["EP, spikes"][0], rates=False, device="cpu")
    assert found["peaks"]["EP, spikes"][0] == peak_bytes(again)
    assert study.table(found).rows[0][1].endswith("MiB (1x)")
    assert "+0.0 % against T = 8" in next(iter(study.short(found)))


def test_cells_without_room_are_left_out(monkeypatch, tmp_path):
    monkeypatch.setattr("eqprop.papers.lin2024.training_memory.free_bytes", lambda device: 1)
    study = TrainingMemory(SPIKING, (8, 16), average=2, batch=4)
    found = study.compute("cpu", None, ignore)
    assert [peaks[1] for peaks in found["peaks"].values()] == [None] * 4
    assert study.table(found).rows[2][2] == "left out"
    assert list(study.short(found))
    study.draw(found, tmp_path / "picture")
    assert SKIP.format(share=0.6) in study.text


def test_told_of_progress():
    told = []
    count = counter(lambda done, total: told.append((done, total)), 5)
    for more in (2, 3, 4):
        count(more)
    assert told == [(2, 5), (5, 5), (5, 5)]


def test_a_study_is_found_by_what_decides_it(tmp_path):
    file = tmp_path / "study.json"
    for study, other in (
        (ALIGNMENT, replace(ALIGNMENT, batches=2)),
        (SETTLING, replace(SETTLING, trainings={"avg": replace(TRAININGS["avg"], batches=3)})),
        (TrainingMemory(SPIKING), TrainingMemory(SPIKING, batch=4)),
    ):
        file.write_text(json.dumps({"key": study.key, "found": {}}))
        assert study_in(file, study) is not None
        assert study_in(file, other) is None


def test_the_pictures(tmp_path):
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


def test_rows_of_one_recipe_are_told_apart_and_others_stand_beside():
    rows = rows_of("spiking-mnist")
    assert [row.by for row in rows] == ["EP, spikes", "EP, rates", "BPTT, rates", "BPTT through spikes"]
    epochs = [{"test_error": 0.0123, "train_error": 0.01, "seconds": 1.0}] * 6
    found = Findings(Path("nowhere"), trainings={rows[0].command: [Training(rows[0].run, epochs, {})]})
    results, runs = training_tables(rows, found)
    assert results.rows[0][:4] == ["spiking-mnist", "EP, spikes", "0.97 %", "1.23 %"]
    assert [row[1] for row in results.rows] == [row.by for row in rows]
    assert len({row[0] for row in runs.rows}) == 4
    assert LIN2024.others is not None
    assert [row[0] for row in LIN2024.others.rows] == [work for work, *_ in OTHERS]


def test_the_commands_of_its_trainings_train_them(tmp_path, monkeypatch):
    isolate(tmp_path, monkeypatch)
    monkeypatch.setattr("eqprop.cli.commands.train.carry_out", lambda *arguments: None)
    monkeypatch.setattr("eqprop.cli.runs.prepare_run", lambda *arguments: None)
    rows = {row.command: row for row in (*LIN2024.rows, *LIN2024.quick_rows)}
    for n, row in enumerate(rows.values()):
        call(row.command.removeprefix("eqprop "), f"--no-plots --out {tmp_path / str(n)}").done()
        assert read_run(tmp_path / str(n)) == row.run, row.command
    assert len({row.folder for row in rows.values()}) == len(rows)


def test_the_dense_network_is_one_of_its_rows():
    (row, *_) = rows_of("spiking-dense")
    assert isinstance(row.run.model, MLP)
