"""Data sets are searched for in the documented order. A damaged file in a named location is an error, never skipped."""

import errno
import gzip
import os

import pytest

from eqprop.data import NAMES, DataError, fetch, files, load, locations, survey
from small_sets import damage, error_lines, is_test_set, small_cifar, tree

pytestmark = pytest.mark.usefixtures("isolated")

IMAGES, CLASSES = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


class TestSearch:
    def test_every_location_is_searched(self, fashion, tmp_path, cache, monkeypatch, offline):
        for folder in (tmp_path / "debian", cache, tmp_path / "variable", tmp_path / "argument"):
            root = tmp_path / "argument" if folder.name == "argument" else None
            if folder.name == "variable":
                monkeypatch.setenv("EQPROP_DATA", str(folder))
            fashion.put(folder)
            assert is_test_set(load("fashion-mnist", root), fashion)
            assert {e.name: e.path for e in survey(root)}["fashion-mnist"] == folder / "fashion-mnist"

    def test_the_debian_folder_is_only_for_fashion_mnist(self, mnist, tmp_path, offline):
        mnist.put(tmp_path / "debian")
        with pytest.raises(FileNotFoundError):
            load("mnist")

    def test_an_empty_named_root_is_skipped(self, mnist, tmp_path, cache, offline):
        (tmp_path / "empty").mkdir()
        mnist.put(cache)
        assert is_test_set(load("mnist", tmp_path / "empty"), mnist)

    def test_the_cache_follows_the_platform(self, monkeypatch):
        assert str(locations.cache_folder()).endswith("/xdg/eqprop")
        for value in ("", "relative"):
            monkeypatch.setenv("XDG_CACHE_HOME", value)
            monkeypatch.setenv("HOME", "/home/somebody")
            assert str(locations.cache_folder()) == "/home/somebody/.cache/eqprop"
        monkeypatch.setattr(locations.sys, "platform", "darwin")
        assert str(locations.cache_folder()) == "/home/somebody/Library/Caches/eqprop"

    def test_a_user_without_a_home_must_name_a_root(self, mnist, tmp_path, monkeypatch, offline):
        monkeypatch.setattr(locations, "cache_folder", lambda: None)
        with pytest.raises(FileNotFoundError, match=r"no home folder .* EQPROP_DATA"):
            fetch("mnist")
        monkeypatch.setenv("EQPROP_DATA", str(mnist.put(tmp_path / "d")))
        assert is_test_set(load("mnist"), mnist)

    def test_a_tilde_is_expanded(self, mnist, tmp_path, monkeypatch, offline):
        mnist.put(tmp_path / "home" / "sets")
        assert is_test_set(load("mnist", "~/sets"), mnist)
        monkeypatch.setenv("EQPROP_DATA", "~/sets")
        assert is_test_set(load("mnist"), mnist)

    def test_an_empty_variable_is_ignored(self, mnist, cache, monkeypatch, offline):
        monkeypatch.setenv("EQPROP_DATA", "")
        mnist.put(cache)
        assert is_test_set(load("mnist"), mnist)


