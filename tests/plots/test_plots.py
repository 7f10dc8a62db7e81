"""Pictures and tables show the numbers that they were given."""

import sys
from itertools import pairwise
from statistics import mean

import pytest
import torch

import eqprop as ep
from eqprop import plots
from eqprop.training.summary import Spread, summarize
from picture_files import check
from small_trainings import TEST, TRAIN, mlp, trainer

ERRORS = {"train_error": [0.5, 0.2, 0.1], "validation_error": [0.6, 0.3, 0.3], "test_error": [0.7, 0.4, 0.2]}


def rows(factor=1.0, **curves) -> list[dict]:
    """Epoch rows with these curves, and costs of half of them."""
    curves = curves or ERRORS
    found = []
    for n in range(len(next(iter(curves.values())))):
        row = {"epoch": n + 1, "seconds": 1.0}
        for name, values in curves.items():
            row[name] = None if values[n] is None else values[n] * factor
            row.setdefault(name.replace("error", "cost"), 0.3 / (n + 1))
        found.append(row)
    return found


@pytest.fixture
def drawn(monkeypatch):
    """The figures, instead of files."""
    figures = []
    for module in (plots.training, plots.phases):
        monkeypatch.setattr(module, "save", lambda figure, path: figures.append(figure))
    return figures


def lines(figure) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].get_lines()}


def test_error_curves_as_files(tmp_path):
    plots.error_curves({"EP": [rows()], "BPTT": [rows(0.5)]}, tmp_path / "new" / "errors", "digits")
    check(tmp_path / "new" / "errors", "epoch", "error (%)", "EP, train", "EP, validation", "BPTT, test", "digits")


def test_error_curves_are_in_percent(tmp_path, drawn):
    plots.error_curves({"EP": [rows()]}, tmp_path)
    found = lines(drawn[0])
    assert set(found) == {"EP, train", "EP, validation", "EP, test"}
    for part in ("train", "validation", "test"):
        epochs, values = found[f"EP, {part}"]
        assert epochs == [1, 2, 3]
        assert values == pytest.approx([100 * error for error in ERRORS[f"{part}_error"]])
    assert drawn[0].axes[0].get_yscale() == "log"
    assert drawn[0].axes[0].get_ylabel() == "error (%)"
    assert drawn[0].axes[0].get_xlabel() == "epoch"


def test_seeds_are_a_mean_and_a_band(tmp_path, drawn):
    """The shortest counts where one is not finished."""
    plots.error_curves({"EP": [rows(), rows(0.5), rows(0.25)[:2]]}, tmp_path)
    epochs, values = lines(drawn[0])["EP, test"]
    assert epochs == [1, 2]
    assert values == pytest.approx([100 * mean([e, e / 2, e / 4]) for e in (0.7, 0.4)])
    bands = drawn[0].axes[0].collections
    assert len(bands) == 3
    heights = [y for band in bands for y in band.get_paths()[0].vertices[:, 1]]
    assert max(heights) == pytest.approx(70)
    assert min(heights) == pytest.approx(100 * 0.2 / 4)


def test_one_seed_has_no_band(tmp_path, drawn):
    plots.error_curves({"EP": [rows()]}, tmp_path)
    assert not drawn[0].axes[0].collections


def test_regression_shows_costs(tmp_path, drawn):
    plain = rows(train_error=[None] * 3, test_error=[None] * 3)
    plots.error_curves({"": [plain]}, tmp_path)
    found = lines(drawn[0])
    assert set(found) == {"train", "test"}
    assert found["train"][1] == pytest.approx([0.3, 0.15, 0.1])
    assert drawn[0].axes[0].get_ylabel() == "cost"


def test_regression_as_files(tmp_path):
    plots.error_curves({"": [rows(train_error=[None] * 3)]}, tmp_path / "a" / "costs")
    check(tmp_path / "a" / "costs", "epoch", "cost", "train")


def test_a_single_epoch_can_be_seen(tmp_path, drawn):
    plots.error_curves({"EP": [rows()[:1]]}, tmp_path)
    assert all(line.get_marker() == "o" for line in drawn[0].axes[0].get_lines())
    plots.error_curves({"EP": [rows()]}, tmp_path)
    assert not any(line.get_marker() == "o" for line in drawn[1].axes[0].get_lines())


