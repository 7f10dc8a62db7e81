"""A checkpoint is what was written or it is refused; a write that fails leaves the old one; nothing is unpickled."""

import copy
import errno
import json
import os
import pickletools
import random
import re
import struct
from pathlib import Path

import pytest
import torch

import eqprop as ep
from eqprop.training import checkpoint
from eqprop.training.checkpoint import DamagedError
from eqprop.training.run_folder import RunFolder
from forked import capped
from small_team import elsewhere
from small_trainings import CENTRED, TRAIN, mlp, trainer

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool]
FACTS = {"epoch": 3, "best": {"by": "test", "value": 0.25}, "none": None, "list": [1, "a", 0.1, True], "name": "größer"}


def tensors() -> dict[str, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    held = {f"kind.{n}": (10 * torch.rand(2, 3, generator=draw)).to(kind) for n, kind in enumerate(KINDS)}
    return held | {
        "scalar": torch.tensor(0.1),
        "empty": torch.zeros(0, 4),
        "turned": torch.rand(3, 2, generator=draw).t(),
    }


@pytest.fixture
def small(tmp_path) -> Path:
    """A file that is small enough to try every bit of it."""
    path = tmp_path / "small.safetensors"
    checkpoint.write(
        path, {"a.weight": torch.tensor([[0.5, -1.0], [2.0, 0.0]]), "b": torch.arange(3)}, {"epoch": 3, "by": "x"}
    )
    return path


@pytest.fixture(scope="module")
def trained(tmp_path_factory) -> Path:
    """A folder that a training has left."""
    folder = tmp_path_factory.mktemp("trained")
    trainer(folder).fit(TRAIN, 2)
    return folder


def equal(a: dict, b: dict) -> bool:
    return a.keys() == b.keys() and all(a[n].dtype == b[n].dtype and torch.equal(a[n], b[n]) for n in a)


def test_everything_comes_back_exactly(tmp_path):
    checkpoint.write(tmp_path / "a", tensors(), FACTS)
    found, facts = checkpoint.read(tmp_path / "a")
    assert equal(found, tensors())
    assert facts == FACTS


@pytest.mark.parametrize("value", [0.1, 1e-300, -0.0, 1 / 3, 2**53 + 1, 5e-324, 1e300])
def test_numbers_come_back_exactly(tmp_path, value):
    checkpoint.write(tmp_path / "a", {"t": torch.ones(1)}, {"value": value})
    found = checkpoint.read(tmp_path / "a")[1]["value"]
    assert repr(found) == repr(value)


def test_equal_content_is_equal_bytes(tmp_path):
    """In whatever order it was put together."""
    checkpoint.write(tmp_path / "a", tensors(), FACTS)
    checkpoint.write(tmp_path / "b", dict(reversed(tensors().items())), dict(reversed(FACTS.items())))
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no checkpoint at .*nowhere"):
        checkpoint.read(tmp_path / "nowhere")


def test_it_is_one_plain_safetensors_file(trained):
    """Eight bytes of length, JSON, raw numbers; and no pickle in it or beside it."""
    written = [path for path in trained.rglob("*") if path.is_file()]
    assert {path.relative_to(trained).as_posix() for path in written} == {
        "metrics.jsonl", ".lock", "checkpoint/last.safetensors", "checkpoint/best.safetensors",
    }  # fmt: skip
    for path in (RunFolder(trained).last, RunFolder(trained).best):
        raw = path.read_bytes()
        (length,) = struct.unpack("<Q", raw[:8])
        header = json.loads(raw[8 : 8 + length])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"]
        assert 8 + length + max(ends) == len(raw)
        assert not raw.startswith((b"PK", b"\x80"))
        with pytest.raises((ValueError, IndexError)):
            list(pickletools.genops(raw))


def test_nothing_is_unpickled(trained, monkeypatch):
    def refuse(*args, **options):
        raise AssertionError("a file was unpickled")

    for name in ("pickle.load", "pickle.loads", "pickle.Unpickler", "torch.load"):
        monkeypatch.setattr(name, refuse)
    trainer(trained).resume(TRAIN, 2)


def refused(path: Path, raw: bytes) -> None:
    """A `DamagedError`, which is a ValueError, that names the file."""
    path.write_bytes(raw)
    with pytest.raises(DamagedError, match=re.escape(path.name)):
        checkpoint.read(path)


def test_a_flipped_bit_anywhere_is_noticed(small):
    """Bit 5 of every byte, which turns small letters into capitals, and one more."""
    raw = small.read_bytes()
    for place in range(len(raw)):
        for bit in {5, place % 8}:
            refused(small, raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :])


def test_every_truncation_is_noticed(small):
    raw = small.read_bytes()
    for length in range(len(raw)):
        refused(small, raw[:length])


