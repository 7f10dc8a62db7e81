"""Samples of a user that cannot be learned, in training or in evaluation, are refused in one line; none is skipped or clipped."""

import pytest
import torch

import eqprop as ep
from eqprop.data import Batches
from eqprop.data.formats import decode_idx
from eqprop.training import evaluate
from small_sets import idx_bytes

NAN, INF = float("nan"), float("inf")
X = torch.linspace(0, 1, 32).reshape(8, 4)
CLASSES = torch.tensor([0, 1] * 4)
VALUES = torch.eye(2)[CLASSES]


def changed(values: torch.Tensor, value: float) -> torch.Tensor:
    """Return a copy whose sample 5 holds `value`."""
    values = values.clone()
    values[5] = value
    return values


def train(model, batches):
    optimizer = torch.optim.SGD(model.parameters(), 0.1)
    ep.Trainer(model, ep.EquilibriumProp(5, 3, 0.5), optimizer).fit(batches, epochs=1)


BAD = {
    "NaN": (changed(X, NAN), CLASSES, "input .* is not finite in 1 of 4 samples, the first at index"),
    "infinity": (changed(X, INF), CLASSES, "input .* is not finite in 1 of 4 samples"),
    "a class too large": (X, changed(CLASSES, 2), "`y` must hold classes from 0 to 1, got 2"),
    "a negative class": (X, changed(CLASSES, -1), "`y` must hold classes from 0 to 1, got -1"),
    "the ignored class of other libraries": (X, changed(CLASSES, -100), "`y` must hold classes from 0 to 1, got -100"),
    "a NaN target": (X, changed(VALUES, NAN), "`y` holds values that are not finite"),
    "an infinite target": (X, changed(VALUES, INF), "`y` holds values that are not finite"),
    "targets of another width": (X, torch.rand(8, 3), r"`y` must be \(4, 2\) floats or \(4,\) classes, got \(4, 3\)"),
}


@pytest.mark.parametrize("kind", BAD)
@pytest.mark.parametrize("use", [train, evaluate])
def test_bad_samples_are_errors(use, kind):
    x, y, message = BAD[kind]
    model = ep.mlp([4, 3, 2])
    with pytest.raises((ValueError, FloatingPointError), match=message) as failure:
        use(model, Batches(x, y, 4))
    assert "\n" not in str(failure.value)
    assert all(parameter.isfinite().all() for parameter in model.parameters())


@pytest.mark.parametrize(("images", "classes"), [(3, 2), (2, 3), (0, 1), (1, 0)])
def test_there_is_one_class_per_image(images, classes):
    contents = [idx_bytes((images, 2, 2), bytes(4 * images)), idx_bytes((classes,), bytes(classes))]
    with pytest.raises(ValueError, match=f"got {images} images and {classes} classes"):
        decode_idx(contents)


@pytest.mark.parametrize(
    ("x", "y"), [(X, CLASSES[:7]), (X[:0], CLASSES[:0]), (torch.tensor(1.0), torch.tensor(1)), (X, torch.tensor(1))]
)
def test_samples_and_targets_must_match(x, y):
    with pytest.raises(ValueError, match="`x` and `y` must"):
        Batches(x, y, 4)
