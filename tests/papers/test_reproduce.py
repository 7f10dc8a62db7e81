"""``eqprop reproduce`` on a tiny paper: missing items are computed, finished ones are kept, and the report shows both."""

import errno
import json
import math
import re
import shutil
import signal
import sys
from base64 import b64decode
from dataclasses import replace
from html.parser import HTMLParser

import pytest

import eqprop as ep
from command import call, files
from eqprop.papers.registry import baseline
from eqprop.papers.reproduction.paper import Row
from eqprop.theorem.experiment import Experiment
from eqprop.theorem.report import layer_errors
from eqprop.theorem.result import read_result, run_experiment
from eqprop.training import SGD, create_run
from eqprop.training.progress.callbacks import PlainLines
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run
from eqprop.training.summary import summarize
from picture_files import sketched
from small_paper import (
    CALL,
    EXACT,
    FOLDERS,
    PAPER,
    ROWS,
    TINY,
    TOY,
    TRAIN,
    disable_figures,
    forbid,
    modification_times,
    report_text,
    tables,
    train_in,
    use_paper,
    without_times,
    write_result,
)
from small_sets import secluded
from small_trainings import outcome


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A user without data sets and without a network, and one tiny paper."""
    use_paper(monkeypatch)
    disable_figures(monkeypatch)
    return secluded(tmp_path, monkeypatch)


@pytest.fixture(scope="module")
def drawn(tmp_path_factory):
    """The folder of a complete reproduction with figures, and its output."""
    folder = tmp_path_factory.mktemp("drawn") / "out"
    with pytest.MonkeyPatch.context() as patch:
        use_paper(patch)
        sketched(patch)
        said = call(f"reproduce tiny2026 --fresh --train tiny --seeds 2 --out {folder}").done()
    return folder, said


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The folder of a complete reproduction without figures, never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        use_paper(patch)
        disable_figures(patch)
        patch.chdir(folder)
        call(TRAIN).done()
    return folder / "out"


# a complete reproduction


def test_every_item_is_computed_and_announced(drawn):
    folder, said = drawn
    lines = said.splitlines()
    theorem = [line for line in lines if line.startswith("theorem ")]
    assert [line.split(":")[0] for line in theorem] == ["theorem 1/2, tiny-toy", "theorem 2/2, tiny-exact"]
    assert all(re.search(r": done in \d+\.\d s$", line) for line in theorem)
    assert [line for line in lines if line.startswith("training ")] == [
        "training 1/2, tiny by EP: trained", "training 2/2, tiny by BPTT: trained",
    ]  # fmt: skip
    assert lines[-1] == f"report in {folder / 'report.html'} and {folder / 'report.md'}"
    assert "not run yet" not in said


def test_the_files_that_are_written(drawn):
    folder, _ = drawn
    found = {name for name in files(folder) if "." in name.split("/")[-1]}
    pictures = {"plots/errors", "plots/training-tiny", "theorem/tiny-exact/plots/betas"}
    pictures |= {
        f"theorem/tiny-{which}/plots/{name}" for which in ("toy", "exact") for name in ("errors", "increments")
    }
    names = {f"{name}.{ending}" for name in pictures for ending in ("png", "svg")} | {"report.md", "report.html"}
    for which in ("toy", "exact"):
        names |= {f"theorem/tiny-{which}/{name}.json" for name in ("experiment", "report", "environment")}
    for run in FOLDERS:
        names |= {f"{run}/{name}" for name in ("config.json", "environment.json", "metrics.jsonl")}
        names |= {f"{run}/checkpoint/{which}.safetensors" for which in ("last", "best")}
    assert found == names


def test_the_experiments_are_the_papers(drawn):
    folder, _ = drawn
    for check in (TOY, EXACT):
        result = read_result(folder / "theorem" / check.experiment.name)
        assert result.experiment == check.experiment
        model = check.experiment.build()
        x, y = check.experiment.batch(model)
        (free, nudged), beta = check.experiment.phases, check.experiment.estimator.beta
        assert result.summary == ep.gdu(model, x, y, free, nudged, beta).summary()
        assert [summary["beta"] for summary in result.betas] == list(check.betas)


def test_the_trainings_are_the_recipes(drawn, tmp_path):
    folder, _ = drawn
    for name in FOLDERS:
        method, seed = name.split("/")[-2:]
        run = replace(TINY if method == "ep" else baseline(TINY), seed=int(seed[-1]))
        assert read_run(folder / name) == run
        assert len(RunFolder(folder / name).rows()) == 2
    train_in(replace(TINY, seed=1), tmp_path / "alone")
    assert outcome(tmp_path / "alone") == outcome(folder / FOLDERS[1])


def test_the_report_has_the_measurements(drawn):
    folder, _ = drawn
    results, runs, *_ = tables(report_text(folder))
    assert [row["experiment"] for row in results] == ["tiny-toy", "tiny-exact"]
    for row, run, check in zip(results, runs, (TOY, EXACT), strict=True):
        result, (free, nudged) = read_result(folder / "theorem" / row["experiment"]), check.experiment.phases
        assert (row["figure"], row["T"], row["K"], row["beta"]) == (check.place, str(free), str(nudged), "0.01")
        assert row["batch"] == str(check.experiment.data.batch_size)
        assert float(row["residual"]) == pytest.approx(result.summary["residual"], rel=0.1)
        for name, error in layer_errors(result.summary).items():
            column = "error, neurons" if name.startswith("s") else "error, weights"
            (value,) = re.findall(rf"(?:^|, ){name.removesuffix(' weight')}\s(\S+?)(?:,|$)", row[column])
            assert float(value) == pytest.approx(error, rel=0.1)
        assert row["angle"].endswith("°")
        assert float(row["angle"][:-1]) == pytest.approx(result.summary["angle"], rel=0.1)
        broken = [a["name"] for a in result.summary["assumptions"] if not a["holds"]]
        assert row["violated assumptions"] == (", ".join(broken) or "none")
        assert run["entry"] == row["experiment"]
        assert "thread" in run["hardware"]
    assert runs[0]["command"] == "`eqprop gdu tiny-toy`"
    assert runs[1]["command"] == "`eqprop gdu tiny-exact --betas 0.1 0.001`"


def test_published_errors_are_shown_next_to_those_found(drawn):
    folder, _ = drawn
    *_, errors, runs = tables(report_text(folder))
    assert [(row["recipe"], row["method"]) for row in errors] == [("tiny", "EP"), ("tiny", "BPTT")]
    assert [row["published test error"] for row in errors] == ["12.34 ± 0.56 %", "0.01 ± 0.02 %"]
    assert [row["published training error"] for row in errors] == ["7.89 %", "–"]
    for row, run, command, method in zip(errors, runs, ROWS, ("ep", "bptt"), strict=True):
        summary = summarize([RunFolder(folder / "trainings" / "tiny" / method / f"seed-{n}").rows() for n in (0, 1)])
        assert row["test error here"] == summary.test.percent()
        assert " ± " in row["test error here"]
        assert row["training error here"] == summary.train.percent()
        assert row["seeds"] == "2"
        assert (run["command"], run["seeds"]) == (f"`{command}`", "0, 1")
        assert re.fullmatch(r"\S+ (s|min)", run["time per run"])
        assert "thread" in run["hardware"]


def test_the_summary(drawn):
    text = report_text(drawn[0]).split("## Summary")[1].split("##")[0]
    assert "2 of 2 experiments run" in text
    assert "2 of 2 rows of the table run" in text
    assert re.search(r"`tiny` by EP: test error .* over 2 seeds, published 12\.34 ± 0\.56 %", text)
    assert re.search(
        r"`tiny` by BPTT: .* published 0\.01 ± 0\.02 % \(Tiny 2026, Table 1, from memory\): \*\*not reached\*\*\.", text
    )
    high, low = re.search(r"`tiny-exact`: .* is (\S+) at beta = 0\.1 and (\S+) at beta = 0\.001", text).groups()
    assert float(low) == pytest.approx(float(high) / 100, rel=0.3)


def test_claim_titles_and_remarks(drawn):
    text = report_text(drawn[0])
    assert text.startswith(f"# {PAPER.title} – reproduced with eqprop {ep.__version__}\n")
    assert PAPER.claim in text
    assert [line for line in text.splitlines() if line.startswith("## ")] == [
        "## Claim", "## Summary", "## Theorem", "## Training", "## How to repeat this",
    ]  # fmt: skip
    assert "- tiny: the published figure is made up." in text


class Sources(HTMLParser):
    """The links and the text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.found, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.found += [(tag, name, value) for name, value in attributes if name in ("src", "href")]

    def handle_data(self, data):
        self.text += data