def test_every_byte_too_many_is_noticed(small):
    raw = small.read_bytes()
    for more in (b"\0", b" ", b"\n", raw):
        refused(small, raw + more)
        refused(small, more + raw)


@pytest.mark.parametrize("which", ["last", "best"])
def test_random_damage_to_a_real_checkpoint_is_noticed(trained, tmp_path, which):
    raw, draw = getattr(RunFolder(trained), which).read_bytes(), random.Random(7)
    path = tmp_path / "damaged.safetensors"
    for _ in range(150):
        place = draw.randrange(len(raw))
        refused(path, raw[:place] + bytes([raw[place] ^ draw.randrange(1, 256)]) + raw[place + 1 :])
    for _ in range(50):
        refused(path, raw[: draw.randrange(len(raw))])
    for _ in range(50):
        start, length = draw.randrange(len(raw)), draw.randrange(1, 600)
        hole = raw[:start] + bytes(len(raw[start : start + length])) + raw[start + length :]
        if hole != raw:
            refused(path, hole)


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0", b"hello, this is a text\n", b"{}", bytes(8), b"\xff" * 100, struct.pack("<Q", 2) + b"{}",
     struct.pack("<Q", 2**63) + b"{}", struct.pack("<Q", 24) + b'{"__metadata__":{"a":1}}',
     struct.pack("<Q", 32) + b'{"__metadata__":{"eqprop":"[1]"}}'[:32], b"PK\3\4" + bytes(60)],
)  # fmt: skip
def test_other_files_are_refused(tmp_path, raw):
    refused(tmp_path / "other", raw)


@pytest.mark.parametrize(
    "note", [None, "", "3", "[1]", "{}", '{"facts": {}}', '{"facts": {}, "sha256": 5}', "not json"]
)
def test_safetensors_files_of_others_are_refused(tmp_path, note):
    from safetensors.torch import save

    refused(tmp_path / "other", save({"a": torch.ones(2)}, metadata=None if note is None else {"eqprop": note}))


def test_a_damaged_checkpoint_is_neither_resumed_nor_overwritten(tmp_path):
    trainer(tmp_path).fit(TRAIN, 1)
    last = RunFolder(tmp_path).last
    raw = bytearray(last.read_bytes())
    raw[-1] ^= 1
    last.write_bytes(raw)
    with pytest.raises(ValueError, match=r"last\.safetensors is damaged"):
        trainer(tmp_path).resume(TRAIN, 2)
    with pytest.raises(FileExistsError):
        trainer(tmp_path).fit(TRAIN, 2)
    assert last.read_bytes() == raw
    assert len(RunFolder(tmp_path).rows()) == 1


OTHERS = {
    "wider": lambda: ep.mlp([4, 7, 3]),
    "deeper": lambda: ep.mlp([4, 6, 6, 3]),
    "untied": lambda: ep.mlp([4, 6, 3], tied=False),
    "readout": lambda: ep.mlp([4, 6], cost=ep.CrossEntropyReadout(6, 3)),
}


@pytest.mark.parametrize("other", OTHERS)
def test_weights_of_another_model_are_refused(trained, other):
    path = RunFolder(trained).last
    with pytest.raises(ValueError, match=r"last\.safetensors holds the weights of another model: ") as caught:
        checkpoint.load_weights(OTHERS[other](), checkpoint.read(path)[0], path)
    assert "\n" not in str(caught.value)


def test_weights_come_back_exactly(trained):
    model, path = mlp(), RunFolder(trained).best
    tensors, _ = checkpoint.read(path)
    checkpoint.load_weights(model, tensors, path)
    assert {f"model.{name}" for name in model.state_dict()} == set(tensors)
    assert all(torch.equal(value, tensors[f"model.{name}"]) for name, value in model.state_dict().items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_not_saved(tmp_path, value):
    third = trainer(tmp_path)
    third.fit(TRAIN, 1)
    before = RunFolder(tmp_path).last.read_bytes()
    with torch.no_grad():
        third.model.network.connections[1].weight[0, 2] = value
    with pytest.raises(FloatingPointError, match=r"network\.connections\.1\.weight is not finite"):
        checkpoint.model_state(third.model)
    with pytest.raises(FloatingPointError, match=r"is not finite"):
        third.fit(TRAIN, 2)
    assert RunFolder(tmp_path).last.read_bytes() == before


@pytest.mark.parametrize("operation", ["fsync", "replace"])
def test_a_full_disk_leaves_the_old_checkpoint(tmp_path, monkeypatch, operation):
    third = trainer(tmp_path)
    third.fit(TRAIN, 1)
    folder = RunFolder(tmp_path)
    before, listing = folder.last.read_bytes(), sorted(tmp_path.rglob("*"))

    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as broken:
        broken.setattr(*(("os.fsync", full) if operation == "fsync" else (Path, "replace", full)))
        with pytest.raises(OSError, match="No space left on device"):
            third.fit(TRAIN, 2)
    assert folder.last.read_bytes() == before
    assert sorted(tmp_path.rglob("*")) == listing
    checkpoint.read(folder.last)
    trainer(tmp_path).resume(TRAIN, 2)
    assert [row["epoch"] for row in folder.rows()] == [1, 2]


def test_a_file_that_the_system_cuts_short_leaves_the_old_checkpoint(tmp_path):
    """Part of the new file is written when the system refuses the rest."""
    assert elsewhere(capped, tmp_path).error.startswith(f"OSError: [Errno {errno.EFBIG}]")
    folder = RunFolder(tmp_path)
    assert checkpoint.read(folder.last)[1]["epoch"] == 1
    assert sorted(path.name for path in folder.last.parent.iterdir()) == ["best.safetensors", "last.safetensors"]
    trainer(tmp_path).resume(TRAIN, 3)
    whole = trainer(tmp_path / "whole")
    whole.fit(TRAIN, 3)
    assert folder.last.read_bytes() == whole.folder.last.read_bytes()


OPTIMISERS = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.3),
    "momentum": lambda p: torch.optim.SGD(p, lr=0.3, momentum=0.9, weight_decay=1e-4, nesterov=True),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02, betas=(0.8, 0.95)),
    "amsgrad": lambda p: torch.optim.Adam(p, lr=0.02, amsgrad=True),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.02, weight_decay=0.1),
    "rmsprop": lambda p: torch.optim.RMSprop(p, lr=0.005, centered=True, momentum=0.5),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, lr_decay=0.01),
}


