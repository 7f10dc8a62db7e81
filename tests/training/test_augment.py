"""Runs on normalized and augmented samples: what a file holds of it, who sees it, and that a kill changes no byte."""

import json
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import eqprop as ep
from command import call
from eqprop.cli.parsers import format_augment, format_normalize, parse_augment, parse_normalize
from eqprop.data import Augment, Batches, Normalize, hold_out, load
from eqprop.theorem.experiment import RANDOM, Experiment
from eqprop.training import SGD, Data, Run, checkpoint, create_run, prepare_run, train_run
from eqprop.training.config.run import CONFIG_CLASSES
from eqprop.training.config.serialization import decode, encode
from eqprop.training.run_folder import RunFolder
from eqprop.training.session import read_run
from forked import killed_on_small_mnist
from small_sets import isolate, small_mnist
from small_team import End, elsewhere
from small_trainings import outcome

NORMALISE = Normalize((0.25,), (0.5,))
CHANGED = Data("mnist", 2, normalize=NORMALISE, augment=Augment(2))
MODEL = ep.MLP((784, 6, 10), "sigmoid")
EPOCHS, BATCHES = 2, 3

pytestmark = pytest.mark.filterwarnings("ignore:epoch 2.*does not learn")  # six samples are not for learning


def run(data: Data = CHANGED, **options) -> Run:
    return Run("varied", data, MODEL, ep.EquilibriumProp(6, 3, 0.2), SGD(0.1), **{"epochs": EPOCHS} | options)


@pytest.fixture
def root(tmp_path, monkeypatch, known) -> Path:
    """A folder with a data set of six and four images, for a user who has no other."""
    isolate(tmp_path, monkeypatch)
    folder = known(small_mnist()).put(tmp_path / "data")
    monkeypatch.setenv("EQPROP_DATA", str(folder))
    return folder


PARTS = {
    "normalized": Data("mnist", normalize=Normalize((0.1, 0.2, 0.3), (0.5,))),
    "varied": Data("mnist", augment=Augment(3, flip=False, border="edge")),
    "both": CHANGED,
}


@pytest.mark.parametrize("name", PARTS)
def test_a_file_carries_it_whole(name):
    whole = run(PARTS[name])
    assert Run.from_json(whole.to_json()) == whole
    assert Run.from_json(whole.to_json()).to_json() == whole.to_json()


def test_a_file_is_readable():
    assert json.loads(run().to_json())["data"] == {
        "type": "Data",
        "name": "mnist",
        "batch_size": 2,
        "validation": 0,
        "normalize": {"type": "Normalize", "mean": [0.25], "std": [0.5]},
        "augment": {"type": "Augment", "pad": 2, "flip": True, "border": "black"},
    }


def test_a_file_from_before_is_the_same_text_still():
    """So that a training which began before can go on, and what is recorded is found."""
    before = {"type": "Data", "name": "mnist", "batch_size": 20, "validation": 0}
    assert decode(before, CONFIG_CLASSES) == Data("mnist")
    assert encode(decode(before, CONFIG_CLASSES), CONFIG_CLASSES) == before


def test_configurations_with_and_without_are_not_the_same():
    assert len({run(data).to_json() for data in (*PARTS.values(), Data("mnist", 2))}) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": True}, "`augment` must be an object of class Augment, got an object of class bool"),
        ({"augment": Augment}, "`augment` .* got the class Augment itself"),
        ({"normalize": 0.5}, "`normalize` must be an object of class Normalize, got an object of class float"),
    ],
)
def test_parts_of_another_class_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Data("mnist", **options)


@pytest.mark.parametrize("part", ["normalize", "augment"])
def test_a_drawn_batch_is_not_changed(part):
    with pytest.raises(ValueError, match=f"`{part}` must be left out with random data, got "):
        Experiment(
            "mine", replace(Data(RANDOM), **{part: getattr(CHANGED, part)}), MODEL, ep.EquilibriumProp(6, 3, 0.2)
        )


def test_all_parts_are_normalized_and_training_samples_alone_are_varied(root):
    session, (train, (x, y)) = prepare_run(run(replace(CHANGED, validation=2), seed=3)), load("mnist")
    kept, held = hold_out(train, 2)
    assert session.validation is not None
    for batches, (images, classes) in ((session.validation, held), (session.test, (x, y))):
        assert torch.equal(torch.cat([a for a, _ in batches]), NORMALISE(images).flatten(1))
        assert torch.equal(torch.cat([b for _, b in batches]), classes)
    wanted = Batches(NORMALISE(kept[0]), kept[1], 2, 3, augment=Augment(2), black=(-0.5,), shape=(784,))
    for n in range(3):
        pairs = list(zip(session.train.epoch(n), wanted.epoch(n), strict=True))
        assert all(torch.equal(a, c) and torch.equal(b, d) for (a, b), (c, d) in pairs)
    assert not torch.equal(next(session.train.epoch(0))[0], NORMALISE(kept[0][session.train.order(0)[:2]]).flatten(1))


def test_without_them_nothing_is_changed(root):
    session, (train, _) = prepare_run(run(Data("mnist", 2))), load("mnist")
    assert torch.equal(session.train.x, train[0].flatten(1))
    assert (session.train.augment, session.train.shape) == (None, None)