def test_the_page_is_one_file_with_the_same_content(drawn):
    folder, _ = drawn
    text = (folder / "report.html").read_text()
    page = Sources(text)
    assert not re.search(r"https?://", text)
    pictures = [b64decode(value.split("base64,")[1]) for _, name, value in page.found if name == "src"]
    linked = re.findall(r"!\[.*?\]\((.*?)\.png\)", report_text(folder))
    assert linked == [
        "plots/errors", "theorem/tiny-toy/plots/increments", "theorem/tiny-exact/plots/betas", "plots/training-tiny",
    ]  # fmt: skip
    assert pictures == [(folder / f"{name}.svg").read_bytes() for name in linked]
    for table in tables(report_text(folder)):
        for row in table:
            assert all(cell.replace("`", "") in page.text for cell in row.values())


@pytest.mark.slow
def test_with_real_pictures(here, monkeypatch):
    monkeypatch.undo()
    use_paper(monkeypatch)
    monkeypatch.chdir(here)
    call(TRAIN).done()
    drawings = [*(here / "out").rglob("*.png"), *(here / "out").rglob("*.svg")]
    assert len(drawings) == 2 * 7
    for file in drawings:
        assert file.read_bytes().startswith(b"\x89PNG" if file.suffix == ".png" else b"<?xml")
    page = Sources((here / "out" / "report.html").read_text())
    assert len([name for tag, name, _ in page.found if tag == "img"]) == 4


