"""A border of black pixels around every image of a run is added before the normalization, as the published code does it."""

import json

import numpy as np
import pytest
import torch

from eqprop.data import Augment, Normalize, load
from eqprop.papers import recipe
from eqprop.papers.scellier2023.recipes import RECIPES
from eqprop.theorem.experiment import Experiment
from eqprop.training import Data, Run
from eqprop.training.dataset import load_splits, training_batches

pytestmark = pytest.mark.usefixtures("isolated")


def by_hand(images: torch.Tensor, pad: int, mean: float, std: float) -> np.ndarray:
    """Pad, then normalize, one pixel after another."""
    n, channels, height, width = images.shape
    out = np.full((n, channels, height + 2 * pad, width + 2 * pad), np.float32(0))
    out[:, :, pad : pad + height, pad : pad + width] = images.numpy()
    return (out - np.float32(mean)) / np.float32(std)


@pytest.mark.parametrize("pad", [0, 1, 2, 28])
def test_the_border_is_black_in_every_part(mnist, tmp_path, pad):
    root = str(mnist.put(tmp_path / "d"))
    (x, _), (x_test, _) = load("mnist", root)
    data = Data("mnist", 2, root=root, normalize=Normalize((0.1307,), (0.3081,)), pad=pad)
    train, validation, test = load_splits(data)
    assert validation is None
    for found, images in ((train, x), (test, x_test)):
        np.testing.assert_allclose(found[0].numpy(), by_hand(images, pad, 0.1307, 0.3081), rtol=1e-6)
    if pad:
        assert train[0][0, 0, 0, 0] == pytest.approx(-0.4242, abs=1e-4)


def test_validation_samples_have_the_border(mnist, tmp_path):
    root = str(mnist.put(tmp_path / "d"))
    parts = load_splits(Data("mnist", 2, 2, root=root, pad=2))
    assert [tuple(part[0].shape) for part in parts] == [(4, 1, 32, 32), (2, 1, 32, 32), (4, 1, 32, 32)]


def test_flat_samples_stay_flat():
    plain, padded = (load_splits(Data("digits", pad=pad))[0][0] for pad in (0, 3))
    images = padded.reshape(-1, 14, 14)
    assert padded.shape == (1437, 196)
    assert torch.equal(images[:, 3:11, 3:11].flatten(1), plain)
    assert images.sum() == plain.sum()


def test_no_border_is_the_data_set_itself(mnist, tmp_path):
    root = str(mnist.put(tmp_path / "d"))
    for ours, theirs in zip(load_splits(Data("mnist", root=root))[::2], load("mnist", root), strict=True):
        assert torch.equal(ours[0], theirs[0])


@pytest.mark.parametrize("name", ["dchn-mnist-small", "dchn-fashion-small"])
def test_the_recipe_has_the_published_inputs(mnist, fashion, tmp_path, name):
    """The original pads by 2, cuts 32 x 32 out of a padding by another 2, and normalizes: nothing of an image is cut off, and
    all around it is the value of a black pixel."""
    run = recipe(name)
    root = (mnist if "mnist" in name else fashion).put(tmp_path / "d")
    black = {"dchn-mnist-small": -0.4242, "dchn-fashion-small": -0.8102}[name]
    data = Data(
        run.data.name, 3, root=str(root), normalize=run.data.normalize, augment=run.data.augment, pad=run.data.pad
    )
    model = run.build()
    train, *_ = load_splits(data)
    batches = training_batches(data, 0, train, model, "cpu")
    inner = train[0][:, :, 2:30, 2:30]
    seen = set()
    for epoch in range(8):
        order = batches.order(epoch)
        x = torch.cat([x for x, _ in batches.epoch(epoch)])
        assert x.shape == (6, 1, 32, 32)
        for image, whole in zip(x, inner[order], strict=True):
            corners = [
                (r, c, flip)
                for flip in range(1 + run.data.augment.flip)
                for r in range(5)
                for c in range(5)
                if torch.equal(image[:, r : r + 28, c : c + 28], whole.flip(-1) if flip else whole)
            ]
            assert len(corners) == 1
            r, c, _ = corners[0]
            seen.add(corners[0])
            border = image.clone()
            border[:, r : r + 28, c : c + 28] = black
            assert border.numpy() == pytest.approx(np.full((1, 32, 32), black), abs=1e-4)
    assert [set(values) for values in zip(*seen, strict=True)] == [{0, 1, 2, 3, 4}] * 2 + [{0, run.data.augment.flip}]


@pytest.mark.parametrize("name", ["dchn-mnist", "dchn-fashion"])
def test_the_network_keeps_its_shapes(name):
    """The weights are those of the former recipe, whose first convolution padded by 3 instead."""
    run = RECIPES[name]()
    assert run.model.shapes() == [(1, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2), (10,)]


def test_old_files_keep_their_meaning():
    """A configuration without the border loads, has none, and is written as it was."""
    run = recipe("dchn-mnist-small")
    stored = json.loads(run.to_json())
    assert stored["data"].pop("pad") == 2
    stored["model"] |= {"input_shape": [1, 28, 28], "padding": [3, 1, 1, 1]}
    old = Run.from_json(json.dumps(stored))
    assert old.data.pad == 0
    assert old.model.input_shape == (1, 28, 28)
    assert json.loads(old.to_json()) == stored
    assert Run.from_json(run.to_json()) == run


@pytest.mark.parametrize(("pad", "message"), [(-1, "at least 0, got -1"), (1.5, "got 1.5"), (True, "got True")])
def test_invalid_borders_are_errors(pad, message):
    with pytest.raises(ValueError, match=f"`pad` must be a whole number of .*{message}") as failure:
        Data("mnist", pad=pad)
    assert failure.value.argument == "pad"


def test_a_border_wider_than_an_image_is_an_error(mnist, server):
    """Before anything is downloaded."""
    with pytest.raises(ValueError, match="`pad` must be at most the side of an image, 28, got 29"):
        load_splits(Data("mnist", pad=29))
    assert server.asked == []


def test_random_data_have_no_border():
    run = recipe("digits")
    with pytest.raises(ValueError, match="`pad` must be left out with random data, got 2"):
        Experiment("mine", Data("random", 2, pad=2), run.model, run.estimator)


def test_augmentation_is_black_too(mnist, tmp_path):
    """The two borders, that of all images and that of the shifts, have one value."""
    data = Data("mnist", 6, root=str(mnist.put(tmp_path / "d")), normalize=Normalize((0.5,), (0.25,)), pad=1)
    train, *_ = load_splits(data)
    shifted = Augment(1, flip=False)(train[0], torch.tensor([[0, 0, 0]] * 6), -2.0)
    assert shifted[:, :, :2].unique().tolist() == [-2.0]