def step(model, optimizer, count: int) -> None:
    for x, y in TRAIN[:1] * count:
        for loss in CENTRED(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


def same(a, b) -> bool:
    """Nested values alike to the bit and to the class."""
    if isinstance(a, torch.Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[name], b[name]) for name in a)
    if isinstance(a, list | tuple):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    return type(a) is type(b) and a == b


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("name", OPTIMISERS)
def test_an_optimizers_state_comes_back_exactly(tmp_path, name, double):
    model = mlp().double() if double else mlp()
    optimizer = OPTIMISERS[name](model.parameters())
    steps = [(x.double(), y) if double else (x, y) for x, y in TRAIN]
    for x, y in steps:
        for loss in CENTRED(model, x, y):
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    state = checkpoint.optimizer_state(optimizer)
    checkpoint.write(tmp_path / "a", checkpoint.model_state(model) | state.tensors, state.facts)
    tensors, facts = checkpoint.read(tmp_path / "a")
    twin = copy.deepcopy(model)
    other = OPTIMISERS[name](twin.parameters())
    checkpoint.load_optimizer(other, tensors, facts)
    assert same(other.state_dict(), optimizer.state_dict())
    for of, by in ((model, optimizer), (twin, other)):
        for x, y in steps[:2]:
            for loss in CENTRED(of, x, y):
                by.zero_grad()
                loss.backward()
                by.step()
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))


@pytest.mark.parametrize(("first", "second"), [("sgd", "adam"), ("adam", "momentum"), ("momentum", "rmsprop")])
def test_the_state_of_another_optimizer_is_refused(tmp_path, first, second):
    model = mlp()
    trainer_of = {name: OPTIMISERS[name](model.parameters()) for name in (first, second)}
    step(model, trainer_of[first], 2)
    state = checkpoint.optimizer_state(trainer_of[first])
    with pytest.raises(ValueError, match=r"optimi[sz]er"):
        checkpoint.load_optimizer(trainer_of[second], state.tensors, state.facts)


def test_the_state_for_other_groups_is_refused():
    model = mlp()
    several = torch.optim.SGD([{"params": [p]} for p in model.parameters()], lr=0.1)
    state = checkpoint.optimizer_state(torch.optim.SGD(model.parameters(), lr=0.1))
    with pytest.raises(ValueError, match=r"group"):
        checkpoint.load_optimizer(several, state.tensors, state.facts)


def test_a_connection_that_two_edges_share_is_saved(tmp_path):
    """Its weights have two names, and one place in memory."""
    one = ep.Dense(4, 4)
    populations = [ep.Population(n, "sigmoid") for n in (4, 4, 4, 3)]
    network = ep.Network(populations, [(0, 1, one), (1, 2, one), (2, 3, ep.Dense(4, 3))])
    model = ep.Model(network, ep.Prototypical(), ep.SquaredError(), 8)
    path = tmp_path / "a"
    checkpoint.write(path, checkpoint.model_state(model), {})
    twin = copy.deepcopy(model)
    with torch.no_grad():
        for p in twin.parameters():
            p.zero_()
    checkpoint.load_weights(twin, checkpoint.read(path)[0], path)
    assert all(torch.equal(p, q) for p, q in zip(model.parameters(), twin.parameters(), strict=True))
    assert twin.network.connections[0] is twin.network.connections[1]
