"""From a run to a folder to a model that predicts as the trained one did."""

import json
import signal
from dataclasses import replace

import pytest
import torch

import eqprop as ep
from eqprop.data import hold_out, load_digits
from eqprop.papers.registry import recipe
from eqprop.training import SGD, Cosine, Data, Run, checkpoint, create_run, evaluate, load, prepare_run, train_run
from eqprop.training.checkpoint import DamagedError
from eqprop.training.run_folder import RunFolder
from eqprop.training.signals import Interrupted
from small_trainings import CENTRED, CallbackSpy, after, outcome

MODEL = ep.MLP((64, 8, 10), "sigmoid", dynamics=ep.Prototypical(nudge="inside"))
RUN = Run("mine", Data("digits", 60, validation=200), MODEL, CENTRED, SGD((0.6, 0.3), momentum=0.5), Cosine(), epochs=3)


@pytest.fixture(scope="module")
def done(tmp_path_factory):
    """A finished run: its folder, and the weights after every epoch."""
    folder, weights = tmp_path_factory.mktemp("done") / "run", []
    torch.set_num_threads(1)
    session, place = prepare_run(RUN), create_run(RUN, folder)
    trainer = session.trainer(place.path, [CallbackSpy(epoch=lambda row: weights.append(copied(session.model)))])
    trainer.fit(session.train, RUN.epochs, validation=session.validation, test=session.test)
    return folder, weights, session


def copied(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_samples_are_those_of_the_data_set():
    session, ((x, y), test) = prepare_run(RUN), load_digits()
    kept, held_out = hold_out((x, y), 200)
    for batches, (x, y), size in (
        (session.train, kept, 60),
        (session.validation, held_out, 1000),
        (session.test, test, 1000),
    ):
        assert torch.equal(batches.x, x)
        assert torch.equal(batches.y, y)
        assert batches.size == size
    assert session.train.shuffle
    assert session.train.seed == RUN.seed
    assert prepare_run(replace(RUN, data=Data("digits"))).validation is None


def test_a_loaded_model_predicts_as_the_trained_one(done):
    folder, weights, session = done
    model, (x, _) = load(folder), load_digits().test
    assert same(model.state_dict(), weights[-1])
    assert torch.equal(model(x), session.model(x))
    assert model.settle == session.model.settle


def test_the_best_is_the_best_epochs(done):
    folder, weights, session = done
    errors = [row["validation_error"] for row in RunFolder(folder).rows()]
    best = errors.index(min(errors))
    model = load(folder, "best")
    assert same(model.state_dict(), weights[best])
    assert evaluate(model, session.validation).error == min(errors)


def test_the_rows_can_be_found_again(done):
    folder, _, session = done
    row, model = RunFolder(folder).rows()[-1], load(folder)
    for part in ("validation", "test"):
        score = evaluate(model, getattr(session, part))
        assert (score.cost, score.error) == (row[f"{part}_cost"], row[f"{part}_error"])


def test_start_and_proceed_do_the_same(done, tmp_path):
    create_run(RUN, tmp_path / "a")
    rows = train_run(tmp_path / "a")
    wanted = RunFolder(done[0]).rows()
    assert [row | {"seconds": 0} for row in rows] == [row | {"seconds": 0} for row in wanted]
    assert same(load(tmp_path / "a").state_dict(), done[1][-1])


def test_a_run_is_the_same_whatever_was_drawn_before(tmp_path):
    """Nothing but the run decides what is in its files: not the state of torch's default generator."""
    for noise in (1, 2):
        torch.manual_seed(noise)
        create_run(RUN, tmp_path / str(noise))
        train_run(tmp_path / str(noise))
    assert outcome(tmp_path / "1") == outcome(tmp_path / "2")


def test_seeds_differ_and_the_folder_does_not_matter(done, tmp_path):
    create_run(replace(RUN, seed=1), tmp_path / "a")
    train_run(tmp_path / "a")
    assert not any(
        torch.equal(a, b) for a, b in zip(load(tmp_path / "a").parameters(), load(done[0]).parameters(), strict=True)
    )


def test_threads_are_those_of_the_run_for_as_long_as_it_lasts(tmp_path):
    seen = []

    def look(epoch, batch):
        seen.append(torch.get_num_threads())
        if epoch == 2:
            raise RuntimeError("tripped")

    create_run(replace(RUN, threads=2, data=Data("digits", 100)), tmp_path / "a")
    with pytest.raises(RuntimeError, match="tripped"):
        train_run(tmp_path / "a", callbacks=[CallbackSpy(batch=look)])
    assert set(seen) == {2}
    assert torch.get_num_threads() == 1
    train_run(tmp_path / "a")
    assert torch.get_num_threads() == 1


def test_proceed_goes_on_after_ctrl_c(done, tmp_path):
    create_run(RUN, tmp_path / "a")
    for _ in range(4):
        with pytest.raises(Interrupted):
            train_run(tmp_path / "a", callbacks=[after(13, lambda: signal.raise_signal(signal.SIGINT))])
    train_run(tmp_path / "a")
    assert outcome(tmp_path / "a")[1:] == outcome(done[0])[1:]
    assert same(load(tmp_path / "a").state_dict(), done[1][-1])


def test_a_model_can_be_loaded_in_the_middle(tmp_path):
    create_run(RUN, tmp_path / "a")
    with pytest.raises(Interrupted):
        train_run(tmp_path / "a", callbacks=[after(3, lambda: signal.raise_signal(signal.SIGINT))])
    assert load(tmp_path / "a")(torch.rand(2, 64)).shape == (2, 10)
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*best\.safetensors"):
        load(tmp_path / "a", "best")


def test_a_model_can_be_loaded_while_it_is_trained(tmp_path):
    """To look at it; the folder is held against writers only."""
    create_run(RUN, tmp_path / "a")
    seen = []
    train_run(tmp_path / "a", callbacks=[CallbackSpy(epoch=lambda row: seen.append(load(tmp_path / "a", "best")))])
    assert len(seen) == 3


def test_loading_draws_nothing(done):
    before = torch.get_rng_state()
    load(done[0])
    assert torch.equal(torch.get_rng_state(), before)


def test_what_cannot_be_loaded(done, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nowhere holds no run: there is no config\.json in it"):
        load(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"`which` must be one of 'last', 'best', got 'first'"):
        load(done[0], "first")
    create_run(RUN, tmp_path / "new")
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*last\.safetensors"):
        load(tmp_path / "new")


def copy_of(folder, to):
    (to / "checkpoint").mkdir(parents=True)
    for name in ("config.json", "checkpoint/last.safetensors", "checkpoint/best.safetensors"):
        (to / name).write_bytes((folder / name).read_bytes())
    return to


@pytest.mark.parametrize("which", ["last", "best"])
def test_damage_is_told_of(done, tmp_path, which):
    folder = copy_of(done[0], tmp_path / "a")
    path = folder / "checkpoint" / f"{which}.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DamagedError, match=rf"{which}\.safetensors"):
        load(folder, which)


def test_a_configuration_of_another_model_is_told_of(done, tmp_path):
    folder = copy_of(done[0], tmp_path / "a")
    (folder / "config.json").write_text(replace(RUN, model=ep.MLP((64, 9, 10))).to_json())
    with pytest.raises(
        ValueError,
        match=r"last\.safetensors was written with another configuration than .*: restore the file",
    ):
        load(folder)


@pytest.mark.parametrize("text", ["", "{", "hello", "[]", '{"type": "Run"}', b"\xff\xfe\x00"])
def test_a_damaged_configuration_is_told_of(done, tmp_path, text):
    folder = copy_of(done[0], tmp_path / "a")
    (folder / "config.json").write_bytes(text if isinstance(text, bytes) else text.encode())
    for act in (load, train_run):
        with pytest.raises(ValueError, match=r"config\.json is not a run's configuration: "):
            act(folder)


def test_a_folder_without_a_run(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"holds no run: there is no config\.json"):
        train_run(tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"model": ep.MLP((63, 10))},
            r"the model's input has 63 units, but a sample has 64 values: change the first size",
        ),
        (
            {"model": ep.MLP((64, 9))},
            r"the model's output does not fit digits: `y` must hold classes from 0 to 8, got 9",
        ),
        ({"model": ep.Toy(5, 20, 10)}, r"the model's input has 5 units, but a sample has 64 values"),
        ({"data": Data("digit")}, r"digit"),
        ({"data": Data("digits", validation=1437)}, r"`count` must be below the number of samples, 1437, got 1437"),
        ({"optimizer": SGD((0.1, 0.1, 0.1))}, r"`rates` names 3 learning rates, but the model has 2 connections"),
        ({"model": ep.MLP((64, 10)), "estimator": ep.EquilibriumProp(9, 3, 1.5)}, r"`beta` = 1\.5"),
        ({"model": ep.MLP((64, 8), cost=ep.CrossEntropyReadout(9, 10))}, r"the readout has 9 features"),
    ],
)
def test_parts_that_do_not_fit_each_other(changes, message):
    with pytest.raises(ValueError, match=message):
        prepare_run(replace(RUN, **{"optimizer": SGD(0.1)} | changes))


