"""Pictures of spikes show those of the recordings; a run that spikes has them, and no other run."""

import pytest
import torch

import eqprop as ep
from eqprop import plots
from eqprop.cli.figures import draw_run
from eqprop.spiking import Bernoulli, record
from eqprop.spiking.recording import active_units
from eqprop.training import SGD, Data, Run, create_run, train_run
from picture_files import check

KINDS = ("raster", "decoding", "firing", "approach")


def model(**options) -> ep.Model:
    torch.manual_seed(0)
    return ep.mlp([5, 7, 4], dynamics=ep.Spiking(**options), settle=20)


def recorded(of: ep.Model, beta=0.5) -> tuple:
    """A free phase of 20 ticks and a nudged one of 10, with three units of each population."""
    x, y = torch.rand(2, 5, generator=torch.Generator().manual_seed(1)), torch.tensor([1, 2])
    free = record(of, x, 20, units=3)
    return free, record(of, x, 10, y, beta, free)


@pytest.fixture
def drawn(monkeypatch):
    """The figures, instead of files."""
    figures = []
    monkeypatch.setattr(plots.spikes, "save", lambda figure, path: figures.append(figure))
    return figures


def test_as_files(tmp_path):
    of, phases = model(), recorded(model())
    plots.raster(phases, tmp_path / "raster" / "raster", title="demo")
    plots.decoded_values(phases, tmp_path / "decoding" / "decoding", title="demo")
    plots.firing_rates(phases, tmp_path / "firing" / "firing", "demo")
    plots.steady_state_distance(of, torch.rand(2, 5), tmp_path / "approach" / "approach", "demo")
    words = {
        "raster": ("input", "population 1", "output", "nudged"),
        "decoding": ("value sent", "decoded", "spikes", "nudged"),
        "firing": ("spikes per unit", "rate of a unit", "input", "output"),
        "approach": ("rate model", "spiking network", "length of the free phase"),
    }
    for kind in KINDS:
        check(tmp_path / kind / kind, "tick", "demo", *words[kind])


def test_a_raster_has_every_spike_at_its_tick(tmp_path, drawn):
    phases = recorded(model())
    plots.raster(phases, tmp_path, sample=1)
    panels = drawn[0].axes
    assert [axes.get_ylabel() for axes in panels] == ["output", "population 1", "input"]
    for axes, n in zip(panels, (2, 1, 0), strict=True):
        spikes = torch.cat([phase.traces[n].spike for phase in phases])[:, 1]
        for unit, row in enumerate(axes.collections):
            wanted = [tick for tick, q in enumerate(spikes[:, unit].tolist(), start=1) if q]
            assert row.get_positions() == wanted
    assert [text.get_text() for text in panels[0].get_yticklabels()] == [str(n) for n in phases[0].traces[2].units]


@pytest.mark.parametrize(("beta", "shades"), [(0.5, 1), (0.0, 0)])
def test_the_nudge_is_shaded(tmp_path, drawn, beta, shades):
    phases = recorded(model(), beta)
    plots.raster(phases, tmp_path)
    plots.firing_rates(phases, tmp_path)
    for axes in (drawn[0].axes[0], drawn[1].axes[0]):
        found = [patch for patch in axes.patches if patch.get_width() == 10]
        assert [patch.get_x() for patch in found] == [20.5] * shades
        assert [r"\beta = 0.5" in text.get_text() for text in axes.texts] == [True] * shades


def test_a_decoded_unit_has_its_value_its_band_and_its_spikes(tmp_path, drawn):
    phases = recorded(model())
    plots.decoded_values(phases, tmp_path)
    for axes, n in zip(drawn[0].axes, (2, 1, 0), strict=True):
        unit = next(
            place for place, u in enumerate(phases[0].traces[n].units) if axes.get_ylabel().endswith(f"unit {u}")
        )
        spike, value, decoded = (
            torch.cat([getattr(phase.traces[n], what) for phase in phases])[:, 0, unit]
            for what in ("spike", "value", "decoded")
        )
        lines = [torch.tensor(line.get_ydata()) for line in axes.get_lines()]
        assert any(line.equal(value) for line in lines)
        assert any(line.equal(decoded) for line in lines)
        band, fired = axes.collections
        edge = band.get_paths()[0].vertices[:, 1]
        assert edge.max() == pytest.approx(value.max().item() + 0.2)
        assert edge.min() == pytest.approx(value.min().item() - 0.2)
        assert fired.get_positions() == [tick for tick, q in enumerate(spike.tolist(), start=1) if q]


