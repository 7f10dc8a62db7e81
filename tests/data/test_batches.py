"""Every sample occurs once per epoch, in an order that depends only on the seed and the epoch number."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from eqprop.data import Batches, hold_out


def numbered(n: int, size: int, **options) -> Batches:
    return Batches(torch.arange(float(n)).reshape(n, 1), torch.arange(n), size, **options)


def numbers_in(batches) -> list[int]:
    return [number for _, y in batches for number in y.tolist()]


@given(st.integers(1, 30), st.integers(1, 40), st.integers(0, 5), st.booleans())
def test_every_sample_occurs_once(n, size, epoch, shuffle):
    batches = numbered(n, size, seed=3, shuffle=shuffle)
    found = list(batches.epoch(epoch))
    assert len(found) == len(batches) == (n + size - 1) // size
    assert all(len(y) == size for _, y in found[:-1])
    assert sorted(numbers_in(found)) == list(range(n))
    assert all(torch.equal(x[:, 0].long(), y) for x, y in found)


@given(st.integers(1, 30), st.integers(1, 8), st.booleans(), st.data())
def test_start_skips_batches(n, size, shuffle, data):
    batches = numbered(n, size, shuffle=shuffle)
    start = data.draw(st.integers(0, len(batches)))
    assert numbers_in(batches.epoch(2, start)) == numbers_in(batches.epoch(2))[start * size :]


def test_order_depends_only_on_seed_and_epoch():
    first = numbers_in(numbered(50, 7, seed=4).epoch(3))
    torch.manual_seed(99)
    torch.rand(5)
    before = torch.get_rng_state()
    assert numbers_in(numbered(50, 11, seed=4).epoch(3)) == first
    assert torch.equal(torch.get_rng_state(), before)


def test_order_is_the_documented_one():
    """A run must resume identically under any later release."""
    word = int(np.random.SeedSequence([4, 3]).generate_state(1)[0])
    expected = torch.randperm(50, generator=torch.Generator().manual_seed(word)).tolist()
    assert numbers_in(numbered(50, 7, seed=4).epoch(3)) == expected


def test_neighboring_seeds_and_epochs_have_different_orders():
    orders = {tuple(numbers_in(numbered(20, 20, seed=seed).epoch(n))) for seed in range(25) for n in range(25)}
    assert len(orders) == 625


def test_all_orders_are_equally_likely():
    """Chi-squared of the 24 orders of four samples over 2,400 epochs: 23 degrees of freedom, 99.99 % are below 58."""
    batches = numbered(4, 4)
    counts = Counter(tuple(numbers_in(batches.epoch(n))) for n in range(2400))
    assert len(counts) == 24
    assert sum((found - 100) ** 2 / 100 for found in counts.values()) < 58


def test_iterating_gives_epoch_0():
    batches = numbered(20, 3, seed=1)
    assert numbers_in(batches) == numbers_in(batches) == numbers_in(batches.epoch(0)) != numbers_in(batches.epoch(1))


def test_without_shuffle_batches_are_views():
    batches = numbered(10, 4, shuffle=False)
    assert [y.tolist() for _, y in batches.epoch(7)] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    for k, (x, y) in enumerate(batches):
        assert x.data_ptr() == batches.x[4 * k].data_ptr()
        assert y.data_ptr() == batches.y[4 * k].data_ptr()


def test_targets_may_have_any_shape():
    x, y = torch.rand(5, 2, 3), torch.rand(5, 4)
    (a, b), *_ = Batches(x, y, 2, shuffle=False)
    assert a.shape == (2, 2, 3)
    assert torch.equal(b, y[:2])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Batches(torch.rand(3, 2), torch.rand(4), 2), r"the same length, got shapes \(3, 2\) and \(4,\)"),
        (lambda: Batches(torch.rand(()), torch.rand(()), 2), "the same length"),
        (lambda: Batches(torch.rand(0, 2), torch.rand(0), 2), "at least one sample"),
        (lambda: Batches(torch.rand(3), torch.rand(3, device="meta"), 2), "one device, got cpu and meta"),
        (lambda: numbered(3, 0), "`size` .* got 0"),
        (lambda: numbered(3, 1.5), "`size` .* got 1.5"),
        (lambda: numbered(3, 1, seed=-1), "`seed` .* got -1"),
        (lambda: numbered(3, 1, seed=True), "`seed` .* got True"),
        (lambda: numbered(3, 1).epoch(-1), "`n` .* got -1"),
        (lambda: numbered(3, 1).epoch(0, start=-1), "`start` .* got -1"),
        (lambda: numbered(3, 1).epoch(0, start=4), "`start` must be at most 3, .* got 4"),
        (lambda: hold_out((torch.rand(3), torch.rand(2)), 1), "the same length"),
        (lambda: hold_out((torch.rand(3), torch.rand(3)), 0), "`count` .* got 0"),
        (lambda: hold_out((torch.rand(3), torch.rand(3)), 3), "`count` must be below .* 3, got 3"),
    ],
)
def test_invalid_arguments_are_errors(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@given(st.integers(2, 40), st.data())
def test_hold_out_splits_the_samples(n, data):
    count = data.draw(st.integers(1, n - 1))
    x, y = torch.arange(float(n)).reshape(n, 1), torch.arange(n)
    train, validation = hold_out((x, y), count)
    kept, held = train[1].tolist(), validation[1].tolist()
    assert len(held) == count
    assert kept == sorted(kept)
    assert held == sorted(held)
    assert sorted(kept + held) == list(range(n))
    for inputs, classes in (train, validation):
        assert torch.equal(inputs[:, 0].long(), classes)


def test_hold_out_is_fixed_and_nested():
    samples = (torch.rand(100, 2), torch.arange(100))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    small = set(hold_out(samples, 10)[1][1].tolist())
    torch.manual_seed(6)
    large = set(hold_out(samples, 30)[1][1].tolist())
    assert small < large
    assert small != set(range(10))
    torch.manual_seed(5)
    hold_out(samples, 10)
    assert torch.equal(torch.get_rng_state(), before)


def test_hold_out_never_changes():
    """A number that was tuned on these samples must mean the same under any later release."""
    order = torch.randperm(1000, generator=torch.Generator().manual_seed(1597))
    held = hold_out((torch.zeros(1000, 1), torch.arange(1000)), 100)[1][1]
    assert held.tolist() == sorted(order[:100].tolist())


def test_hold_out_is_uniform():
    """About half of 1,000 held-out samples come from the first half of 10,000; six standard deviations are 90."""
    held = hold_out((torch.zeros(10_000, 1), torch.arange(10_000)), 1000)[1][1]
    assert abs(int((held < 5000).sum()) - 500) < 90