def test_the_report_holds_no_path_of_the_machine(drawn, tmp_path):
    folder, _ = drawn
    for name in ("report.md", "report.html"):
        text = (folder / name).read_text()
        assert str(folder.parent) not in text
        assert not re.search(r"(?<![\w.~-])/(home|root|tmp|Users)\b", text)


# finished items


def test_a_second_call_computes_nothing(whole, here, monkeypatch):
    shutil.copytree(whole, here / "out")
    before, contents, said = modification_times(here / "out"), files(here / "out"), report_text(here / "out")
    for name in ("run_experiment", "train_runs", "create_run", "draw"):
        monkeypatch.setattr(f"eqprop.cli.reproduction.{name}", forbid)
    lines = call(TRAIN).done().splitlines()
    assert [line.split(": ")[1] for line in lines[:4]] == ["already finished"] * 4
    now = modification_times(here / "out")
    written = {name for name in before if now[name] != before[name]}
    assert written == {"report.md", "report.html"}
    assert files(here / "out") == contents
    assert report_text(here / "out") == said


def test_more_seeds_are_trained_and_no_others(whole, here):
    shutil.copytree(whole, here / "out")
    before = modification_times(here / "out" / "trainings")
    call(f"{CALL} --train tiny --seeds 3").done()
    now = modification_times(here / "out" / "trainings")
    assert {name: now[name] for name in before} == before
    assert {"/".join(name.split("/")[:3]) for name in now.keys() - before} == {"tiny/ep/seed-2", "tiny/bptt/seed-2"}
    assert [row["seeds"] for row in tables(report_text(here / "out"))[2]] == ["3", "3"]


def test_rows_that_were_not_run_are_marked(here):
    said = call(CALL).done()
    assert not (here / "out" / "trainings").exists()
    errors, runs = tables(report_text(here / "out"))[2:]
    assert [row["test error here"] for row in errors] == ["not run yet"] * 2
    assert [row["published test error"] for row in errors] == ["12.34 ± 0.56 %", "0.01 ± 0.02 %"]
    assert [(row["command"], row["seeds"]) for row in runs] == [(f"`{command}`", "–") for command in ROWS]
    assert "2 rows of the table are not run yet, such as `eqprop train tiny`" in said
    assert "0 of 2 rows of the table run" in report_text(here / "out")
    for word in ("--train", "--fresh", "--quick"):
        assert word in report_text(here / "out")


def test_a_row_with_one_training(here):
    call(f"train tiny --no-plots --seed 7 --out {here / 'out' / 'mine'}").done()
    call(CALL).done()
    errors, runs = tables(report_text(here / "out"))[2:]
    assert re.fullmatch(r"\d+\.\d\d %", errors[0]["test error here"])
    assert runs[0]["seeds"] == "7"
    assert errors[1]["test error here"] == "not run yet"
    assert "(one seed)" in report_text(here / "out")


def test_unfinished_trainings_do_not_count(here):
    create_run(TINY, here / "out" / "a")
    train_in(replace(TINY, seed=1, epochs=1), here / "out" / "b")
    metrics = RunFolder(here / "out" / "b").metrics
    config = RunFolder(here / "out" / "b").config
    config.write_text(replace(TINY, seed=1).to_json())  # of two epochs one is done
    assert len(metrics.read_text().splitlines()) == 1
    call(CALL).done()
    assert [row["test error here"] for row in tables(report_text(here / "out"))[2]] == ["not run yet"] * 2


# interruptions


