"""Augmented images are the windows that were drawn from their padded images; only seed and epoch decide the draw."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eqprop.data import Augment, Batches, Normalize
from eqprop.data.batches import MOVES
from eqprop.training import rng as seeding


def padded(image: np.ndarray, pad: int, border: str, black: list[float]) -> np.ndarray:
    """Pad one image ``(C, H, W)``, pixel by pixel."""
    channels, height, width = image.shape
    out = np.empty((channels, height + 2 * pad, width + 2 * pad), image.dtype)
    for c in range(channels):
        for i in range(height + 2 * pad):
            for j in range(width + 2 * pad):
                r, s = i - pad, j - pad
                if 0 <= r < height and 0 <= s < width:
                    out[c, i, j] = image[c, r, s]
                elif border == "black":
                    out[c, i, j] = black[c]
                else:
                    out[c, i, j] = image[c, min(max(r, 0), height - 1), min(max(s, 0), width - 1)]
    return out


def cut(image: np.ndarray, row: int, column: int, mirror: int, size: tuple[int, int]) -> np.ndarray:
    """Cut a window from a padded image at a corner; mirror it if asked."""
    window = image[:, row : row + size[0], column : column + size[1]]
    return window[:, :, ::-1] if mirror else window


def augment_by_loops(x: torch.Tensor, drawn: torch.Tensor, augment: Augment, black: list[float]) -> torch.Tensor:
    """Augment images one by one, by the definition."""
    images = x.numpy()
    return torch.from_numpy(
        np.stack(
            [
                cut(padded(image, augment.pad, augment.border, black), row, column, mirror, image.shape[1:])
                for image, (row, column, mirror) in zip(images, drawn.tolist(), strict=True)
            ]
        )
    )


augments = st.builds(Augment, st.integers(0, 2), st.booleans(), st.sampled_from(["black", "edge"]))


@given(augments, st.integers(1, 6), st.integers(1, 3), st.integers(3, 6), st.integers(3, 6), st.integers(0, 99))
def test_augmentation_follows_the_definition(augment, n, channels, height, width, seed):
    source = torch.Generator().manual_seed(seed)
    x = torch.rand(n, channels, height, width, generator=source, dtype=torch.float32)
    black = torch.rand(channels, 1, 1, generator=source, dtype=torch.float32)
    drawn = augment.draw(n, source)
    wanted = augment_by_loops(x, drawn, augment, black.flatten().tolist())
    assert torch.equal(augment(x, drawn, black), wanted)
    if channels == 1:
        assert torch.equal(augment(x[:, 0], drawn, black), wanted[:, 0])


def test_every_corner_and_both_mirrors():
    """Every possible draw, on an image that is not square."""
    augment = Augment(pad=2)
    drawn = torch.cartesian_prod(torch.arange(5), torch.arange(5), torch.arange(2))
    x = torch.rand(1, 2, 4, 3).expand(50, -1, -1, -1)
    assert torch.equal(augment(x, drawn, -1.0), augment_by_loops(x, drawn, augment, [-1.0, -1.0]))


def counted(n: int, side: int = 9, channels: int | None = None) -> torch.Tensor:
    """Images whose pixels are all different and none black."""
    shape = (n, side, side) if channels is None else (n, channels, side, side)
    return torch.arange(1.0, 1 + np.prod(shape)).reshape(shape)


def batches(n=40, size=7, augment=Augment(pad=2), **options) -> Batches:  # noqa: B008
    return Batches(counted(n), torch.arange(n), size, augment=augment, **options)


def moves(x: torch.Tensor, y: torch.Tensor) -> list[tuple[int, int, bool]]:
    """Find how `counted` images were shifted and mirrored, from the middle pixel and the one to its right."""
    middle = x.shape[-1] // 2
    source = (x - 1).long() - y.reshape(-1, 1, 1) * x.shape[-1] ** 2
    at, beside = source[:, middle, middle], source[:, middle, middle + 1]
    return [(r, c, b < a) for a, b in zip(at.tolist(), beside.tolist(), strict=True) for r, c in [divmod(a, 9)]]


def drawn_in(batched: Batches, epochs: range) -> Counter:
    return Counter(move for n in epochs for x, y in batched.epoch(n) for move in moves(x, y))


def test_every_image_is_a_window_of_its_padded_image():
    batched = batches()
    for x, y in batched.epoch(3):
        for image, number in zip(x.numpy(), y.tolist(), strict=True):
            whole = padded(batched.x[number].numpy()[None], 2, "black", [0.0])
            crops = [cut(whole, r, c, m, (9, 9))[0] for r in range(5) for c in range(5) for m in (0, 1)]
            assert sum(np.array_equal(image, crop) for crop in crops) == 1


def test_all_moves_are_equally_likely():
    """Chi-squared of 25 corners, mirrored or not, over 10,000 images: 49 degrees of freedom, 99.99 % are below 95."""
    counts = drawn_in(batches(n=200, size=60), range(50))
    assert len(counts) == 50
    assert {(r, c) for r, c, _ in counts} == {(r, c) for r in range(2, 7) for c in range(2, 7)}
    assert sum((found - 200) ** 2 / 200 for found in counts.values()) < 95


def test_half_of_the_images_are_mirrored():
    """10,000 images; five standard deviations are 250."""
    counts = drawn_in(batches(n=200, size=60, augment=Augment(0)), range(50))
    assert {(r, c) for r, c, _ in counts} == {(4, 4)}
    assert abs(sum(number for (_, _, mirrored), number in counts.items() if mirrored) - 5000) < 250


def test_no_image_is_mirrored_without_flip():
    counts = drawn_in(batches(augment=Augment(2, flip=False)), range(20))
    assert not any(mirrored for _, _, mirrored in counts)
    assert len(counts) == 25


@pytest.mark.parametrize("border", ["black", "edge"])
def test_without_pad_and_flip_images_are_unchanged(border):
    plain, varied = batches(augment=None), batches(augment=Augment(0, flip=False, border=border))
    assert same(plain.epoch(1), varied.epoch(1))


def same(one, other) -> bool:
    pairs = list(zip(one, other, strict=True))
    return bool(pairs) and all(torch.equal(x, a) and torch.equal(y, b) for (x, y), (a, b) in pairs)


@given(st.integers(1, 30), st.integers(1, 8), st.booleans(), st.data())
def test_a_batch_does_not_depend_on_the_start(n, size, shuffle, data):
    batched = batches(n, size, seed=5, shuffle=shuffle)
    start = data.draw(st.integers(0, len(batched) - 1))
    assert same(list(batched.epoch(2))[start:], batches(n, size, seed=5, shuffle=shuffle).epoch(2, start))
    assert list(batched.epoch(2, len(batched))) == []


def test_moves_depend_only_on_seed_and_epoch():
    """They do not depend on the batch size or on torch's default generator, which is not used."""
    torch.manual_seed(99)
    before = torch.get_rng_state()
    found = [torch.cat([x for x, _ in batches(size=size, seed=4).epoch(3)]) for size in (7, 11, 40)]
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])
    assert torch.equal(torch.get_rng_state(), before)


