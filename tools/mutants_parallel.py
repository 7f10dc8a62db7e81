"""Faults in what several processes do together."""

from mutant import Mutant

__all__ = ["PARALLEL"]

TEAM, COMMAND = "training/test_training_parallel.py", "training/test_cli_parallel.py"
FILE, TRAINER, STUDY = "training/parallel.py", "training/trainer.py", "training/session.py"

PARALLEL = [
    Mutant("means of parts, not of samples", FILE, "else p.grad * weight", "else p.grad / self.size", TEAM),
    Mutant("an empty part has weight", FILE, "else (x[:1], y[:1], 0.0)", "else (x[:1], y[:1], 1 / len(x))", TEAM),
    Mutant(
        "an empty part is counted", TRAINER, "if first is not None and weight else", "if first is not None else", TEAM
    ),
    Mutant("everybody's noise is one", FILE, "PROCESS, self.rank, moment", "PROCESS, 0, moment", TEAM),
    Mutant("every batch's noise is one", FILE, "moment.epoch, moment.batch)", "moment.epoch, 0)", TEAM),
    Mutant(
        "noise drives the streams apart",
        "training/seeding.py",
        "        torch.set_rng_state(self.outside)\n",
        "        pass\n",
        TEAM,
    ),
    Mutant(
        "noise of tests from the common stream",
        FILE,
        "with own:\n                    yield",
        "if own:\n                    yield",
        TEAM,
    ),
    Mutant(
        "weights as each brought them", FILE, "value.copy_(self._broadcast(value.contiguous().clone()))", "pass", TEAM
    ),
    Mutant(
        "streams as each brought them",
        FILE,
        "torch.set_rng_state(self._broadcast(torch.get_rng_state()))",
        "pass",
        TEAM,
    ),
    Mutant("everybody writes", TRAINER, "self.source if processes.first else None", "self.source", TEAM),
    Mutant("sums of one process", FILE, "        tally.restore(packet", "        tuple(packet", TEAM),
    Mutant(
        "a failure stays at home",
        FILE,
        "except FloatingPointError as found:",
        "except ZeroDivisionError as found:",
        TEAM,
    ),
    Mutant(
        "a failure in a test stays at home",
        FILE,
        "except FloatingPointError as error:",
        "except ZeroDivisionError as error:",
        TEAM,
    ),
    Mutant(
        "one obeys a signal alone",
        "training/interrupts.py",
        "            self._before = dict.fromkeys(SIGNALS, signal.SIG_IGN)\n",
        "            self._before = dict.fromkeys(SIGNALS, signal.SIG_IGN)\n            self.asked = number\n",
        TEAM,
    ),
    Mutant(
        "a second signal ends one process",
        "training/interrupts.py",
        "            self._before = dict.fromkeys(SIGNALS, signal.SIG_IGN)\n",
        "            pass\n",
        TEAM,
    ),
    Mutant("weights that move apart", FILE, "ContinualSGD) and moves(estimator)", "ContinualSGD) and False", TEAM),
    Mutant(
        "everybody complains",
        FILE,
        'self.store.add("eqprop/told", 1) == 1',
        'self.store.add("eqprop/told", 1) > 0',
        COMMAND,
    ),
    Mutant(
        "number of processes forgotten",
        STUDY,
        "environment(device, processes.size), indent",
        "environment(device), indent",
        COMMAND,
    ),
]
