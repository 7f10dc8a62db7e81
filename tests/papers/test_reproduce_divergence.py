"""``eqprop reproduce --train``: a training that diverges is marked in the report, and the others are run."""

from dataclasses import replace

import pytest

from command import call, files
from eqprop.papers.reproduction.paper import AnglePoint, ErrorByAngle, Row, Sweep
from eqprop.training import SGD
from eqprop.training.run_folder import RunFolder
from small_paper import CALL, PAPER, ROWS, TINY, disable_figures, report_text, tables, use_paper
from small_sets import secluded
from small_trainings import outcome

WILD = replace(TINY, name="wild", optimizer=SGD(1e6), model=replace(TINY.model, activation="identity"))
COMMAND = "eqprop train wild"
POINT = AnglePoint("EP-w", Row(WILD, COMMAND), (11.0, None), (2.25, 0.5))
FIGURES = {
    "sweeps": (
        Sweep("by-rate", "By rate", "rate", "Two.", {"own": {1e6: Row(WILD, COMMAND), 1.0: Row(TINY, ROWS[0])}}),
    ),
    "angle_figures": (ErrorByAngle("by-angle", "By angle", "One.", "angles", (POINT,)),),
}
WITH_WILD = replace(PAPER, rows=(Row(WILD, COMMAND), *PAPER.rows), **FIGURES)
NAMED = "seeds 0, 1 diverged"


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """A user without data sets and without a network, whose paper has a training that diverges."""
    use_paper(monkeypatch, WITH_WILD, WILD)
    disable_figures(monkeypatch)
    return secluded(tmp_path, monkeypatch)


def test_divergence_is_announced_and_the_rest_is_trained(here):
    said = call(f"{CALL} --train wild tiny --seeds 2").done().splitlines()
    (line,) = [line for line in said if line.startswith("training 1/3, wild by EP: ")]
    assert line.count(" diverged: epoch 1, batch") == 2
    assert "seed 0 diverged" in line
    assert "trained" not in line
    assert [each for each in said if each.startswith("training ")][1:] == [
        "training 2/3, tiny by EP: trained", "training 3/3, tiny by BPTT: trained",
    ]  # fmt: skip
    assert not any("not run yet" in each for each in said)
    trainings = here / "out" / "trainings"
    for seed in (0, 1):
        assert not RunFolder(trainings / f"wild/ep/seed-{seed}").rows()
        assert len(RunFolder(trainings / f"tiny/ep/seed-{seed}").rows()) == 2


def test_divergence_is_shown_in_every_table(here):
    call(f"{CALL} --train wild tiny --seeds 2").done()
    text = report_text(here / "out")
    _, _, errors, runs, angles, sweep = tables(text)
    assert [row["test error here"] == NAMED for row in errors] == [True, False, False]
    assert [row["seeds"] for row in errors] == ["", "2", "2"]
    assert (runs[0]["command"], runs[0]["seeds"]) == (f"`{COMMAND}`", "–")
    assert angles[0]["test error here"] == NAMED
    assert [row["own"] == NAMED for row in sweep] == [False, True]
    assert f"- `wild` by EP: {NAMED}.\n" in text
    assert "2 of 3 rows of the table run; the others are marked “not run yet” or as diverged." in text
    assert "trainings are not run yet" not in text


def test_seeds_that_do_not_diverge_count(here, monkeypatch):
    """The first of three diverges; the others equal separate trainings."""
    from eqprop.cli import runs as study

    train_one, tried = study._train_one, []

    def breaks(place, *arguments):
        tried.append(place.path.name)
        if "tiny/ep/seed-0" in str(place.path):
            raise FloatingPointError("epoch 2, batch 3: a state is not finite")
        return train_one(place, *arguments)

    monkeypatch.setattr(study, "_train_one", breaks)
    said = call(f"{CALL} --train tiny --seeds 3").done()
    assert "tiny by EP: trained; seed 0 diverged: epoch 2, batch 3: a state is not finite\n" in said
    assert tried == ["seed-0", "seed-1", "seed-2"] * 2
    _, _, errors, *_ = tables(report_text(here / "out"))
    assert errors[1]["seeds"] == "2; seed 0 diverged"
    assert " ± " in errors[1]["test error here"]
    assert errors[2]["seeds"] == "3"
    assert "published 12.34 ± 0.56 %" in report_text(here / "out")
    assert "; seed 0 diverged.\n" in report_text(here / "out")
    monkeypatch.setattr(study, "_train_one", train_one)
    call(f"{CALL}-2 --train tiny --seeds 3").done()
    for seed in (1, 2):
        one, other = (here / folder / f"trainings/tiny/ep/seed-{seed}" for folder in ("out", "out-2"))
        assert outcome(one) == outcome(other)


def test_a_second_call_tries_only_the_diverged_training_again(here):
    call(f"{CALL} --train wild tiny --seeds 1").done()
    before = files(here / "out" / "trainings" / "tiny")
    said = call(f"{CALL} --train wild tiny --seeds 1").done()
    assert "wild by EP: seed 0 diverged: epoch 1, batch" in said
    assert said.count(": already finished") == 4
    assert files(here / "out" / "trainings" / "tiny") == before
    call(CALL).done()
    assert tables(report_text(here / "out"))[2][0]["test error here"] == "not run yet"


def test_train_alone_still_ends_with_an_error(here):
    answer = call("train wild --no-plots --out run")
    assert answer.code == 1
    assert answer.error().startswith("eqprop: run: the training diverged: epoch 1, batch")
    assert "the last finite weights are kept: `eqprop evaluate run` tests them" in answer.err
