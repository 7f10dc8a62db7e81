"""Samples of a run, and their batches in the input shape of its model."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from eqprop._core.checks import ArgumentError
from eqprop.data import Samples, hold_out, load
from eqprop.data.batches import Batches
from eqprop.data.sources import source_of
from eqprop.models.model import Model
from eqprop.training.config.run import Data

__all__ = ["Splits", "check_classes", "fit_to_model", "image_shape", "load_splits", "training_batches"]

Splits = tuple[Samples, Samples | None, Samples]
"""Training samples, validation samples, if any, and test samples."""


def load_splits(data: Data, progress: Callable[[int, int | None], None] | None = None) -> Splits:
    """Return the samples of a run, padded and normalized, on the CPU.

    Raises:
        ValueError, FileNotFoundError, DataError: if the data are not available, do not have the channels of ``normalize``, or
            are smaller than ``pad``.
    """
    image_shape(data)  # checks `pad` before a download
    normalize = data.normalize or (lambda x: x)
    train, test = ((normalize(_pad(x, data)), y) for x, y in load(data.name, data.root, progress))
    return (*hold_out(train, data.validation), test) if data.validation else (train, None, test)


def image_shape(data: Data) -> tuple[int, ...]:
    """Return the shape of a padded image: channels, height, width.

    Raises:
        ValueError: if there is no such data set, or the border is wider than an image.
    """
    source = source_of(data.name)
    channels, height, width = source.image or source.shape
    if data.pad > (most := min(height, width)):
        raise ArgumentError("pad", f"`pad` must be at most the side of an image, {most}, got {data.pad}")
    return channels, height + 2 * data.pad, width + 2 * data.pad


def _pad(x: Tensor, data: Data) -> Tensor:
    """Add the border of black pixels; samples that are loaded flat stay flat."""
    if data.pad == 0:
        return x
    source = source_of(data.name)
    images = F.pad(x.reshape(len(x), *(source.image or source.shape)), (data.pad,) * 4)
    return images if source.image is None else images.flatten(1)


def training_batches(data: Data, seed: int, train: Samples, model: Model, device: torch.device | str) -> Batches:
    """Return the batches of training samples ``(x, y)``, augmented, in the input shape of the model.

    Raises:
        ValueError: if a sample does not fit the model, or is not an image and ``augment`` is set.
    """
    x, y = fit_to_model(train, model, device)
    if data.augment is None:
        return Batches(x, y, data.batch_size, seed)
    black = data.normalize.black if data.normalize else (0.0,)
    images = x.reshape(len(x), *image_shape(data))
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
        model.prepare_batch(torch.zeros_like(x[:1]), y.max().reshape(1))  # zeros: the values of x are not the question
    except ValueError as error:
        raise ValueError(f"the model's output does not fit {name}: {error}") from None