def test_neighboring_seeds_and_epochs_have_different_moves():
    drawn = {
        tuple(move for pair in batches(20, 20, seed=seed, shuffle=False).epoch(n) for move in moves(*pair))
        for seed in range(10)
        for n in range(10)
    }
    assert len(drawn) == 100


def test_moves_are_the_documented_ones():
    """A run must resume identically under any later release."""
    batched = batches(seed=4)
    word = int(np.random.SeedSequence([4, 3], spawn_key=(0, 1)).generate_state(1)[0])
    source = torch.Generator().manual_seed(word)
    corner, mirror = torch.randint(5, (40, 2), generator=source), torch.randint(2, (40, 1), generator=source)
    order = batched.order(3)
    wanted = augment_by_loops(batched.x[order].unsqueeze(1), torch.cat((corner, mirror), 1), Augment(2), [0.0]).squeeze(
        1
    )
    assert torch.equal(torch.cat([x for x, _ in batched.epoch(3)]), wanted)
    assert torch.equal(torch.cat([y for _, y in batched.epoch(3)]), order)


def test_the_stream_of_moves_is_not_used_elsewhere():
    """It differs from the streams of the order in any epoch, and from those of a training's other purposes."""
    batched = [batches(seed=seed) for seed in range(5)]
    drawn = {(b.seed, n): b._generator(n, MOVES).initial_seed() for b in batched for n in range(5)}
    orders = {b._generator(n).initial_seed() for b in batched for n in range(5)}
    others = {seeding.stream(seed, purpose) for seed in range(5) for purpose in range(10)}
    assert len(set(drawn.values())) == 25
    assert not set(drawn.values()) & (orders | others)


