"""Samples of a run, and their batches in the input shape of its model."""

from collections.abc import Callable

import torch
from torch import Tensor

from eqprop.data import Samples, hold_out, load
from eqprop.data.batches import Batches
from eqprop.data.sources import source_of
from eqprop.models.model import Model
from eqprop.training.config.run import Data

__all__ = ["Splits", "check_classes", "fit_to_model", "load_splits", "training_batches"]

Splits = tuple[Samples, Samples | None, Samples]
"""Training samples, validation samples, if any, and test samples."""


def load_splits(data: Data, progress: Callable[[int, int | None], None] | None = None) -> Splits:
    """Return the samples of a run, normalized, on the CPU.

    Raises:
        ValueError, FileNotFoundError, DataError: if the data are not available, or do not have the channels of ``normalize``.
    """
    normalize = data.normalize or (lambda x: x)
    train, test = ((normalize(x), y) for x, y in load(data.name, data.root, progress))
    return (*hold_out(train, data.validation), test) if data.validation else (train, None, test)


def training_batches(data: Data, seed: int, train: Samples, model: Model, device: torch.device | str) -> Batches:
    """Return the batches of training samples ``(x, y)``, augmented, in the input shape of the model.

    Raises:
        ValueError: if a sample does not fit the model, or is not an image and ``augment`` is set.
    """
    x, y = fit_to_model(train, model, device)
    if data.augment is None:
        return Batches(x, y, data.batch_size, seed)
    source, black = source_of(data.name), data.normalize.black if data.normalize else (0.0,)
    images = x.reshape(len(x), *(source.image or source.shape))
    shape = tuple(x.shape[1:])
    return Batches(images, y, data.batch_size, seed, augment=data.augment, black=black, shape=shape)


def fit_to_model(samples: tuple[Tensor, Tensor], model: Model, device: torch.device | str) -> tuple[Tensor, Tensor]:
    """Return the samples on the device, in the shape of the input population.

    Raises:
        ValueError: if the number of values per sample differs from the number of input units.
    """
    x, y = samples
    shape = model.network.populations[0].shape
    if x[0].numel() != torch.Size(shape).numel():
        got = "x".join(map(str, x.shape[1:]))
        want = "x".join(map(str, shape))
        remedy = "change the first size" if len(shape) == 1 else "change `input_shape`"
        raise ValueError(f"the model's input has {want} units, but a sample has {got} values: {remedy}")
    return x.reshape(len(x), *shape).to(device), y.to(device)


def check_classes(name: str, model: Model, x: Tensor, y: Tensor) -> None:
    """Check that the classes of a data set fit the model's output.

    Raises:
        ValueError: if they do not.
    """
    try:
        model.prepare_batch(x[:1], y.max().reshape(1))
    except ValueError as error:
        raise ValueError(f"the model's output does not fit {name}: {error}") from None