def test_a_check_of_the_theorem_takes_the_first_training_batch(root):
    experiment = replace(Experiment.from_run(run(seed=3)), dtype="float64")
    x, y = experiment.batch(experiment.build())
    a, b = next(iter(prepare_run(run(seed=3)).train))
    assert torch.equal(x, a.double())
    assert torch.equal(y, b)


@pytest.mark.parametrize(
    "model", [ep.MLP((64, 10)), ep.ConvNet((1, 8, 8), (2,), kernel_size=3)], ids=["mlp", "convnet"]
)
def test_digits_are_loaded_flat_and_moved_as_images(model):
    session, ((x, y), _) = prepare_run(replace(run(Data("digits", augment=Augment(2))), model=model)), load("digits")
    shape = session.model.network.populations[0].shape
    wanted = Batches(x.unflatten(1, (8, 8)), y, 20, 0, augment=Augment(2), shape=shape)
    for (a, b), (c, d) in zip(session.train.epoch(1), wanted.epoch(1), strict=True):
        assert torch.equal(a, c)
        assert torch.equal(b, d)


def test_channels_that_are_not_there(root):
    with pytest.raises(ValueError, match="`normalize` has numbers for 3 channels, but a sample is 1x28x28"):
        prepare_run(run(Data("mnist", normalize=Normalize((1, 2, 3), (1,)))))


def test_killed_and_resumed_it_ends_with_the_same_bytes(root, tmp_path):
    """In the middle of the second epoch, by another process."""
    for name in ("whole", "killed"):
        create_run(run(seed=1), tmp_path / name)
    train_run(tmp_path / "whole")
    assert elsewhere(killed_on_small_mnist, tmp_path / "killed", BATCHES + 2, str(root)) == End(code=-signal.SIGKILL)
    facts = checkpoint.read(RunFolder(tmp_path / "killed").last)[1]
    assert (facts["epoch"], facts["batch"]) == (1, 1)
    train_run(tmp_path / "killed")
    assert outcome(tmp_path / "killed") == outcome(tmp_path / "whole")


def test_what_is_varied_is_learned(root, tmp_path):
    """The same run without augmentation, or with another, ends with other weights."""
    ends = set()
    for n, augment in enumerate((None, Augment(2), Augment(2, border="edge"), Augment(2, flip=False))):
        create_run(run(replace(CHANGED, augment=augment)), tmp_path / str(n))
        train_run(tmp_path / str(n))
        ends.add(RunFolder(tmp_path / str(n)).best.read_bytes())
    assert len(ends) == 4


WORDS = {
    "pad:4": Augment(4, flip=False),
    "pad:0": Augment(0, flip=False),
    "flip": Augment(0),
    "pad:3,flip": Augment(3),
    "edge:4": Augment(4, flip=False, border="edge"),
    "edge:4,flip": Augment(4, border="edge"),
    "None": None,
}


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


TRAIN = "train p-1h --no-plots --epochs 1 --model.sizes 784 6 10"


@pytest.mark.parametrize("word", WORDS)
def test_augmentation_by_a_word(word, root, here):
    call(f"{TRAIN} --data.augment {word} --out a").done()
    assert read_run("a").data.augment == WORDS[word]


@pytest.mark.parametrize(
    ("word", "wanted"),
    [
        ("0.13:0.31", Normalize((0.13,), (0.31,))),
        ("-0.5:2", Normalize((-0.5,), (2.0,))),
        ("None", None),
    ],
)
def test_normalization_by_a_word(word, wanted, root, here):
    call(f"{TRAIN} --data.normalize {word} --out a").done()
    assert read_run("a").data.normalize == wanted


@pytest.mark.parametrize("augment", [*WORDS.values(), Augment(1, flip=True, border="edge")])
def test_the_word_for_an_augmentation_stands_for_it(augment):
    assert parse_augment(format_augment(augment)) == augment


@pytest.mark.parametrize(
    "normalize", [None, NORMALISE, Normalize((0.1, -0.2, 1e-7), (0.5, 1, 2)), Normalize((1, 2), (3,))]
)
def test_the_word_for_a_normalization_stands_for_it(normalize):
    assert parse_normalize(format_normalize(normalize)) == normalize


def test_a_recipe_that_has_both_shows_them_and_can_be_told_otherwise(root, here, monkeypatch):
    monkeypatch.setitem(ep.papers.RECIPES, "varied", run)
    shown = " ".join(call("train varied --help").done().replace("│", "").split())
    assert "(default: pad:2,flip)" in shown
    assert "(default: 0.25:0.5)" in shown
    call("train varied --no-plots --epochs 1 --data.augment None --data.normalize None --out a").done()
    assert read_run("a").data == Data("mnist", 2)
    call("train varied --no-plots --epochs 1 --out b").done()
    assert read_run("b").data == CHANGED


def test_training_samples_are_judged_as_they_are(root, here):
    """The table is that of the same weights on the plain training images."""
    call(f"{TRAIN} --data.augment pad:4,flip --out a").done()
    table = call("evaluate a").done()
    place = RunFolder(here / "a")
    plain = replace(place.run, data=replace(place.run.data, augment=None))
    place.config.write_text(plain.to_json())
    tensors, facts = checkpoint.read(place.last)
    checkpoint.write(place.last, tensors, facts | {"config": plain.to_json()})
    assert call("evaluate a").done() == table