def test_augmentation_does_not_change_the_order():
    plain, varied = batches(augment=None, seed=2), batches(seed=2)
    assert [y.tolist() for _, y in plain.epoch(4)] == [y.tolist() for _, y in varied.epoch(4)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("border", ["black", "edge"])
def test_dtype_is_kept(dtype, border):
    x = torch.rand(6, 2, 5, 5).to(dtype)
    batched = Batches(x, torch.arange(6), 4, augment=Augment(2, border=border), black=(-1.5, 0.1))
    for a, y in batched:
        assert a.dtype == dtype
        assert a.shape == (len(y), 2, 5, 5)


def test_images_stay_on_their_device():
    """Values of a tensor on "meta" cannot be read, so any copy to the CPU would raise."""
    x, y = torch.zeros(6, 2, 5, 5), torch.zeros(6, dtype=torch.long)
    batched = Batches(x, y, 4, augment=Augment(2), black=(0.0, 1.0), shape=(50,))
    for name in ("x", "y"):  # the constructor refuses "meta", which only stands for a GPU here
        object.__setattr__(batched, name, getattr(batched, name).to("meta"))
    assert [(a.device.type, tuple(a.shape)) for a, _ in batched] == [("meta", (4, 50)), ("meta", (2, 50))]


@pytest.mark.parametrize("shuffle", [True, False])
@pytest.mark.parametrize("augment", [Augment(2), Augment(2, border="edge"), Augment(0, flip=False)])
def test_inputs_are_not_modified(shuffle, augment):
    batched = batches(augment=augment, shuffle=shuffle)
    x, y = batched.x.clone(), batched.y.clone()
    for a, _ in batched:
        a.zero_()
    assert torch.equal(batched.x, x)
    assert torch.equal(batched.y, y)


def test_the_border_is_black_before_normalization():
    """The result is that of torchvision's usual order, crop then normalize, bit for bit."""
    x, y = torch.rand(9, 3, 6, 6, dtype=torch.float32), torch.arange(9)
    normalize = Normalize((0.49, 0.48, 0.45), (0.2, 0.21, 0.19))
    after = Batches(normalize(x), y, 4, augment=Augment(3), black=normalize.black)
    before = Batches(x, y, 4, augment=Augment(3))
    assert same(((normalize(a), b) for a, b in before), after)
    assert not any(torch.equal(a, b) for (a, _), (b, _) in zip(before, after, strict=True))


def test_one_black_applies_to_all_channels():
    x, y = torch.rand(9, 3, 6, 6), torch.arange(9)
    one, three = (Batches(x, y, 4, augment=Augment(3), black=black) for black in ((-0.5,), (-0.5,) * 3))
    assert same(one, three)


def test_a_flat_model_gets_flat_images():
    plain = Batches(counted(9, channels=2), torch.arange(9), 4, augment=Augment(2))
    flat = Batches(counted(9, channels=2), torch.arange(9), 4, augment=Augment(2), shape=(162,))
    assert same(((x.flatten(1), y) for x, y in plain), flat)


def test_shape_without_augmentation():
    x = torch.rand(5, 2, 3)
    (a, _), *_ = Batches(x, torch.arange(5), 2, shuffle=False, shape=(6,))
    assert torch.equal(a, x[:2].flatten(1))
    assert a.data_ptr() == x.data_ptr()


FLAT = torch.rand(4, 64)
IMAGES = torch.rand(4, 3, 8, 8)
Y = torch.arange(4)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augment(-1), "`pad` must be a whole number of at least 0, got -1"),
        (lambda: Augment(1.5), "`pad` .* got 1.5"),
        (lambda: Augment(True), "`pad` .* got True"),
        (lambda: Augment(flip=1), "`flip` must be an object of class bool"),
        (lambda: Augment(border="white"), "`border` must be one of 'black', 'edge', got 'white'"),
        (
            lambda: Batches(FLAT, Y, 2, augment=Augment()),
            r"`augment` needs images, .* but a sample has shape \(64,\): give images, or leave `augment` out",
        ),
        (lambda: Batches(torch.rand(4, 1, 1, 8, 8), Y, 2, augment=Augment()), r"has shape \(1, 1, 8, 8\)"),
        (lambda: Batches(IMAGES, Y, 2, augment=Augment(8)), "`augment` must pad by fewer pixels .* 8, got 8"),
        (lambda: Batches(torch.rand(4, 9, 5), Y, 2, augment=Augment(5)), "fewer pixels .* 5, got 5"),
        (lambda: Batches(IMAGES, Y, 2, augment=Augment), "`augment` .* got the class Augment itself"),
        (lambda: Batches(IMAGES, Y, 2, augment=Augment(), black=(0.0, 0.0)), "`black` .* 3 channels, got 2"),
        (lambda: Batches(IMAGES, Y, 2, augment=Augment(), black=()), "`black` .* got 0"),
        (lambda: Batches(IMAGES, Y, 2, augment=Augment(), black=(float("nan"),)), "`black` .* got nan"),
        (lambda: Batches(IMAGES, Y, 2, shape=(191,)), r"`shape` must hold the 192 values of a sample, got \(191,\)"),
    ],
)
def test_invalid_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("border", ["black", "edge"])
def test_a_gpu_gives_the_same_bits(border):
    x, y = torch.rand(50, 3, 8, 8), torch.arange(50)
    batched = [
        Batches(x.to(d), y.to(d), 16, augment=Augment(2, border=border), black=(0.1, 0.2, 0.3)) for d in ("cpu", "cuda")
    ]
    for n in range(3):
        assert same(batched[0].epoch(n), ((a.cpu(), b.cpu()) for a, b in batched[1].epoch(n)))
