"""What is told of a training is what its rows hold, on a terminal, in a pipe, and in TensorBoard."""

import io
import sys

import pytest
from rich.console import Console

from eqprop.training.progress.callbacks import PlainLines, ProgressBar, TensorBoard
from small_trainings import TEST, TRAIN, VALIDATION, trainer

ROW = {
    "epoch": 3, "train_cost": 0.12345, "train_error": 0.25, "test_cost": 0.2, "test_error": 0.0206,
    "residual": 1.5e-6, "steps": 20.0, "rates": [0.1, 0.2], "seconds": 1.25,
}  # fmt: skip


def test_plain_lines_are_one_an_epoch():
    out = io.StringIO()
    rows = trainer(callbacks=[PlainLines(out, "demo")]).fit(TRAIN, 3, validation=VALIDATION, test=TEST)
    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    for number, (line, row) in enumerate(zip(lines, rows, strict=True), start=1):
        assert line.startswith(f"demo   epoch {number}/3")
        for part in ("train", "validation", "test"):
            assert f"{part} {100 * row[f'{part}_error']:6.2f}%" in line
        assert f"cost {row['train_cost']:.4f}" in line
        assert "8 steps" in line


def test_a_line_of_text():
    out = io.StringIO()
    report = PlainLines(out, "demo")
    report.on_fit_start(30, 5, [])
    report.on_epoch_end(ROW)
    words = out.getvalue().split()
    assert words == (
        "demo epoch 3/30 train 25.00% test 2.06% cost 0.1235 residual 1.5e-06 20 steps 1.2 s".split()  # noqa: SIM905
    )


def test_plain_lines_tell_costs_where_there_are_no_errors():
    out = io.StringIO()
    report = PlainLines(out, "demo")
    report.on_fit_start(3, None, [])
    report.on_epoch_end(ROW | {"train_error": None, "test_error": None})
    assert "%" not in out.getvalue()
    assert "test cost 0.20000" in out.getvalue()


def test_it_is_said_where_a_training_goes_on(tmp_path):
    trainer(tmp_path).fit(TRAIN, 2)
    out = io.StringIO()
    trainer(tmp_path, callbacks=[PlainLines(out, "demo")]).resume(TRAIN, 3)
    first, second = out.getvalue().splitlines()
    assert first == "demo   resumes after epoch 2"
    assert second.startswith("demo   epoch 3/3")


@pytest.mark.parametrize("terminal", [True, False])
def test_the_bar_leaves_a_line_an_epoch(tmp_path, terminal):
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=200)
    rows = trainer(tmp_path, callbacks=[ProgressBar(console, "demo")]).fit(TRAIN, 2, test=TEST)
    again = ProgressBar(console, "demo")
    trainer(tmp_path, callbacks=[again]).resume(iter(TRAIN), 3)
    text = out.getvalue()
    for row in rows:
        assert f"epoch {row['epoch']}/2" in text
        assert f"{100 * row['test_error']:.2f}%" in text
    assert "resumes after epoch 2" in text
    assert "epoch 3/3" in text


def test_the_bar_shows_what_is_measured(monkeypatch):
    out = io.StringIO()
    bar = ProgressBar(Console(file=out, force_terminal=True, width=200), "demo")
    monkeypatch.setattr(bar, "INTERVAL", 0.0)
    trainer(callbacks=[bar]).fit(TRAIN, 2, test=TEST)
    for word in ("cost 0.", "train ", "residual ", "8 steps", "samples/s", "test "):
        assert word in out.getvalue()


def scalars(folder) -> dict[str, list[tuple[int, float]]]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    found = EventAccumulator(str(folder)).Reload()
    return {tag: [(event.step, event.value) for event in found.Scalars(tag)] for tag in found.Tags()["scalars"]}


def test_tensorboard_has_every_number(tmp_path):
    pytest.importorskip("tensorboard")
    rows = trainer(callbacks=[TensorBoard(tmp_path)]).fit(TRAIN, 3, test=TEST)
    found = scalars(tmp_path)
    wanted = {
        "train_cost": "train/cost",
        "train_error": "train/error",
        "test_error": "test/error",
        "residual": "residual",
    }
    for name, tag in wanted.items():
        assert [step for step, _ in found[tag]] == [1, 2, 3]
        assert [value for _, value in found[tag]] == pytest.approx([row[name] for row in rows], rel=1e-6)
    assert [value for _, value in found["rate/0"]] == pytest.approx([0.5] * 3)


def test_tensorboard_has_every_element_of_a_list_and_no_angle_that_is_none(tmp_path):
    pytest.importorskip("tensorboard")
    report = TensorBoard(tmp_path)
    report.on_fit_start(2, None, [])
    for row in (
        {"weight_angles": [10.5, 90.0], "update_angle": 30.25},
        {"weight_angles": [11.5, 80.0], "update_angle": None},
    ):
        report.on_epoch_end(ROW | row | {"epoch": 1 + (row["update_angle"] is None)})
    report.on_fit_end()
    found = scalars(tmp_path)
    assert {tag: found[tag] for tag in found if "angle" in tag} == {
        "weight/angle/0": [(1, 10.5), (2, 11.5)], "weight/angle/1": [(1, 90.0), (2, 80.0)], "update/angle": [(1, 30.25)],
    }  # fmt: skip
    assert [tag for tag in found if tag.startswith("rate")] == ["rate/0", "rate/1"]
    assert "epoch" not in found


def test_without_tensorboard_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    for module in [name for name in sys.modules if "tensorboard" in name.split(".")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'eqprop\[tensorboard\]'"):
        TensorBoard(tmp_path)
