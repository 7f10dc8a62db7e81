"""The digits are those published by UCI, split as documented."""

import csv
import gzip
from importlib.resources import files

import pytest
import torch

from eqprop.data import Split, digits, load_digits
from eqprop.papers.registry import baseline, recipe
from eqprop.training import create_run, train_run


@pytest.fixture(scope="module")
def rows() -> list[list[int]]:
    """The file read without the loader: 64 pixels and a class per line."""
    with (
        files("eqprop.data").joinpath("digits.csv.gz").open("rb") as packed,
        gzip.open(packed, "rt", newline="") as text,
    ):
        return [[int(field) for field in row] for row in csv.reader(text)]


@pytest.fixture(scope="module")
def split() -> Split:
    return load_digits()


def test_shapes_and_dtypes(split):
    assert [x.shape for x, _ in split] == [(1437, 64), (360, 64)]
    assert [y.shape for _, y in split] == [(1437,), (360,)]
    for x, y in split:
        assert x.dtype == torch.float32
        assert y.dtype == torch.int64
        assert x.is_contiguous()
        assert y.is_contiguous()
        assert (x.min().item(), x.max().item()) == (0.0, 1.0)
        assert set(y.tolist()) == set(range(10))


def test_class_frequencies_are_the_published_ones(split):
    # The table in optdigits.names, section "Class Distribution", column of the test set.
    published = [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert torch.cat([split.train[1], split.test[1]]).bincount().tolist() == published


def test_every_fifth_sample_is_a_test_sample(split, rows):
    assert len(rows) == 1797
    assert {len(row) for row in rows} == {65}
    expected = ([row for n, row in enumerate(rows) if n % 5], rows[::5])
    for (x, y), part in zip(split, expected, strict=True):
        assert (x * 16).tolist() == [row[:64] for row in part]
        assert y.tolist() == [row[64] for row in part]


def test_same_as_scikit_learn(split):
    bunch = pytest.importorskip("sklearn.datasets").load_digits()
    assert torch.equal(split.test[0] * 16, torch.from_numpy(bunch.data[::5]).float())
    assert split.test[1].tolist() == bunch.target[::5].tolist()


def test_loads_are_independent():
    first, second = load_digits(), load_digits()
    first.train[0].zero_()
    assert second.train[0].any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda packed: gzip.compress(gzip.decompress(packed).replace(b"16", b"15", 1)), "damaged .*install"),
        (lambda packed: packed[: len(packed) // 2], "cannot be read .*install"),
        (lambda packed: b"not gzip" + packed, "cannot be read .*install"),
        (lambda packed: packed[:2000] + bytes(100) + packed[2100:], "(damaged|cannot be read) .*install"),
        (lambda packed: None, "cannot be read .*install"),
    ],
    ids=["one pixel", "truncated", "no gzip", "bad block", "missing"],
)
def test_a_damaged_file_is_an_error(change, message, tmp_path, monkeypatch):
    changed = change(files("eqprop.data").joinpath("digits.csv.gz").read_bytes())
    if changed is not None:
        (tmp_path / "digits.csv.gz").write_bytes(changed)
    monkeypatch.setattr(digits, "files", lambda package: tmp_path)
    with pytest.raises(RuntimeError, match=message) as failure:
        load_digits()
    assert "\n" not in str(failure.value)


@pytest.mark.slow
@pytest.mark.parametrize("method", [lambda run: run, baseline], ids=["EP", "BPTT"])
def test_the_recipe_learns_the_digits(method, tmp_path):
    """The README states this error for the demo; one seed here."""
    create_run(method(recipe("digits")), tmp_path / "run")
    assert train_run(tmp_path / "run")[-1]["test_error"] <= 0.04