class TestNamedRoots:
    """A problem in a location that the user named is an error."""

    @pytest.fixture(params=["argument", "variable"])
    def name(self, request, monkeypatch):
        """Name a location, as an argument or in the environment; returns the argument."""

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
            (lambda raw: raw[:-8] + bytes(8), "not a valid gzip"),
            (lambda raw: b"<html>", "not a valid gzip"),
            (lambda raw: b"", "ends early"),
        ],
    )
    def test_a_damaged_file_is_an_error_even_if_other_locations_have_it(
        self, mirrored, server, cache, tmp_path, name, spoil, message
    ):
        root = mirrored.put(tmp_path / "d")
        mirrored.put(cache)
        path = root / "mnist" / f"{IMAGES}.gz"
        path.write_bytes(spoil(path.read_bytes()))
        before = path.read_bytes()
        with pytest.raises(DataError, match=message) as failure:
            load("mnist", name(root))
        first, advice = error_lines(failure)
        assert first.startswith(f"{path} is damaged")
        assert "eqprop data fetch mnist" in advice
        assert path.read_bytes() == before
        assert server.asked == []

    def test_a_damaged_plain_file_is_an_error(self, mnist, tmp_path, name):
        root = mnist.put(tmp_path / "d", packed=False)
        path = damage(root / "mnist" / CLASSES)
        with pytest.raises(DataError, match="SHA-256") as failure:
            load("mnist", name(root))
        assert str(path) in error_lines(failure)[0]

    def test_a_damaged_file_is_an_error_when_others_are_missing(self, mirrored, server, tmp_path, name):
        """The download of the missing files must neither ignore nor replace it."""
        root = mirrored.put(tmp_path / "d", only=[IMAGES])
        before = damage(root / "mnist" / f"{IMAGES}.gz").read_bytes()
        with pytest.raises(DataError, match="SHA-256"):
            load("mnist", name(root))
        assert tree(root) == [f"mnist/{IMAGES}.gz"]
        assert (root / "mnist" / f"{IMAGES}.gz").read_bytes() == before
        assert server.asked == []

    def test_missing_files_are_named_in_the_error_offline(self, mnist, tmp_path, cache, name, offline):
        mnist.put(cache)
        root = mnist.put(tmp_path / "d", only=[IMAGES, "train-labels-idx1-ubyte"])
        with pytest.raises(FileNotFoundError) as failure:
            load("mnist", name(root))
        first, *_ = error_lines(failure)
        assert first.startswith(f"mnist in {root}")
        assert f"lacks t10k-images-idx3-ubyte, {CLASSES}" in first

    def test_missing_files_are_downloaded_online(self, mirrored, server, tmp_path, name):
        root = mirrored.put(tmp_path / "d", only=[n for n in mirrored.contents if n != CLASSES])
        assert is_test_set(load("mnist", name(root)), mirrored)
        assert server.asked == [f"/m/{CLASSES}.gz"]
        assert len(tree(root)) == 4

    def test_downloads_go_to_the_named_root(self, mirrored, tmp_path, cache, name):
        root = tmp_path / "d"
        root.mkdir()
        assert is_test_set(load("mnist", name(root)), mirrored)
        assert tree(root) == sorted(f"mnist/{file}.gz" for file in mirrored.contents)
        assert not cache.exists()

    def test_a_missing_folder_is_an_error(self, mirrored, server, tmp_path, cache, name):
        mirrored.put(cache)
        (tmp_path / "file").touch()
        for root, why in ((tmp_path / "nowhere", "No such file"), (tmp_path / "file", "Not a directory")):
            argument = name(root)
            for use in (lambda: load("mnist", argument), lambda: survey(argument)):  # noqa: B023
                with pytest.raises(FileNotFoundError, match=why) as failure:
                    use()
                assert str(root) in error_lines(failure)[0]
        assert server.asked == []
        assert not (tmp_path / "nowhere").exists()

    def test_an_unreadable_folder_is_an_error(self, mnist, tmp_path, monkeypatch, name):
        root = mnist.put(tmp_path / "d")

        def deny(path):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(locations.os, "scandir", deny)
        with pytest.raises(FileNotFoundError, match="Permission denied") as failure:
            load("mnist", name(root))
        error_lines(failure)

    def test_an_unreadable_file_is_an_error(self, mnist, tmp_path, monkeypatch, name):
        root = mnist.put(tmp_path / "d")

        def deny(path, *arguments):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

        monkeypatch.setattr(files.Path, "open", deny)
        with pytest.raises(DataError, match=f"{IMAGES}.gz cannot be read: Permission denied") as failure:
            load("mnist", name(root))
        error_lines(failure)


class TestOffline:
    def test_nothing_is_requested_and_the_error_helps(self, mirrored, server, tmp_path, cache, monkeypatch, offline):
        empty, other = tmp_path / "empty", tmp_path / "other"
        empty.mkdir()
        other.mkdir()
        monkeypatch.setenv("EQPROP_DATA", str(other))
        with pytest.raises(FileNotFoundError, match="mnist was not found in") as failure:
            load("mnist", empty)
        first, second, third = error_lines(failure)
        for folder in (empty, other, cache):
            assert str(folder) in first
        assert f"`EQPROP_OFFLINE=0 EQPROP_DATA={empty} eqprop data fetch mnist`" in second
        assert "mnist/train-images-idx3-ubyte.gz" in third
        assert server.asked == []
        assert tree(tmp_path) == []

    @pytest.mark.parametrize("value", ["1", "true", "YES", " 1 "])
    def test_yes(self, monkeypatch, value):
        monkeypatch.setenv("EQPROP_OFFLINE", value)
        assert locations.is_offline()

    @pytest.mark.parametrize("value", ["0", "", "false", "No"])
    def test_no(self, monkeypatch, value):
        monkeypatch.setenv("EQPROP_OFFLINE", value)
        assert not locations.is_offline()

    def test_neither(self, mnist, monkeypatch):
        monkeypatch.setenv("EQPROP_OFFLINE", "maybe")
        with pytest.raises(ValueError, match=r"EQPROP_OFFLINE.*'maybe'"):
            load("mnist")

    def test_unset(self):
        assert not locations.is_offline()

    def test_fetch_is_an_error_offline(self, mirrored, server, offline):
        with pytest.raises(DataError, match="EQPROP_OFFLINE is set") as failure:
            fetch("mnist")
        assert "EQPROP_OFFLINE=0" in error_lines(failure)[1]
        assert server.asked == []


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

    def test_entries(self, mnist, tmp_path):
        entries = survey(mnist.put(tmp_path / "d"))
        assert [entry.name for entry in entries] == list(NAMES)
        assert [entry.path for entry in entries] == [None, tmp_path / "d" / "mnist", None, None]
        assert [entry.shape for entry in entries] == [(64,), (1, 28, 28), (1, 28, 28), (3, 32, 32)]
        assert entries[1].samples == (6, 4)

    def test_nothing_is_downloaded(self, mirrored, server, tmp_path):
        survey()
        assert server.asked == []
        assert tree(tmp_path) == []
