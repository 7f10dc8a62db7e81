"""`Normalize` computes (x - mean) / std, per channel or with one constant for all."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eqprop.data import Normalize, load, survey
from eqprop.data.sources import CIFAR_10_MEAN, CIFAR_10_STD
from eqprop.training import Data


def test_it_follows_the_formula():
    x = torch.rand(5, 3, 4, 2)
    mean, std = (0.1, -0.2, 0.3), (0.5, 2.0, 0.25)
    wanted = np.stack([(x[:, c].numpy() - mean[c]) / std[c] for c in range(3)], 1)
    np.testing.assert_array_equal(Normalize(mean, std)(x).numpy(), wanted)


@pytest.mark.parametrize("shape", [(7,), (7, 64), (7, 8, 8), (7, 1, 8, 8), (7, 3, 8, 8)])
def test_one_number_applies_to_samples_of_any_shape(shape):
    x = torch.rand(shape)
    np.testing.assert_array_equal(Normalize((0.5,), (0.25,))(x).numpy(), (x.numpy() - 0.5) / 0.25)


def test_mean_and_std_broadcast_separately():
    x = torch.rand(5, 3, 4, 4)
    assert torch.equal(Normalize((0.5,), (1, 2, 3))(x), Normalize((0.5,) * 3, (1, 2, 3))(x))
    assert torch.equal(Normalize((1, 2, 3), (0.5,))(x), Normalize((1, 2, 3), (0.5,) * 3)(x))


def test_statistics_of_the_samples_give_mean_0_and_std_1():
    x = torch.rand(50, 3, 8, 8) * torch.tensor([1.0, 2.0, 5.0]).reshape(-1, 1, 1)
    mean, std = x.mean((0, 2, 3)), x.std((0, 2, 3))
    found = Normalize(mean.tolist(), std.tolist())(x)
    torch.testing.assert_close(found.mean((0, 2, 3)), torch.zeros(3))
    torch.testing.assert_close(found.std((0, 2, 3)), torch.ones(3))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_dtype_is_kept_and_the_input_unchanged(dtype):
    x = torch.rand(4, 2, 3, 3, dtype=dtype)
    before = x.clone()
    found = Normalize((0.1, 0.2), (0.3, 0.4))(x)
    assert found.dtype == dtype
    assert torch.equal(x, before)


def test_black_is_the_normalized_0():
    """It is exact in single precision."""
    normalize = Normalize(CIFAR_10_MEAN, CIFAR_10_STD)
    zero = normalize(torch.zeros(1, 3, 1, 1, dtype=torch.float32)).flatten()
    assert torch.equal(torch.tensor(normalize.black, dtype=torch.float32), zero)
    assert normalize.black == pytest.approx([-m / s for m, s in zip(CIFAR_10_MEAN, CIFAR_10_STD, strict=True)])
    assert Normalize((0.5,), (0.25,)).black == (-2.0,)
    assert Normalize((0.5,), (1, 2)).black == (-0.5, -0.25)


def test_equality_and_hash():
    assert Normalize([1, 2], [0.5]) == Normalize((1.0, 2.0), (0.5,))
    assert hash(Normalize([1, 2], [0.5])) == hash(Normalize((1.0, 2.0), (0.5,)))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: Normalize(0.5, (1.0,)),
            r"`mean` must be a sequence of one number per channel, .* got 0\.5",
        ),
        (lambda: Normalize((0.5,), "1"), "`std` must be a sequence .* got '1'"),
        (lambda: Normalize((), (1.0,)), r"`mean` .* got \(\)"),
        (lambda: Normalize((float("nan"),), (1.0,)), "`mean` must be a finite number, got nan"),
        (lambda: Normalize((float("inf"),), (1.0,)), "`mean` must be a finite number, got inf"),
        (lambda: Normalize(("a",), (1.0,)), "`mean` must be a finite number, got 'a'"),
        (lambda: Normalize((0.5,), (0.0,)), r"`std` must be a finite number above 0, got 0\.0"),
        (lambda: Normalize((0.5,), (1.0, -1.0)), r"`std` .* got -1\.0"),
        (
            lambda: Normalize((1, 2), (1, 2, 3)),
            "`mean` and `std` must have one number per channel, .* got 2 and 3 numbers",
        ),
        (lambda: Normalize((1, 2, 3), (1,))(torch.rand(4, 1, 8, 8)), "3 channels, but a sample is 1x8x8: give one"),
        (lambda: Normalize((1, 2, 3), (1,))(torch.rand(4, 64)), "3 channels, but a sample is 64: give one"),
        (lambda: Normalize((1, 2, 3), (1,))(torch.rand(4, 3, 8)), "3 channels, but a sample is 3x8: give one"),
        (
            lambda: Normalize((1,), (1,))(torch.zeros(4, dtype=torch.uint8)),
            r"`x` must hold floats, .* got torch\.uint8",
        ),
    ],
)
def test_invalid_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize(
    ("mean", "std"),
    [((-1e38,), (1,)), ((1e38,), (1e38,)), ((0.5,), (1e-38,)), ((0.5,), (1e38,)), ((0,), (1e-45,)), ((1e5,), (1,)),
     ((0.5, 1e6, 0.5), (1, 1, 1)), ((0.5,), (1, 1e-9, 1)), ((-1e38,), (1e-38,)), ((0.1, 0.2), (1e20,))],
)  # fmt: skip
def test_absurd_constants_are_errors(mean, std):
    """They make all pixels equal, infinite or as good as 0 in single precision."""
    with pytest.raises(ValueError, match="`normalize` must leave pixels distinct and within 10000 of 0") as failure:
        Normalize(mean, std)
    assert failure.value.argument == "normalize"
    assert "\n" not in str(failure.value)


@given(mean=st.floats(-3e38, 3e38), std=st.floats(0, 3e38, exclude_min=True))
def test_accepted_constants_keep_all_pixels_apart(mean, std):
    pixels = torch.arange(256, dtype=torch.float32) / 255
    try:
        found = Normalize((mean,), (std,))(pixels)
    except ValueError:
        # the statistics of any pixels that are not all equal are accepted
        assert not (0 <= mean <= 1 and 1 / 510 <= std <= 1)
        return
    assert found.isfinite().all()
    assert len(found.unique()) == 256


def test_constants_of_other_pixels_than_those_of_a_data_set_are_errors():
    """A tensor may have pixels from 0 to 255; the samples of a data set are from 0 to 1."""
    assert Normalize((127.5,), (127.5,))(torch.tensor([0.0, 255.0])).tolist() == [-1, 1]
    for mean, std in ((33.3, 78.6), (127.5, 127.5), (0, 255)):
        with pytest.raises(ValueError, match="divide constants for pixels from 0 to 255 by 255") as failure:
            Data("mnist", normalize=Normalize((mean,), (std,)))
        assert failure.value.argument == "normalize"
    for std in (CIFAR_10_STD, tuple(3 * value for value in CIFAR_10_STD), (1,), (10,)):
        assert Data("cifar-10", normalize=Normalize(CIFAR_10_MEAN, std)).normalize


@pytest.mark.data
def test_the_constants_are_the_statistics_of_the_published_set():
    if {entry.name: entry.state for entry in survey()}["cifar-10"] != "found":
        pytest.skip("needs cifar-10: set EQPROP_DATA, or run `eqprop data fetch cifar-10`")
    x, _ = load("cifar-10").train
    mean, square = x.mean((2, 3)), x.square().mean((2, 3))
    assert mean.mean(0).tolist() == pytest.approx(CIFAR_10_MEAN, abs=5e-5)
    assert ((square - mean**2) * 1024 / 1023).sqrt().mean(0).tolist() == pytest.approx(CIFAR_10_STD, abs=5e-5)
