"""Faults in Anderson acceleration: what is mixed, what is rejected and forgotten, who may use it."""

from mutant import Mutant

__all__ = ["ACCELERATION"]

LAWS, LOOP = "laws/test_acceleration.py", "reference/test_anderson.py"
RUNS, FILE, SETTLE = "training/test_training_order.py", "acceleration.py", "settle.py"

ACCELERATION = [
    Mutant("mixing with the wrong sign", FILE, "self.dg, alpha=-1)", "self.dg)", LAWS),
    Mutant(
        "f in the place of its difference",
        FILE,
        "change.add_(f), led - g, fine)",
        "change, led - g, fine)",
        LOOP,
    ),
    Mutant("no safeguard", FILE, "fine = ~past.known.any(1) | (", "fine = (norm(f) >= 0) | (", LAWS),
    Mutant("growth forgotten", FILE, "<= self.growth * norm(f))", "<= norm(f))", LOOP),
    Mutant("plain steps guarded too", FILE, "fine = ~past.known.any(1) | (", "fine = (", LAWS),
    Mutant(
        "a safeguard over the batch",
        FILE,
        "torch.where(fine[:, None], point, z)",
        "torch.where(fine.all(), point, z)",
        LAWS,
    ),
    Mutant("history kept after a rejection", FILE, "self.known.logical_and_(fine[:, None])", "fine[:, None]", LOOP),
    Mutant("rejected difference counted", FILE, "self.known[:, k] = fine", "self.known[:, k] = True", LAWS),
    Mutant(
        "oldest difference kept", FILE, "past.add(turn % self.window,", "past.add(min(turn, self.window - 1),", LOOP
    ),
    Mutant("gram matrix of yesterday", FILE, "self.gram[:, :, k], self", "_, self", LOOP),
    Mutant(
        "forgotten differences on the right",
        FILE,
        "torch.where(rows, self.gram[..., -1:], 0)",
        "self.gram[..., -1:]",
        LOOP,
    ),
    Mutant("coarse least squares", FILE, "RIDGE * ends.eps", "1e-3", LOOP),
    Mutant("a channel for a column", FILE, ".movedim(-1, 1)", "", LAWS),
    Mutant(
        "rejected state shown",
        FILE,
        "yield shaped(z, start), shaped(g, start)",
        "yield outset, step(outset)",
        LAWS,
    ),
    Mutant("bounds forgotten", SETTLE, "lambda mixed: dynamics.within(network, mixed))", "lambda mixed: mixed)", LAWS),
    Mutant("nudged output cut off", "dynamics.py", "network.relaxing[:-1]]", "network.relaxing]]", LAWS),
    Mutant("anything is mixed", FILE, "if not dynamics.mixes:", "if dynamics is None:", LAWS),
    Mutant(
        "accelerated steps unrolled",
        SETTLE,
        "average=min(n, self.average), accelerate=None)",
        "average=min(n, self.average))",
        LAWS,
    ),
    Mutant("plain adjoint", "estimators/implicit.py", "leaps(steps.accelerate, step", "leaps(None, step", LAWS),
    Mutant(
        "theorem of accelerated steps",
        "theorem/comparison.py",
        "if found.accelerate is not None:",
        "if found is None:",
        LAWS,
    ),
    Mutant(
        "files of today unlike those before acceleration",
        SETTLE,
        "kw_only=True, metadata={LATER: True})\n    check_every",
        "kw_only=True)\n    check_every",
        RUNS,
    ),
    Mutant("acceleration lost on the command line", "cli/words.py", "accelerate=mix)", "accelerate=None)", RUNS),
]
