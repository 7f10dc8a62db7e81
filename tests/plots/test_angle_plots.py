"""Pictures of angles show those of the rows, in degrees, each connection by its name; runs without angles have none."""

import sys
from math import isnan

import pytest
import torch

import eqprop as ep
from eqprop import plots
from eqprop.cli.figures import draw_run
from eqprop.plots.canvas import PALETTE
from eqprop.training import SGD, Data, Run, create_run, train_run
from eqprop.training.diagnostics import names_of_angles, weight_angles
from picture_files import check, sketched

pytestmark = pytest.mark.filterwarnings("ignore:epoch 2.*does not learn")  # two epochs are not for learning

UPDATE, FIRST, SECOND = "update to BPTT's gradient", *(f"feedback to forward weights, {n}→{n + 1}" for n in (1, 2))
RIGHT = "orthogonal (90°)"
NAMES = ["1→2", "2→3"]


def rows(updates, *weights) -> list[dict]:
    """Rows with these angles of the update, and of the weights of each connection."""
    angles = zip(updates, *weights, strict=True)
    return [{"epoch": n, "update_angle": u, "weight_angles": w} for n, (u, *w) in enumerate(angles, start=1)]


BOTH = rows([50.0, 40.0, 30.0], [0.0, 10.0, 20.0], [5.0, 15.0, 25.0])


@pytest.fixture
def drawn(monkeypatch):
    """The figures of angles, instead of files; error curves are still saved."""
    figures, save = [], plots.training.save

    def keep(figure, path):
        if path.name == "errors":
            save(figure, path)
        else:
            figures.append(figure)

    monkeypatch.setattr(plots.training, "save", keep)
    return figures


def lines(figure) -> dict[str, tuple[list[float], list[float]]]:
    return {line.get_label(): (list(line.get_xdata()), list(line.get_ydata())) for line in figure.axes[0].get_lines()}


def colors(figure) -> dict[str, str]:
    return {line.get_label(): line.get_color() for line in figure.axes[0].get_lines()}


def test_angles_as_files(tmp_path):
    for name in ("a", "b"):
        plots.angle_curves(BOTH, NAMES, tmp_path / name / "angles", "cvf-2h")
        check(tmp_path / name / "angles", "epoch", "angle (degrees)", UPDATE, FIRST, SECOND, RIGHT, "cvf-2h")
    for ending in ("png", "svg"):
        assert (tmp_path / f"a/angles.{ending}").read_bytes() == (tmp_path / f"b/angles.{ending}").read_bytes()


def test_every_angle_has_its_curve_and_ninety_degrees_a_line(tmp_path, drawn):
    plots.angle_curves(BOTH, NAMES, tmp_path)
    found = lines(drawn[0])
    assert found.pop(RIGHT)[1] == [90, 90]
    assert found == {
        UPDATE: ([1, 2, 3], [50, 40, 30]), FIRST: ([1, 2, 3], [0, 10, 20]), SECOND: ([1, 2, 3], [5, 15, 25]),
    }  # fmt: skip
    assert {text.get_text() for text in drawn[0].legends[0].get_texts()} == {UPDATE, FIRST, SECOND, RIGHT}
    assert len({colors(drawn[0])[label] for label in (UPDATE, FIRST, SECOND)}) == 3
    axes = drawn[0].axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("epoch", "angle (degrees)")


@pytest.mark.parametrize(("largest", "top"), [(20.0, 100), (94.0, 100), (120.0, 125), (178.0, 180), (180.0, 180)])
def test_ninety_degrees_and_every_angle_are_in_the_picture(tmp_path, drawn, largest, top):
    plots.angle_curves(rows([10.0, 0.0], [largest, 3.0]), NAMES[:1], tmp_path)
    axes = drawn[0].axes[0]
    assert axes.get_ylim() == (0, top)
    assert 90 in axes.get_yticks()


def test_where_weights_have_no_angle_only_the_update_is_drawn(tmp_path, drawn):
    plots.angle_curves(rows([50.0, 40.0]), [], tmp_path)
    assert set(lines(drawn[0])) == {UPDATE, RIGHT}


def test_what_is_missing_leaves_a_gap(tmp_path, drawn):
    """An update that was not finite is None; rows of an older version hold neither."""
    some = rows([50.0, None, 30.0], [1.0, 2.0, 3.0])
    plots.angle_curves([some[0], some[1], {"epoch": 3}, some[2] | {"epoch": 4}], NAMES[:1], tmp_path)
    found = lines(drawn[0])
    assert [None if isnan(v) else v for v in found[UPDATE][1]] == [50, None, None, 30]
    assert [None if isnan(v) else v for v in found[FIRST][1]] == [1, 2, None, 3]
    assert all(line.get_marker() == "o" for line in drawn[0].axes[0].get_lines() if line.get_label() != RIGHT)