def test_no_errors_at_all_can_be_drawn(tmp_path):
    """A logarithm has no zero."""
    plots.error_curves(
        {"EP": [rows(train_error=[0.5, 0.0, 0.0], test_error=[0.0, 0.0, 0.0])]}, tmp_path / "a" / "errors"
    )
    check(tmp_path / "a" / "errors", "error (%)")


def test_zero_errors_do_not_flatten_the_others(tmp_path, drawn):
    """Errors of 50 % and 1 % must not look alike because of a training error of zero."""
    plots.error_curves({"EP": [rows(train_error=[0.5, 0.01, 0.0], test_error=[0.5, 0.02, 0.01])]}, tmp_path)
    low, _ = drawn[0].axes[0].get_ylim()
    assert low > 1e-4


def test_rows_of_a_training_can_be_drawn(tmp_path):
    plots.error_curves({"EP": [trainer().fit(TRAIN, 2, test=TEST)]}, tmp_path / "a" / "errors")
    check(tmp_path / "a" / "errors", "EP, test")


def test_activities_as_files(tmp_path):
    model = mlp()
    plots.activities(model, torch.rand(20, 4), tmp_path / "a" / "activities", "after training")
    check(
        tmp_path / "a" / "activities", "activity", "density", "population 1 (6)", "population 2 (3)", "after training"
    )


def test_activities_are_those_of_the_free_phase(tmp_path, drawn):
    model, x = mlp(), torch.rand(20, 4)
    plots.activities(model, x, tmp_path)
    shown = [axes for axes in drawn[0].axes if axes.get_visible()]
    levels = ep.relax(model, x, model.settle).activity
    assert len(shown) == len(levels) == 2
    for axes, level in zip(shown, levels, strict=True):
        left, right = axes.patches[0].get_x(), axes.patches[-1].get_x() + axes.patches[-1].get_width()
        assert left == pytest.approx(level.min().item(), abs=1e-5)
        assert right == pytest.approx(level.max().item(), abs=1e-5)
        area = sum(patch.get_height() * patch.get_width() for patch in axes.patches)
        assert area == pytest.approx(1, rel=1e-4)


@pytest.mark.parametrize("hidden", [0, 1, 2, 3, 5])
def test_every_population_has_its_histogram(tmp_path, drawn, hidden):
    model = ep.mlp([4, *[5] * hidden, 3], activation="sigmoid", settle=5)
    plots.activities(model, torch.rand(9, 4), tmp_path)
    shown = [axes.get_title() for axes in drawn[0].axes if axes.get_visible()]
    assert shown == [f"population {n} (5)" for n in range(1, hidden + 1)] + [f"population {hidden + 1} (3)"]


def test_settling_as_files(tmp_path):
    plots.settling(mlp(), torch.rand(20, 4), tmp_path / "a" / "settling", "residuals")
    check(tmp_path / "a" / "settling", "step t", "residual", "median of the samples", "largest", "residuals")


def test_settling_is_the_change_of_each_step(tmp_path, drawn):
    """For twice the length of the free phase, which is marked."""
    model, x = mlp(settle=6), torch.rand(5, 4)
    plots.settling(model, x, tmp_path)
    path = ep.relax(model, x, 12, trajectory=True).trajectory
    changes = []
    for before, after in pairwise(path):
        one = [max((b[n] - a[n]).abs().max().item() for a, b in zip(before, after, strict=True)) for n in range(5)]
        changes.append(sorted(one))
    found = lines(drawn[0])
    assert found["largest"][0] == list(range(1, 13))
    assert found["largest"][1] == pytest.approx([change[-1] for change in changes])
    assert found["median of the samples"][1] == pytest.approx([change[2] for change in changes])
    assert set(found["length of the free phase"][0]) == {6}


def test_a_network_that_stands_still_can_be_drawn(tmp_path):
    model = ep.mlp([4, 3], activation="hard_sigmoid", settle=4)
    plots.settling(model, torch.zeros(3, 4), tmp_path / "a" / "settling")
    check(tmp_path / "a" / "settling", "step t")


def test_a_tolerance_does_not_shorten_the_picture(tmp_path, drawn):
    plots.settling(mlp(settle=ep.Settle(10, tol=0.5)), torch.rand(3, 4), tmp_path)
    assert lines(drawn[0])["largest"][0] == list(range(1, 21))


