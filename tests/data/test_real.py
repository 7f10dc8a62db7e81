"""The published data sets, if they are in `EQPROP_DATA` or the user's cache. Nothing is downloaded."""

import hashlib
import time

import pytest
import torch

from eqprop.data import Split, load, shape_of, sizes, survey

pytestmark = pytest.mark.data


@pytest.fixture(scope="module", params=["mnist", "fashion-mnist", "cifar-10"])
def found(request) -> tuple[str, Split, float]:
    """The name of a data set, its samples, and the processor time in seconds that loading took."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EQPROP_OFFLINE", "1")
        state = {entry.name: entry.state for entry in survey()}[request.param]
        if state == "missing":
            pytest.skip(f"needs {request.param}: set EQPROP_DATA, or run `eqprop data fetch {request.param}`")
        assert state == "found"
        start = time.process_time()
        return request.param, load(request.param), time.process_time() - start


FREQUENCIES = {
    "mnist": (
        [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
        [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
    ),
    "fashion-mnist": ([6000] * 10, [1000] * 10),
    "cifar-10": ([5000] * 10, [1000] * 10),
}
"""Published class frequencies of the training and the test set."""

MEANS = {"mnist": [0.1307], "fashion-mnist": [0.2860], "cifar-10": [0.4914, 0.4822, 0.4465]}
"""Means of the training pixels by channel, as commonly used for normalization."""


def test_shapes_dtypes_and_frequencies(found):
    name, split, _ = found
    assert isinstance(split, Split)
    for (x, y), count, frequencies in zip(split, sizes(name), FREQUENCIES[name], strict=True):
        assert x.shape == (count, *shape_of(name))
        assert (x.dtype, y.dtype) == (torch.float32, torch.int64)
        assert (x.min().item(), x.max().item()) == (0.0, 1.0)
        assert y.bincount().tolist() == frequencies
    assert split.train[0].mean(dim=(0, 2, 3)).tolist() == pytest.approx(MEANS[name], abs=5e-5)


def test_first_classes(found):
    """The first labels, as shown in many tutorials."""
    first = {"mnist": [5, 0, 4, 1, 9], "fashion-mnist": [9, 0, 0, 3, 0], "cifar-10": [6, 9, 9, 4, 1]}
    name, split, _ = found
    assert split.train[1][:5].tolist() == first[name]


def test_pixels_restore_the_files(found):
    """Pixels times 255, rounded and put behind the file's header, have the published checksum."""
    from eqprop.data.sources import SOURCES

    name, split, _ = found
    x, y = split.test
    pixels = (x * 255).round().to(torch.uint8)
    images, *_ = SOURCES[name].test
    if name == "cifar-10":
        raw = torch.cat([y[:, None].to(torch.uint8), pixels.flatten(1)], 1).numpy().tobytes()
    else:
        raw = bytes.fromhex("00000803 00002710 0000001c 0000001c") + pixels.numpy().tobytes()
    assert hashlib.sha256(raw).hexdigest() == images.sha256


def test_mnist_loads_fast(found):
    name, _, seconds = found
    if name == "cifar-10":
        pytest.skip("three times as large")
    assert seconds < 1.5