def test_an_angle_that_was_never_found_has_no_curve(tmp_path, drawn):
    plots.angle_curves(rows([None, None], [1.0, 2.0]), NAMES[:1], tmp_path)
    assert set(lines(drawn[0])) == {FIRST, RIGHT}


def test_colors_begin_again_after_the_last(tmp_path, drawn):
    many = [f"{n}→{n + 1}" for n in range(1, 9)]
    plots.angle_curves(rows([1.0], *[[float(n)] for n in range(8)]), many, tmp_path)
    assert len(lines(drawn[0])) == len(many) + 2 > len(PALETTE)


@pytest.mark.parametrize("none", [[], [{"epoch": 1}], rows([None])])
def test_without_angles_there_is_nothing_to_draw(tmp_path, none):
    assert not plots.has_angles(none)
    with pytest.raises(ValueError, match="`rows` holds no angle"):
        plots.angle_curves(none, [], tmp_path)


def test_as_many_connections_as_angles_of_weights(tmp_path, drawn):
    with pytest.raises(ValueError, match=r"`connections` must have 2 names, .* got \['1→2'\]"):
        plots.angle_curves(BOTH, NAMES[:1], tmp_path)


def test_without_matplotlib_it_is_said_how_to_get_it(monkeypatch, tmp_path):
    for module in [module for module in sys.modules if module.split(".")[0] == "matplotlib"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'eqprop\[plot\]'"):
        plots.angle_curves(BOTH, NAMES, tmp_path / "a" / "picture")
    assert not (tmp_path / "a").exists()


def test_names_are_those_of_the_connections_with_an_angle():
    """Feedback of their own have the second and the last; the parallel edges have their numbers as well."""
    torch.manual_seed(0)
    untied = [ep.Untied(ep.Dense(n, m), 30.0 * n) for n, m in ((3, 2), (2, 2), (2, 2))]
    populations = [ep.Population(n, "tanh") for n in (4, 3, 2, 2)]
    edges = [(0, 1, ep.Dense(4, 3)), (1, 2, untied[0]), (2, 3, ep.Dense(2, 2)), (2, 3, untied[1]), (3, 3, untied[2])]
    model = ep.Model(ep.Network(populations, edges), ep.Prototypical(), ep.SquaredError(), settle=5)
    assert names_of_angles(model) == ["1→2", "2→3 (3)", "3→3"]
    assert len(weight_angles(model)) == 3
    with torch.no_grad():
        untied[1].feedback.copy_(-untied[1].upward.weight)
    assert weight_angles(model)[1] == pytest.approx(180)


@pytest.mark.parametrize(
    ("estimator", "tied", "title", "wanted"),
    [
        (ep.ContinualSGD(8, 4, 0.2), False, "angles, C-VF, seed 0", {UPDATE, FIRST, RIGHT}),
        (ep.ContinualSGD(8, 4, 0.2), True, "angles, C-EP, seed 0", {UPDATE, RIGHT}),
        (ep.EquilibriumProp(8, 4, 0.2), True, None, None),
    ],
    ids=["untied", "continual", "EP"],
)
def test_a_run_with_angles_has_their_picture_and_no_other(tmp_path, monkeypatch, drawn, estimator, tied, title, wanted):
    sketched(monkeypatch)
    spec = ep.MLP((64, 8, 10), "sigmoid", dynamics=ep.Prototypical(nudge="inside"), tied=tied)
    create_run(Run("angles", Data("digits", 200), spec, estimator, SGD(0.1), epochs=2), tmp_path / "run")
    found = train_run(tmp_path / "run")
    draw_run(tmp_path / "run", None, None)
    assert [set(lines(figure)) for figure in drawn] == ([] if wanted is None else [wanted])
    for figure in drawn:
        assert lines(figure)[UPDATE] == ([1, 2], [row["update_angle"] for row in found])
        assert figure.axes[0].get_title() == title
    assert (tmp_path / "run/plots/errors.png").exists()


def test_the_picture_stands_beside_the_others(tmp_path, monkeypatch):
    sketched(monkeypatch)
    spec = ep.MLP((64, 8, 10), "sigmoid", tied=False)
    create_run(
        Run("angles", Data("digits", 200), spec, ep.ContinualSGD(8, 4, 0.2), SGD(0.1), epochs=1), tmp_path / "run"
    )
    train_run(tmp_path / "run")
    draw_run(tmp_path / "run", None, None)
    names = ("activities", "angles", "errors", "settling")
    found = sorted(path.name for path in (tmp_path / "run/plots").iterdir())
    assert found == [f"{name}.{ending}" for name in names for ending in ("png", "svg")]