def test_interrupted_in_an_experiment_and_continued(whole, here, monkeypatch):
    def stops(one, *arguments, **options):
        if one.name == "tiny-exact":
            raise KeyboardInterrupt
        return run_experiment(one, *arguments, **options)

    with monkeypatch.context() as patch:
        patch.setattr("eqprop.cli.reproduction.run_experiment", stops)
        answer = call(TRAIN)
    assert (answer.code, answer.err) == (130, "stopped\n")
    assert sorted(path.name for path in (here / "out" / "theorem").iterdir()) == ["tiny-toy"]
    assert not (here / "out" / "report.md").exists()
    lines = call(TRAIN).done().splitlines()
    assert lines[0] == "theorem 1/2, tiny-toy: already finished"
    assert without_times(report_text(here / "out")) == without_times(report_text(whole))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_interrupted_in_a_training_and_continued(number, whole, here, monkeypatch):
    """In the first, second or third of four, after an epoch; the results equal those without interruption."""
    original, begun = PlainLines.on_epoch_end, []

    def stops(self, row):
        original(self, row)
        begun.append(row["epoch"])
        if begun.count(1) == number:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(PlainLines, "on_epoch_end", stops)
        answer = call(TRAIN)
    assert answer.code == 130
    assert answer.err.splitlines() == ["stopped; go on with the same `eqprop reproduce` command"]
    done = [name for name in FOLDERS if RunFolder(here / "out" / name).last.exists()]
    assert done == FOLDERS[:number]
    finished = [name for name in done if len(RunFolder(here / "out" / name).rows()) == 2]
    assert finished == FOLDERS[: number - 1]
    before = {name: modification_times(here / "out" / name) for name in finished}
    call(TRAIN).done()
    assert {name: modification_times(here / "out" / name) for name in finished} == before
    for name in FOLDERS:
        assert outcome(here / "out" / name) == outcome(whole / name)
    assert without_times(report_text(here / "out")) == without_times(report_text(whole))


def test_continued_by_train_resume(whole, here, monkeypatch):
    """As the message of an interruption says."""
    original = PlainLines.on_epoch_end

    def stops(self, row):
        original(self, row)
        signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patch:
        patch.setattr(PlainLines, "on_epoch_end", stops)
        assert call(TRAIN).code == 130
    call("train --resume out --no-plots").done()
    call(TRAIN).done()
    assert without_times(report_text(here / "out")) == without_times(report_text(whole))