def test_what_was_trained_with_a_readout_untied_weights_and_a_tolerance_comes_back(tmp_path):
    model = ep.MLP((64, 12, 11), "sigmoid", cost=ep.CrossEntropyReadout(11, 10), settle=ep.Settle(20, 1e-3), tied=False)
    create_run(Run("mine", Data("digits", 20), model, ep.BPTT(10), SGD(0.5), epochs=1), tmp_path / "a")
    row = train_run(tmp_path / "a")[-1]
    score = evaluate(
        load(tmp_path / "a"), prepare_run(Run.from_json((tmp_path / "a" / "config.json").read_text())).test
    )
    assert (score.cost, score.error) == (row["test_cost"], row["test_error"])
    assert "cost.weight" in load(tmp_path / "a").state_dict()
    assert json.loads((tmp_path / "a" / "metrics.jsonl").read_text())["epoch"] == 1
    assert checkpoint.read(RunFolder(tmp_path / "a").last)[1]["epoch"] == 1


def test_a_run_that_goes_on_elsewhere_says_so_and_keeps_it(tmp_path):
    create_run(replace(recipe("digits"), epochs=1), tmp_path / "a")
    with pytest.raises(Interrupted):
        train_run(tmp_path / "a", callbacks=[after(5, lambda: signal.raise_signal(signal.SIGINT))])
    place = RunFolder(tmp_path / "a").environment
    began = json.loads(place.read_text())
    place.write_text(json.dumps(began | {"torch": "0.4"}))
    with pytest.warns(UserWarning, match=r"is resumed with torch .*, not 0\.4"):
        train_run(tmp_path / "a")
    assert json.loads(place.read_text()) == began | {"torch": "0.4", "resumed_on": [began]}


def test_a_run_that_goes_on_where_it_was_changes_nothing(tmp_path):
    create_run(replace(recipe("digits"), epochs=1), tmp_path / "a")
    with pytest.raises(Interrupted):
        train_run(tmp_path / "a", callbacks=[after(5, lambda: signal.raise_signal(signal.SIGINT))])
    before = RunFolder(tmp_path / "a").environment.read_bytes()
    train_run(tmp_path / "a")
    assert RunFolder(tmp_path / "a").environment.read_bytes() == before
