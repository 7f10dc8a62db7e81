"""What stands under the name of a data file is read only if it can be that file: no hang, no memory beyond the known size."""

import gzip
import os
import shutil
import tracemalloc
from contextlib import contextmanager

import numpy as np
import pytest
import torch

from eqprop.data import Batches, DataError, fetch, hold_out, load, survey
from eqprop.data.formats import read_idx
from small_sets import error_lines, idx_bytes, is_test_set, small_cifar

pytestmark = pytest.mark.usefixtures("isolated")

IMAGES = "train-images-idx3-ubyte"
CLASSES = "train-labels-idx1-ubyte"
LARGE = 50 * 10**9


@contextmanager
def little_memory(most=3 * 10**6):
    tracemalloc.start()
    try:
        yield
        assert tracemalloc.get_traced_memory()[1] < most
    finally:
        tracemalloc.stop()


def sparse(path):
    path.write_bytes(idx_bytes((60_000, 28, 28), b""))
    os.truncate(path, LARGE)


def bomb(path):
    path.write_bytes(gzip.compress(bytes(10**7)))


ODD = {
    "a FIFO": (os.mkfifo, "is not a regular file"),
    "a folder": (os.mkdir, "is not a regular file"),
    "an endless device": (lambda path: path.symlink_to("/dev/zero"), "is not a regular file"),
    "a terminal": (lambda path: path.symlink_to("/dev/null"), "is not a regular file"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "a sparse file": (sparse, "at most .* bytes, got 50000000000"),
    "an empty file": (lambda path: path.touch(), "ends early, after 0|must be 4720 bytes, got 0"),
    "a decompression bomb": (bomb, "got more than 4720|must have at most 4720 bytes"),
    "a header alone": (
        lambda path: path.write_bytes(idx_bytes((2**32 - 1,) * 3, b"")),
        "gzip|must be 4720 bytes, got 16",
    ),
}


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_an_odd_file_is_an_error(mnist, offline, tmp_path, kind, suffix):
    make, message = ODD[kind]
    root = mnist.put(tmp_path / "d", packed=bool(suffix))
    path = root / "mnist" / f"{IMAGES}{suffix}"
    path.unlink()
    make(path)
    with little_memory(), pytest.raises(DataError, match=message) as failure:
        load("mnist", root)
    assert str(path) in error_lines(failure)[0]
    assert "eqprop data fetch mnist" in error_lines(failure)[1]
    with little_memory():
        assert survey(root)[1].state.startswith("corrupt: ")
    assert os.path.lexists(path)


@pytest.mark.parametrize("kind", [kind for kind in ODD if kind != "a folder"])
def test_fetch_replaces_an_odd_file(mirrored, tmp_path, kind):
    root = mirrored.put(tmp_path / "d")
    path = root / "mnist" / f"{IMAGES}.gz"
    path.unlink()
    ODD[kind][0](path)
    fetch("mnist", root)
    assert path.is_file()
    assert is_test_set(load("mnist", root), mirrored)


def test_fetch_keeps_a_folder(mirrored, tmp_path):
    root = mirrored.put(tmp_path / "d")
    path = root / "mnist" / f"{IMAGES}.gz"
    path.unlink()
    path.mkdir()
    (path / "mine").write_text("text")
    with pytest.raises(DataError, match="cannot be written") as failure:
        fetch("mnist", root)
    error_lines(failure)
    assert (path / "mine").read_text() == "text"


def test_a_sparse_cifar_file_is_an_error(known, offline, tmp_path):
    root = known(small_cifar()).put(tmp_path / "d")
    os.truncate(root / "cifar-10" / "cifar-10-batches-bin" / "data_batch_3.bin", LARGE)
    with little_memory(), pytest.raises(DataError, match="must have at most 6146 bytes, got 50000000000"):
        load("cifar-10", root)


def test_a_folder_that_is_a_file_is_an_error(mnist, offline, tmp_path):
    root = mnist.put(tmp_path / "d")
    shutil.rmtree(root / "mnist")
    (root / "mnist").touch()
    with pytest.raises(FileNotFoundError, match="mnist was not found") as failure:
        load("mnist", root)
    error_lines(failure)


@pytest.mark.parametrize("shape", [(2**32 - 1,), (2**32 - 1,) * 3, (2**32 - 1,) * 32, (0, 2**32 - 1), (10**9, 28, 28)])
def test_the_claim_of_a_header_allocates_nothing(shape):
    """The file holds one byte too many or few for any of these."""
    with little_memory(10**5), pytest.raises(ValueError, match=r"must hold .* bytes of data, got 1"):
        read_idx(idx_bytes(shape, b"\0"))


@pytest.mark.parametrize("name", ["digits", "mnist"])
def test_a_named_folder_must_exist(mnist, offline, tmp_path, name):
    """Also for the digits, which need none: a wrong path is a mistake."""
    mnist.put(tmp_path / "d")
    (tmp_path / "file").touch()
    for root in (tmp_path / "missing", tmp_path / "file", tmp_path / "d" / "mnist" / f"{IMAGES}.gz"):
        with pytest.raises(FileNotFoundError, match=r"\(`root`\) is not a readable folder") as failure:
            load(name, root)
        error_lines(failure)
    load(name, tmp_path / "d")
    with pytest.raises(ValueError, match="`root` must name a folder, got ''"):
        load(name, "")


def test_the_digits_need_no_folder_of_the_environment(monkeypatch, tmp_path):
    """`EQPROP_DATA` is for all sets, and may name a folder that the first download creates."""
    monkeypatch.setenv("EQPROP_DATA", str(tmp_path / "missing"))
    assert len(load("digits").test[1]) == 360


@pytest.mark.parametrize("wrong", [[1, 2], np.arange(2), None, "ab"])
def test_samples_must_be_tensors(wrong):
    for make in (lambda: Batches(wrong, torch.arange(2), 1), lambda: hold_out((torch.rand(2, 1), wrong), 1)):
        with pytest.raises(ValueError, match=r"`[xy]` must be an object of class Tensor, got an object of class"):
            make()