DAMAGES = {
    "cut": lambda raw: raw[: len(raw) // 2],
    "empty": lambda raw: b"",
    "no text": lambda raw: b"\xff\xfe" + raw,
    "missing": None,
}


@pytest.mark.parametrize("damage", DAMAGES)
@pytest.mark.parametrize("name", ["report", "experiment", "environment"])
def test_a_damaged_result_is_computed_again(name, damage, here):
    call(CALL).done()
    sound = {
        key: value
        for key, value in vars(read_result(here / "out" / "theorem" / "tiny-toy")).items()
        if key != "seconds"
    }
    file = here / "out" / "theorem" / "tiny-toy" / f"{name}.json"
    if DAMAGES[damage] is None:
        file.unlink()
    else:
        file.write_bytes(DAMAGES[damage](file.read_bytes()))
    first, second, *_ = call(CALL).done().splitlines()
    assert re.fullmatch(r"theorem 1/2, tiny-toy: done in \d\.\d s", first)
    assert second == "theorem 2/2, tiny-exact: already finished"
    again = vars(read_result(here / "out" / "theorem" / "tiny-toy"))
    assert {key: value for key, value in again.items() if key != "seconds"} == sound


def test_the_result_of_another_experiment_is_computed_again(here):
    """As after a change of the recipe."""
    write_result(replace(TOY.experiment, seed=5), here / "out" / "theorem" / "tiny-toy")
    write_result(EXACT.experiment, here / "out" / "theorem" / "tiny-exact", betas=(0.1,))  # one strength is missing
    lines = call(CALL).done().splitlines()
    assert all(": done in " in line for line in lines[:2])
    assert read_result(here / "out" / "theorem" / "tiny-toy").experiment == TOY.experiment
    assert [summary["beta"] for summary in read_result(here / "out" / "theorem" / "tiny-exact").betas] == [0.1, 0.001]


def test_a_training_of_another_configuration_is_not_continued(here, monkeypatch):
    call(TRAIN).done()
    other = replace(TINY, optimizer=SGD(0.1))
    use_paper(monkeypatch, replace(PAPER, rows=(Row(other, ROWS[0]), Row(baseline(other), ROWS[1]))))
    before = files(here / "out" / "trainings")
    answer = call(TRAIN)
    assert answer.code == 2
    assert "trainings/tiny/ep/seed-0 holds a training with another configuration: set another folder" in answer.error()
    assert files(here / "out" / "trainings") == before


# mistakes

MISTAKES = {
    "reproduce xyzzy": "'xyzzy'",
    "reproduce tiny": "'tiny': did you mean 'tiny2026'",
    "reproduce --quick tiny2026": "'--quick'",
    "reproduce tiny2026 extra": "extra",
    "reproduce tiny2026 --quik": "--quick",
    "reproduce tiny2026 --train p-1h": "'p-1h'",
    "reproduce tiny2026 --train tiny tinny": "'tinny': did you mean 'tiny'",
    "reproduce tiny2026 --quick --train tiny": "--train applies to the full reproduction: leave --quick out",
    "reproduce tiny2026 --seeds 0": "--seeds must be a whole number of at least 1, got 0",
    "reproduce tiny2026 --device nonsense": "'nonsense'",
    "reproduce tiny2026 --records missing": "--records must be an existing folder, got 'missing'",
    "reproduce tiny2026 --records file": "'file'",
    "reproduce tiny2026 --data.root missing": "--data.root must be an existing folder, got 'missing'",
    "reproduce tiny2026 --out file": "file",
    "reproduce tiny2026 --out file/below": "file",
    "reproduce tiny2026 --out dangling": "dangling",
    "reproduce tiny2026 --out=": "--out",
}


@pytest.mark.parametrize("words", MISTAKES)
def test_a_mistake(words, here, tmp_path):
    (here / "file").write_text("mine")
    (here / "dangling").symlink_to("gone")
    before = files(tmp_path)
    assert MISTAKES[words] in call(words).complaint()
    assert files(tmp_path) == before


def test_help():
    assert "tiny2026" in call("reproduce --help").done()
    nothing = call("reproduce")
    assert (nothing.code, nothing.out) == (2, call("reproduce --help").out)
    said = call("reproduce tiny2026 --help").done()
    for option in ("--out", "--quick", "--train", "--seeds", "--records", "--fresh", "--device", "--data.root"):
        assert re.search(rf"^│ {re.escape(option)}\b", said, re.MULTILINE)


# failures


@pytest.mark.parametrize("where", ["eqprop.theorem.result", "eqprop.cli.reproduction"])
def test_a_full_disk_and_a_second_call(where, whole, here, monkeypatch):
    """Finished items are kept."""

    def full(path, content):
        raise OSError(errno.ENOSPC, "No space left on device", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(f"{where}.write_atomic", full)
        answer = call(CALL)
    assert answer.code == 1
    assert answer.error() == "eqprop: out: No space left on device: make room, then call it again\n"
    assert not (here / "out" / "report.md").exists()
    lines = call(TRAIN).done().splitlines()
    assert ("already finished" in lines[0]) == (where == "eqprop.cli.reproduction")
    assert without_times(report_text(here / "out")) == without_times(report_text(whole))


def test_a_full_disk_in_a_training(here, monkeypatch):
    def full(self, row):
        raise OSError(errno.ENOSPC, "No space left on device", "metrics.jsonl")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "append", full)
        answer = call(TRAIN)
    assert answer.code == 1
    assert "No space left on device" in answer.error()
    assert "make room" in answer.err
    call(TRAIN).done()
    assert [row["seeds"] for row in tables(report_text(here / "out"))[2]] == ["2", "2"]


def test_numbers_that_are_not_finite(here, monkeypatch):
    batch = Experiment.batch

    def bad(self, *arguments):
        x, y = batch(self, *arguments)
        return x * math.nan, y

    monkeypatch.setattr(Experiment, "batch", bad)
    answer = call(CALL)
    assert answer.code == 1
    assert "tiny-toy: the input" in answer.error()


def test_without_matplotlib_the_report_has_no_figures(here, monkeypatch):
    monkeypatch.undo()  # of the fixture that forbids pictures, too
    use_paper(monkeypatch)
    monkeypatch.chdir(here)
    for name in ("matplotlib", "matplotlib.figure"):
        monkeypatch.setitem(sys.modules, name, None)
    answer = call(CALL)
    assert answer.code == 0
    assert answer.err == "eqprop: no pictures without matplotlib: pip install 'eqprop[plot]'\n"
    assert "![" not in report_text(here / "out")
    assert "<img" not in (here / "out" / "report.html").read_text()


def test_results_are_valid_json(whole):
    for path in (whole / "theorem").rglob("*.json"):
        json.loads(path.read_text())
