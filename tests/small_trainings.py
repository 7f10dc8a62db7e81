"""Trainings of a split second: three classes that a line cannot miss, tiny networks, reports that do as they are told."""

import pytest
import torch
from torch import Tensor

import eqprop as ep
from eqprop.training import Trainer, checkpoint
from eqprop.training.run_folder import RunFolder

SIZE = 8
CENTRED = ep.EquilibriumProp(8, 4, 0.2, "centred")


def blobs(n: int = 22, seed: int = 5) -> tuple[Tensor, Tensor]:
    """Inputs ``(n, 4)`` near the corner of their class, and classes."""
    y = torch.arange(n) % 3
    return 0.2 + 0.6 * torch.eye(4)[y] + 0.1 * torch.rand(n, 4, generator=torch.Generator().manual_seed(seed)), y


def cut(x: Tensor, y: Tensor, size: int = SIZE) -> list[tuple[Tensor, Tensor]]:
    """Batches in a list; the last one is smaller."""
    return list(zip(x.split(size), y.split(size), strict=True))


TRAIN, VALIDATION, TEST = (cut(*blobs(n, seed)) for n, seed in ((22, 5), (9, 6), (10, 7)))


def mlp(**options) -> ep.Model:
    """4-6-3, always with the same weights; torch's default generator is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        return ep.mlp([4, 6, 3], **{"activation": "sigmoid", "settle": 8} | options)


def sgd(model: ep.Model, rate: float = 0.5) -> torch.optim.Optimizer:
    return torch.optim.SGD(model.parameters(), lr=rate)


def trainer(folder=None, estimator=CENTRED, **options) -> Trainer:
    """The simplest one, by plain gradient descent."""
    model = mlp()
    return Trainer(model, estimator, sgd(model), folder=folder, **options)


class CallbackSpy:
    """A report that passes on what it is told."""

    def __init__(self, batch=lambda epoch, batch: None, epoch=lambda row: None):
        self.on_batch, self.on_epoch = batch, epoch
        self.begun, self.ended, self.batches = [], 0, []

    def on_fit_start(self, epochs, batches, rows):
        self.begun.append((epochs, batches, len(rows)))

    def on_batch_end(self, epoch, batch, metrics):
        self.batches.append((epoch, batch))
        self.on_batch(epoch, batch)

    def on_epoch_end(self, row):
        self.on_epoch(row)

    def on_fit_end(self):
        self.ended += 1


def after(count: int, act) -> CallbackSpy:
    """A report that acts once, when so many batches are done."""
    report = CallbackSpy()
    report.on_batch = lambda epoch, batch: act() if len(report.batches) == count else None
    return report


def timeless(rows: list[dict]) -> list[dict]:
    """Rows without what a clock decides."""
    return [{name: value for name, value in row.items() if name != "seconds"} for row in rows]


def outcome(folder) -> tuple[bytes, bytes, list[dict]]:
    """What must not depend on interruptions: both weight files, byte by byte, and the metrics apart from wall times."""
    place = RunFolder(folder)
    return place.last.read_bytes(), place.best.read_bytes(), timeless(place.rows())


def assert_nearly(folder, other) -> None:
    """Two folders hold the same training up to the round-off of single precision."""
    for name in ("last", "best"):
        (there, facts), (here, own) = (checkpoint.read(getattr(RunFolder(f), name)) for f in (folder, other))
        assert there.keys() == here.keys()
        for key, tensor in here.items():
            torch.testing.assert_close(there[key], tensor, rtol=1e-3, atol=1e-4)
        leave_out = {"best": 0, "spent": 0, "value": 0}
        assert facts | leave_out == own | leave_out
    for row, own in zip(RunFolder(folder).rows(), RunFolder(other).rows(), strict=True):
        assert row.keys() == own.keys()
        for key in row.keys() - {"seconds"}:
            loose = {"residual": {"rel": 0.1, "abs": 1e-5}}.get(key, {"abs": 0.01 if key.endswith("error") else 1e-3})
            assert row[key] == pytest.approx(own[key], **loose), key
