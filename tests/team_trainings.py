"""Trainings that the processes of a team do, each by itself; and the same alone."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from functools import cache

import torch
from torch.utils.data import DataLoader, TensorDataset

import eqprop as ep
from command import Answer, call
from eqprop.data import Batches, load_digits
from eqprop.estimators.base import Estimator
from eqprop.training import SGD, Adam, Cosine, QuantizedSGD, Trainer
from eqprop.training.config.optimizers import OptimizerSpec
from eqprop.training.distributed import gloo as parallel
from eqprop.training.distributed.gloo import joined
from eqprop.training.distributed.processes import SINGLE_PROCESS
from small_trainings import after

CENTRED = ep.EquilibriumProp(8, 4, 0.2, "centred")
SIGNS = ep.EquilibriumProp(8, 4, 0.2, "random-sign")
SIZE, SAMPLES = 10, 191
"""Twenty steps, the last of them on a single sample."""


@cache
def loaded():
    return load_digits()


def digits(n: int = SAMPLES) -> tuple[torch.Tensor, torch.Tensor]:
    x, y = loaded().train
    return x[:n].double(), y[:n]


def in_order() -> Batches:
    return Batches(*digits(), SIZE, seed=4)


def loader() -> DataLoader:
    return DataLoader(TensorDataset(*digits()), SIZE, shuffle=True)


def mlp(**options) -> ep.Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        inside = {"dynamics": ep.Prototypical(nudge="inside"), "settle": 8, "activation": "sigmoid"}
        return ep.mlp([64, 12, 10], **inside | options).double()


def readout() -> ep.Model:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        return mlp(cost=ep.CrossEntropyReadout(10, 10))


def noisy() -> ep.Model:
    return mlp(dynamics=ep.Noisy(ep.Prototypical(nudge="inside"), 0.01))


@dataclass(frozen=True)
class Training:
    """Everything that a training is made of, made anew in every process."""

    estimator: Estimator = CENTRED
    optimizer: OptimizerSpec = field(default_factory=lambda: SGD(0.3, momentum=0.5))
    model: Callable[[], ep.Model] = mlp
    batches: Callable = in_order

    def begin(self, processes, folder=None, *, resume=False, epochs=1, checkpoint_every=0.0, callbacks=()):
        """Fit or resume; the weights and the rows."""
        model = self.model()
        optimizer = self.optimizer.build(model)
        with torch.no_grad():
            for p in model.parameters():
                p.add_(processes.rank)  # of no account: the first one's weights are everybody's
        trainer = Trainer(
            model, self.estimator, optimizer, scheduler=Cosine().build(optimizer, 3), folder=folder, seed=3, callbacks=callbacks,
            checkpoint_every=checkpoint_every, processes=processes, diagnostics=lambda model, estimator: {"probed": True},
        )  # fmt: skip
        x, y = loaded().test
        tests = [Batches(x[:n].double(), y[:n], 40, shuffle=False) for n in (82, 121)]
        go = trainer.resume if resume else trainer.fit
        rows = go(self.batches(), epochs, validation=tests[0], test=tests[1])
        return [p.detach() for p in model.parameters()], rows


TRAININGS = {
    "centred": Training(),
    "random-sign, adam": Training(SIGNS, Adam(0.01)),
    "continual": Training(ep.ContinualEP(8, 4, 0.2, "random-sign"), SGD(0.1)),
    "one-shot": Training(ep.ContinualSGD(8, 4, 0.2, rates=0.0), SGD(0.1)),
    "bptt": Training(ep.BPTT(8, 5)),
    "readout": Training(model=readout),
    "few bits": Training(optimizer=QuantizedSGD(0.3, weight_bits=8, span=1.0)),
    "shuffling loader": Training(SIGNS, batches=loader),
}
OWN = {
    "noise": Training(model=noisy),
    "noise, few bits": Training(model=noisy, optimizer=QuantizedSGD(0.3, weight_bits=8, span=1.0)),
}


def alone(training: Training):
    """What one process comes to."""
    torch.manual_seed(0)
    return training.begin(SINGLE_PROCESS)


def all_of(trainings: dict[str, Training], epochs: int = 1):
    """Each of them, one after the other, in one team."""
    with joined() as processes:
        found = {}
        for name, training in trainings.items():
            if processes.is_rank0:
                torch.manual_seed(0)
            found[name] = training.begin(processes, epochs=epochs)
        return found


@dataclass
class Tripping:
    """An estimator that does something at one of its calls."""

    estimator: Estimator
    call: int
    act: Callable[[], None]

    def __call__(self, *arguments, **options):
        self.call -= 1
        if self.call == 0:
            self.act()
        return self.estimator(*arguments, **options)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def interrupt():
    signal.raise_signal(signal.SIGINT)
    signal.raise_signal(signal.SIGTERM)  # torchrun passes on what the terminal has sent already


def fail():
    raise FloatingPointError(f"process {os.environ['RANK']} met no number")


def full():
    raise OSError(28, "No space left on device")


def trained(folder, epochs: int = 2, *, resume=False, act=None, rank: int = 1, call: int = 25, every: float = 0.0):
    """Train in a folder; one process may do something at one of its batches."""
    with joined() as processes:
        estimator = Tripping(SIGNS, call, act) if act and processes.rank == rank else SIGNS
        return Training(estimator).begin(processes, folder, resume=resume, epochs=epochs, checkpoint_every=every)


def resumed(folder, epochs: int = 2):
    return trained(folder, epochs, resume=True)


def stopped(folder, act, rank: int = 1, call: int = 25, every: float = 0.0):
    return trained(folder, act=act, rank=rank, call=call, every=every)


def interrupted_between(folder, call: int):
    """After so many batches, when the others are already at the next one."""
    with joined() as processes:
        Training(SIGNS).begin(processes, folder, epochs=2, callbacks=[after(call, interrupt)])


def frozen(folder):
    """One stands still in the middle."""
    parallel.TIMEOUT = timedelta(seconds=10)
    return stopped(folder, lambda: os.kill(os.getpid(), signal.SIGSTOP))


def drawn():
    """What an estimator draws in each of three batches: from torch's default stream, and from the one that it is given."""
    found = []

    def estimator(model, x, y, *, on_free_phase=None, generator=None):
        found.append((torch.rand(()).item(), torch.rand((), generator=generator).item()))
        torch.rand(len(x))  # uneven
        return CENTRED(model, x, y, on_free_phase=on_free_phase)

    with joined() as processes:
        Training(estimator, batches=lambda: Batches(*digits(25), SIZE)).begin(processes)
        return found, torch.rand(()).item()


def spoiled():
    """A test in which the last sample is no number."""
    x, y = digits(31)
    bad = torch.cat([x[:-1], torch.full_like(x[:1], torch.nan)])
    with joined() as processes:
        model = mlp()
        trainer = Trainer(model, CENTRED, torch.optim.SGD(model.parameters(), lr=0.1), processes=processes)
        trainer.fit([(x, y)], 1, test=[(x, y), (bad, y), (x, y)])


def refused():
    """What the processes cannot train together."""
    found = []
    with joined() as processes:
        for estimator, device in (
            (ep.ContinualSGD(8, 4, 0.2), "cpu"),
            (ep.ContinualSGD(8, 4, 0.2, (0.1, 0.0)), "cpu"),
            (CENTRED, "cuda:1"),
        ):
            try:
                processes.check_estimator(estimator, device)
            except ValueError as error:
                found.append(str(error))
    return found


def commands(ports: list[int], commands: list[str], cwd) -> list[Answer]:
    """What this process says to commands that all of them are given."""
    os.chdir(cwd)
    answers = []
    for port, words in zip(ports, commands, strict=True):
        os.environ["MASTER_PORT"] = str(port)
        answers.append(call(words))
    return answers