def test_the_same_numbers_give_the_same_bytes(tmp_path):
    for name in ("a", "b"):
        plots.error_curves({"EP": [rows(), rows(0.5)]}, tmp_path / name / "errors")
    for ending in ("png", "svg"):
        one, two = (tmp_path / name / f"errors.{ending}" for name in ("a", "b"))
        assert one.read_bytes() == two.read_bytes()


DRAWINGS = {
    "error_curves": lambda path: plots.error_curves({"EP": [rows()]}, path),
    "activities": lambda path: plots.activities(mlp(), torch.rand(3, 4), path),
    "settling": lambda path: plots.settling(mlp(), torch.rand(3, 4), path),
}


@pytest.mark.parametrize("name", DRAWINGS)
def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch, tmp_path, name):
    for module in [module for module in sys.modules if module.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'eqprop\[plot\]'"):
        DRAWINGS[name](tmp_path / "a" / "picture")
    assert not (tmp_path / "a").exists()


def test_pictures_change_neither_model_nor_random_state(tmp_path, drawn):
    model, x = mlp(), torch.rand(3, 4)
    before, state = [p.detach().clone() for p in model.parameters()], torch.get_rng_state()
    plots.activities(model, x, tmp_path)
    plots.settling(model, x, tmp_path)
    assert all(torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True))
    assert torch.equal(torch.get_rng_state(), state)


def run(tests, train=0.01, seconds=2.0) -> list[dict]:
    return [
        {"epoch": n, "train_error": train / n, "test_error": error, "seconds": seconds * n}
        for n, error in enumerate(tests, start=1)
    ]


def test_a_summary_by_hand():
    tests = [[0.5, 0.4, 0.1, 0.3, 0.2, 0.2, 0.2], [0.6, 0.2, 0.2, 0.2, 0.2, 0.4]]
    found = summarize([run(tests[0]), run(tests[1], train=0.03, seconds=4.0)])
    assert (found.seeds, found.epochs) == (2, 6)
    # last 0.2, 0.4; of the last five 0.2, 0.24; lowest 0.1, 0.2; two numbers differ from their mean by half their distance
    assert (found.test.mean, found.test.deviation) == pytest.approx((0.3, 0.2 / 2**0.5))
    assert (found.test_last.mean, found.test_last.deviation) == pytest.approx((0.22, 0.04 / 2**0.5))
    assert (found.test_lowest.mean, found.test_lowest.deviation) == pytest.approx((0.15, 0.1 / 2**0.5))
    assert found.train.mean == pytest.approx((0.01 / 7 + 0.03 / 6) / 2)
    assert found.seconds == pytest.approx((2 * 28 + 4 * 21) / 2)


def test_the_deviation_is_that_of_a_sample():
    """n - 1 in the denominator: of 1, 2, 3, 4 the squares about 2.5 sum to 5."""
    assert Spread.of([1.0, 2.0, 3.0, 4.0]).deviation == pytest.approx((5 / 3) ** 0.5)


def test_a_single_seed_has_no_deviation():
    found = summarize([run([0.5, 0.25])])
    assert (found.seeds, found.test) == (1, Spread(0.25, None))
    assert found.test.percent() == "25.00 %"


def test_percent():
    assert Spread(0.02057, 0.00173).percent() == "2.06 ± 0.17 %"
    assert Spread(0.0, 0.0).percent() == "0.00 ± 0.00 %"


def test_fewer_epochs_than_five_have_no_last_five():
    assert summarize([run([0.5, 0.25])]).test_last is None
    assert summarize([run([0.5] * 5), run([0.5] * 4)]).test_last is None
    assert summarize([run([0.5] * 4 + [0.25])]).test_last.mean == pytest.approx(0.45)


@pytest.mark.parametrize(
    "runs",
    [
        [[]],
        [run([0.5]), []],
        [[{"epoch": 1, "train_error": None, "train_cost": 0.5, "seconds": 1.0}]],
        [[{"epoch": 1, "train_error": None, "test_error": None, "seconds": 1.0}]],
    ],
)
def test_there_is_no_summary_without_errors(runs):
    assert summarize(runs) is None