def test_firing_shows_means_and_fractions(tmp_path, drawn):
    phases = recorded(model())
    plots.firing_rates(phases, tmp_path)
    left, right = drawn[0].axes
    for n, line in enumerate(left.get_lines()):
        assert list(line.get_xdata()) == list(range(1, 31))
        wanted = torch.cat([phase.activity[n] for phase in phases])
        assert torch.tensor(line.get_ydata()).equal(wanted)
    for n, patch in enumerate(right.patches):
        heights = patch.get_xy()[:, 1]
        assert heights.max() <= 1
        counted = torch.histc(phases[0].rates[n].flatten(), 20, 0, 1) / phases[0].rates[n].numel()
        assert heights.max() == pytest.approx(counted.max().item())


def test_the_twin_comes_near_where_it_rests_and_spikes_stay_within_the_decoders_error(tmp_path, drawn):
    of = model()
    plots.steady_state_distance(of, torch.rand(4, 5), tmp_path)
    curves = {line.get_label(): line.get_ydata() for line in drawn[0].axes[0].get_lines()}
    twin, spiking = (torch.as_tensor(curves[name]).nan_to_num() for name in ("rate model", "spiking network"))
    assert len(twin) == len(spiking) == 40
    assert twin[-1] < 1e-5 < spiking[-1] < 0.2
    assert twin[0] > twin[-1]


def test_without_units_there_is_nothing_to_show(tmp_path):
    of = model()
    with pytest.raises(ValueError, match="`phases` holds no recorded unit"):
        plots.raster([record(of, torch.rand(2, 5), 5)], tmp_path)


def test_units_that_fire_are_chosen_where_there_are_enough():
    """Evenly among those that fired in the sample; of few populations all are shown."""
    of = model()
    x = torch.zeros(2, 5)
    x[1, 1:4] = 0.7
    found = record(of, x, 20)
    assert active_units(found, 1, 2)[0] == (1, 3)
    assert active_units(found, 0, 5)[0] == (0, 1, 2, 3, 4)
    assert active_units(found, 1, 10)[2] == (0, 1, 2, 3)


@pytest.mark.parametrize(
    ("dynamics", "estimator", "spikes"),
    [
        (ep.Spiking(), ep.EquilibriumProp(12, 6, 0.5, "centred"), True),
        (ep.Spiking(coder=Bernoulli(), decode="before"), ep.EquilibriumProp(12, 6, 0.5), True),
        (ep.Spiking(input="current"), ep.BPTT(12, surrogate=True), True),
        (ep.Prototypical(), ep.EquilibriumProp(12, 6, 0.5), False),
    ],
    ids=["EP", "Bernoulli", "BPTT", "rates"],
)
def test_a_run_that_spikes_has_its_pictures(tmp_path, monkeypatch, dynamics, estimator, spikes):
    paths = []
    for module in (plots.spikes, plots.training, plots.phases):
        monkeypatch.setattr(module, "save", lambda figure, path: paths.append(path))
    spec = ep.MLP((64, 8, 10), "hard_sigmoid", dynamics=dynamics)
    create_run(Run("spikes", Data("digits", 300), spec, estimator, SGD(0.1), epochs=1), tmp_path / "run")
    train_run(tmp_path / "run")
    before = torch.get_rng_state()
    draw_run(tmp_path / "run", None, None)
    assert torch.get_rng_state().equal(before)
    names = ("activities", "errors", "settling", *(KINDS if spikes else ()))
    assert sorted(path.name for path in paths) == sorted(names)
    assert {path.parent for path in paths} == {tmp_path / "run/plots"}
