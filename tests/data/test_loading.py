"""`load` returns the files as tensors, and refuses unknown names."""

import warnings

import pytest
import torch

from eqprop.data import NAMES, fetch, load, load_digits, shape_of, sizes
from eqprop.data.sources import SOURCES
from small_sets import error_lines, small_cifar

pytestmark = pytest.mark.usefixtures("isolated")

IMAGES, CLASSES = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


class TestTensors:
    @pytest.mark.parametrize("packed", [True, False])
    def test_idx(self, mnist, tmp_path, packed):
        split = load("mnist", mnist.put(tmp_path / "d", packed=packed))
        for (x, y), part in zip(split, ("train", "t10k"), strict=True):
            exact = torch.tensor(mnist.images[part].tolist(), dtype=torch.float32)[:, None] / 255
            assert x.dtype == torch.float32
            assert torch.equal(x, exact)
            assert y.dtype == torch.int64
            assert y.tolist() == mnist.classes[part].tolist()
            assert x.is_contiguous()

    def test_cifar(self, known, tmp_path):
        small = known(small_cifar())
        (x, y), (x_test, y_test) = load("cifar-10", small.put(tmp_path / "d"))
        names = list(small.contents)
        exact = torch.cat([torch.tensor(small.images[name].tolist()) for name in names]).float() / 255
        assert torch.equal(torch.cat([x, x_test]), exact)
        assert len(y) == 10
        assert y.tolist() + y_test.tolist() == [c for name in names for c in small.classes[name].tolist()]

    def test_digits_need_no_download(self, offline):
        for ours, theirs in zip(load("digits"), load_digits(), strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])

    def test_digits_have_the_documented_sizes(self):
        train, test = load_digits()
        assert (len(train[1]), len(test[1])) == sizes("digits")
        assert train[0].shape[1:] == shape_of("digits")

    def test_loads_are_independent(self, mnist, tmp_path):
        root = mnist.put(tmp_path / "d")
        load("mnist", root).train[0].zero_()
        assert load("mnist", root).train[0].any()


class TestNames:
    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("mnits", "did you mean 'mnist'"),
            ("MNIST", "did you mean 'mnist'"),
            ("cifar10", "did you mean 'cifar-10'"),
            ("fashion", "did you mean 'fashion-mnist'"),
            ("imagenet", "'imagenet': the data sets are digits, mnist, fashion-mnist, cifar-10"),
            (None, "None: the data sets"),
            ("", "'': the data sets"),
        ],
    )
    def test_unknown(self, name, message):
        for use in (load, fetch, shape_of, sizes):
            with pytest.raises(ValueError, match=message) as failure:
                use(name)
            error_lines(failure)

    def test_known(self):
        assert NAMES == ("digits", "mnist", "fashion-mnist", "cifar-10")
        assert [shape_of(name) for name in NAMES] == [(64,), (1, 28, 28), (1, 28, 28), (3, 32, 32)]
        assert [sizes(name) for name in NAMES] == [(1437, 360), (60000, 10000), (60000, 10000), (50000, 10000)]

    def test_an_empty_root_is_refused(self):
        for use in (load, fetch):
            with pytest.raises(ValueError, match="`root` must name a folder, got ''"):
                use("mnist", "")

    @pytest.mark.parametrize("source", [source for source in SOURCES.values() if source.files])
    def test_file_sizes_match_the_formats(self, source):
        """IDX: a header of 16 bytes and 28x28 bytes per image, a header of 8 and 1 byte per class. CIFAR-10: records of 3,073."""
        per_part = {"train": source.train, "test": source.test}
        for (_, found), count in zip(per_part.items(), source.sizes, strict=True):
            total = sum(file.size for file in found)
            assert total == (3073 * count if "cifar" in source.name else 16 + 784 * count + 8 + count)
        hashes = [file.sha256 for file in source.files]
        assert len(set(hashes)) == len(hashes)
        assert all(len(bytes.fromhex(sha)) == 32 for sha in hashes)
        assert source.mirrors
        assert all(url.startswith("https://") for url in source.mirrors)


def test_loading_gives_no_warning(mnist, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("mnist", mnist.put(tmp_path / "d"))
