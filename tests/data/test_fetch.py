"""Downloads go to the right folder, repair damaged files, and leave nothing half written when they fail."""

import errno
import gzip
import os

import pytest

from eqprop.data import DataError, fetch, load
from small_sets import body, damage, error_lines, is_test_set, small_cifar, small_mnist, stall, tar_gz, tree

pytestmark = pytest.mark.usefixtures("isolated")

IMAGES, CLASSES = "train-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


class TestCache:
    def test_only_the_first_use_downloads(self, mirrored, server, cache):
        assert is_test_set(load("mnist"), mirrored)
        assert len(server.asked) == 4
        assert is_test_set(load("mnist"), mirrored)
        assert len(server.asked) == 4
        assert tree(cache) == sorted(f"mnist/{file}.gz" for file in mirrored.contents)

    def test_a_damaged_file_is_replaced_with_a_warning(self, mirrored, server, cache):
        path = damage(mirrored.put(cache) / "mnist" / f"{CLASSES}.gz")
        with pytest.warns(UserWarning, match=f"{CLASSES}.gz is damaged: .*; downloading mnist again") as warned:
            assert is_test_set(load("mnist"), mirrored)
        assert warned[0].filename == __file__
        assert server.asked == [f"/m/{CLASSES}.gz"]
        assert gzip.decompress(path.read_bytes()) == mirrored.contents[CLASSES]

    def test_a_damaged_uncompressed_file_is_replaced(self, mirrored, cache):
        damage(mirrored.put(cache, packed=False) / "mnist" / CLASSES)
        with pytest.warns(UserWarning, match="damaged"):
            load("mnist")
        assert is_test_set(load("mnist"), mirrored)

    def test_a_damaged_file_is_an_error_offline(self, mirrored, server, cache, offline):
        path = damage(mirrored.put(cache) / "mnist" / f"{CLASSES}.gz")
        before = path.read_bytes()
        with pytest.raises(DataError, match="is damaged") as failure:
            load("mnist")
        assert "eqprop data fetch mnist" in error_lines(failure)[1]
        assert path.read_bytes() == before
        assert server.asked == []

    def test_a_damaged_file_is_kept_if_the_download_fails(self, mirrored, server, cache):
        path = damage(mirrored.put(cache) / "mnist" / f"{CLASSES}.gz")
        before = path.read_bytes()
        server.routes.clear()
        with (
            pytest.warns(UserWarning, match="damaged"),
            pytest.raises(DataError, match="could not be downloaded"),
        ):
            load("mnist")
        assert path.read_bytes() == before

    def test_an_incomplete_cache_is_skipped(self, fashion, tmp_path, cache, offline):
        fashion.put(cache, only=[IMAGES])
        fashion.put(tmp_path / "debian")
        assert is_test_set(load("fashion-mnist"), fashion)

    def test_an_interrupted_download_resumes(self, mirrored, server, cache):
        def interrupt(done, total):
            if len(server.asked) == 3:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            load("mnist", progress=interrupt)
        assert tree(cache) == sorted(f"mnist/{name}.gz" for name in list(mirrored.contents)[:2])
        assert is_test_set(load("mnist"), mirrored)
        assert len(server.asked) == 5

    def test_a_damaged_system_package_is_an_error(self, fashion, tmp_path, cache):
        path = damage(fashion.put(tmp_path / "debian") / "fashion-mnist" / f"{CLASSES}.gz")
        with pytest.raises(DataError, match="is damaged") as failure:
            load("fashion-mnist")
        assert str(path) in error_lines(failure)[0]
        assert "--reinstall dataset-fashion-mnist" in error_lines(failure)[1]
        fashion.put(cache)
        assert is_test_set(load("fashion-mnist"), fashion)

    def test_a_failed_download_creates_nothing(self, known, server, tmp_path):
        known(small_mnist(mirrors=[f"{server.url}/nothing"]))
        with pytest.raises(DataError, match="HTTP 404") as failure:
            load("mnist")
        error_lines(failure)
        assert tree(tmp_path) == []

    def test_an_archive_is_unpacked(self, known, server, cache):
        small = known(small_cifar(mirrors=[f"{server.url}/c.tar.gz"]))
        server.routes["/c.tar.gz"] = body(
            tar_gz({f"cifar-10-batches-bin/{name}": raw for name, raw in small.contents.items()})
        )
        load("cifar-10")
        assert tree(cache) == sorted(f"cifar-10/cifar-10-batches-bin/{name}" for name in small.contents)
        assert {name: (cache / small.source.folder / name).read_bytes() for name in small.contents} == small.contents


class TestFetch:
    def test_the_target_folder(self, mirrored, server, tmp_path, monkeypatch, cache):
        assert fetch("mnist") == cache / "mnist"
        monkeypatch.setenv("EQPROP_DATA", str(tmp_path / "variable"))
        assert fetch("mnist") == tmp_path / "variable" / "mnist"
        assert fetch("mnist", tmp_path / "new" / "root") == tmp_path / "new" / "root" / "mnist"
        for root in (cache, tmp_path / "variable", tmp_path / "new" / "root"):
            assert len(tree(root)) == 4
        assert is_test_set(load("mnist", tmp_path / "new" / "root"), mirrored)

    def test_intact_files_are_kept(self, mirrored, server, tmp_path, offline):
        root = mirrored.put(tmp_path / "d", packed=False)
        assert fetch("mnist", str(root)) == root / "mnist"
        assert server.asked == []

    def test_damaged_files_are_replaced(self, mirrored, server, tmp_path):
        root = mirrored.put(tmp_path / "d")
        damage(root / "mnist" / f"{CLASSES}.gz")
        fetch("mnist", root)
        assert server.asked == [f"/m/{CLASSES}.gz"]
        assert is_test_set(load("mnist", root), mirrored)

    def test_the_digits_are_shipped(self):
        assert fetch("digits").is_file()

    def test_other_users_can_read_the_files(self, mirrored, tmp_path):
        before = os.umask(0o022)
        try:
            fetch("mnist", tmp_path / "d")
        finally:
            os.umask(before)
        assert {path.stat().st_mode & 0o777 for path in (tmp_path / "d" / "mnist").iterdir()} == {0o644}

    def test_a_full_disk_is_an_error_and_leaves_nothing(self, mirrored, tmp_path, monkeypatch):
        def full(descriptor):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(DataError, match="cannot be written: No space left") as failure:
            fetch("mnist", tmp_path / "d")
        assert f"{IMAGES}.gz" in error_lines(failure)[0]
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
        error_lines(failure)
        assert tree(tmp_path) == ["file"]

    def test_a_stalling_server_times_out(self, known, server, monkeypatch):
        from eqprop.data import download

        monkeypatch.setattr(download.download, "__defaults__", (None, 0.3))
        known(small_mnist(mirrors=[f"{server.url}/slow"]))
        server.routes[f"/slow/{IMAGES}.gz"] = stall()
        with pytest.raises(DataError, match=r"no answer for 0.3 s"):
            fetch("mnist")
