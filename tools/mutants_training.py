"""Faults in data, checkpoints, the trainer and the command line."""

from mutant import Mutant

__all__ = ["TRAINING"]

RESUME, KILL, SAVED = (f"training/test_training_{name}.py" for name in ("resume", "kill", "checkpoints"))
FIT, TALLY, GROUPS = (f"training/test_training_{name}.py" for name in ("trainer", "tally", "optimisers"))
FOLDER, SESSION, RECIPES = (f"training/test_training_{name}.py" for name in ("folder", "session", "recipes"))
DIVERGED, RUNS = (f"training/test_training_{name}.py" for name in ("divergence", "runs"))
TOLD, PICTURES = "training/test_training_reports.py", "training/test_angle_plots.py"
BATCHES, LOADED = (f"training/test_data_{name}.py" for name in ("batches", "loading"))
TRAINER, STREAM, CHECK, FILES = "training/trainer.py", "training/stream.py", "training/checkpoint.py", "files.py"
SNAPSHOT = "training/snapshot.py"

TRAINING = [
    Mutant(
        "optimiser not restored",
        SNAPSHOT,
        'checkpoint.load_optimizer(trainer.optimizer, tensors, facts["optimizer"])',
        "pass",
        RESUME,
    ),
    Mutant(
        "scheduler not restored",
        SNAPSHOT,
        'checkpoint.load_scheduler(trainer.scheduler, facts["scheduler"])',
        "pass",
        RESUME,
    ),
    Mutant("signs not restored", SNAPSHOT, 'trainer.generator.set_state(tensors["random.estimator"])', "pass", RESUME),
    Mutant("torch's stream not restored", SNAPSHOT, 'torch.set_rng_state(tensors["random.torch"])', "pass", RESUME),
    Mutant("sums not restored", SNAPSHOT, 'trainer.tally.restore(tensors["tally"], facts["counts"])', "pass", RESUME),
    Mutant(
        "best forgotten", SNAPSHOT, 'tensors["random.epoch"], facts["best"]', 'tensors["random.epoch"], None', RESUME
    ),
    Mutant(
        "a batch skipped too many",
        STREAM,
        "batches.epoch(epoch, done)",
        "batches.epoch(epoch, min(done + bool(done), len(batches)))",
        RESUME,
    ),
    Mutant(
        "every epoch in one order",
        STREAM,
        "batches.epoch(epoch, done)",
        "batches.epoch(0, done)",
        FIT,
    ),
    Mutant("a loader's order drawn anew", STREAM, "torch.set_rng_state(drawn)\n    left", "left", RESUME),
    Mutant("rows not cut", TRAINER, 'folder.truncate(facts["epoch"])', "folder.rows()", RESUME),
    Mutant("tests not begun anew", TRAINER, "torch.set_rng_state(drawn)  # the tests begin anew", "pass", RESUME),
    Mutant("another configuration", TRAINER, 'facts["config"] != self.config', "False", "training/test_cli_resume.py"),
    Mutant("scheduler never stepped", TRAINER, "            self.scheduler.step()\n", "            pass\n", FIT),
    Mutant("gradients add up", "training/processes.py", "optimizer.zero_grad()", "pass", FIT),
    Mutant(
        "Ctrl-C is lost",
        TRAINER,
        "agree(interrupts)\n                    interrupts.obey()\n",
        "agree(interrupts)\n",
        RESUME,
    ),
    Mutant("best by the test", "training/rows.py", 'part = "validation" if', 'part = "test" if', FIT),
    Mutant(
        "costs are means of batches", "training/tally.py", "loss.detach(), alpha=n", "loss.detach(), alpha=1", TALLY
    ),
    Mutant("rates from the output", "rates.py", "zip(owners, rates,", "zip(owners, rates[::-1],", GROUPS),
    Mutant("checksum not compared", CHECK, "if not sound:", "if False:", SAVED),
    Mutant("facts not in the checksum", CHECK, "hashlib.sha256(text.encode())", "hashlib.sha256()", SAVED),
    Mutant("weights not looked at", CHECK, "not torch.isfinite(tensor).all()", "False", DIVERGED),
    Mutant("milestones as strings", CHECK, "Counter({int(key): number", "Counter({key: number", RESUME),
    Mutant(
        "written in place", FILES, '        with beside.open("xb")', '        with (beside := path).open("wb")', RESUME
    ),
    Mutant(
        "lock not taken", "training/folder.py", "fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass", FOLDER
    ),
    Mutant("weights by chance", "training/run.py", "        with seeded(seed, WEIGHTS):", "        if True:", SESSION),
    Mutant("the rest by chance", "training/session.py", ", seeded(run.seed, REST)", "", SESSION),
    Mutant(
        "test shorter than training",
        "training/run.py",
        "if isinstance(spec, MLP | ConvNet) and spec.settle is None:",
        "if False:",
        RUNS,
    ),
    Mutant("baseline over K steps", "recipes/published.py", ".steps + 1", ".steps", RECIPES),
    Mutant(
        "epochs share an order", "data/batches.py", "SeedSequence([self.seed, n],", "SeedSequence([self.seed],", BATCHES
    ),
    Mutant("lists not logged", "training/reports.py", "if isinstance(value, list):", "if False:", TOLD),
    Mutant(
        "every connection has an angle",
        "training/probe.py",
        "in names if both_ways(connection) is not None]",
        "in names]",
        PICTURES,
    ),
    Mutant("parallel edges share a name", "network.py", "if self.ends.count(ends) > 1 else", "if False else", PICTURES),
    Mutant(
        "missing angles at zero",
        "plots/angles.py",
        "return nan if angle is None",
        "return 0.0 if angle is None",
        PICTURES,
    ),
    Mutant("angles above 100 cut off", "plots/angles.py", "max(100.0, largest + 5)", "max(100.0, 5)", PICTURES),
    Mutant("angles of every run drawn", "cli/pictures.py", "if plots.angled(rows):", "if rows:", PICTURES),
    Mutant(
        "data not checked",
        "data/files.py",
        "hashlib.sha256(content).hexdigest()) != file.sha256",
        "file.sha256) != found",
        LOADED,
    ),
]
