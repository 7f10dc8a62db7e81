"""Faults in asynchronous schedules: colourings, sweeps, what is passed on of a schedule."""

from mutant import Mutant

__all__ = ["ORDER"]

COLOURS, LAWS, LOOP = "laws/test_colouring.py", "laws/test_order.py", "reference/test_sweeps.py"
GRADIENTS, RUNS = "theorems/test_sweeps.py", "training/test_training_order.py"
COLOURING, SWEEPS, NET, DYN = "colouring.py", "order.py", "network.py", "dynamics.py"

ORDER = [
    Mutant("colour that a neighbour has", COLOURING, "if c not in seen[n])", "if c not in seen[n] or c == 1)", COLOURS),
    Mutant("saturation forgotten", COLOURING, "key=lambda n: (len(seen[n]), ", "key=lambda n: (", COLOURS),
    Mutant("groups in the wrong order", COLOURING, "sorted(groups))", "sorted(groups, reverse=True))", COLOURS),
    Mutant("self-connection let through", COLOURING, "if pre == post:", "if False:", COLOURS),
    Mutant("one group of all", SWEEPS, "force, colouring(network.ends))", "force, (range(1, len(state) + 1),))", LAWS),
    Mutant("groups backwards", SWEEPS, "for group in groups:", "for group in groups[::-1]:", LOOP),
    Mutant(
        "old state in the place of the new",
        SWEEPS,
        "        for group in groups:\n            state = dynamics.move(network, state, drive, group, force)",
        "        old = state\n        for group in groups:\n            new = dynamics.move(network, old, drive, group, force)\n"
        "            state = tuple(new[n] if n + 1 in group else s for n, s in enumerate(state))",
        LAWS,
    ),
    Mutant("last group forgotten", SWEEPS, "for group in groups:", "for group in groups[:-1] or groups:", LOOP),
    Mutant("stale pooling", SWEEPS, "drive = drive.at(group, dynamics", "drive.at(group, dynamics", LAWS),
    Mutant(
        "pooling of the wrong population",
        NET,
        "if wire.pre in group else wire",
        "if wire.post in group else wire",
        LAWS,
    ),
    Mutant("pooling seen once and for all", "convolution.py", "return self.wire.at(a)", "return self", LAWS),
    Mutant("feedback forgotten in a group", NET, "            if wire.pre in group:", "            if False:", LAWS),
    Mutant("current of the input overwritten", NET, "[u[n].clone() if", "[u[n] if", LAWS),
    Mutant(
        "no force in a sweep", DYN, "if force is not None and n == out else None", "if force is None else None", LOOP
    ),
    Mutant("force on the wrong side", DYN, 'pull is not None and self.nudge == "inside"', "pull is not None", LOOP),
    Mutant("Euler steps let through", SWEEPS, "not isinstance(dynamics, Blockwise)", "dynamics is None", LAWS),
    Mutant("any activation let through", SWEEPS, "if p.activation.potential is None:", "if p is None:", LAWS),
    Mutant("BPTT through steps", "estimators/bptt.py", "free.exactly(last_steps))", "Settle(last_steps))", GRADIENTS),
    Mutant(
        "implicit differentiation of a step",
        "estimators/implicit.py",
        "next(self._back.schedule.states(network, dynamics, drive, state))",
        "dynamics.step(network, state, drive)",
        GRADIENTS,
    ),
    Mutant(
        "schedule lost on the command line",
        "cli/words.py",
        "if choices else None, order,",
        "if choices else None,",
        RUNS,
    ),
    Mutant(
        "files of today unlike older ones",
        "settle.py",
        "Synchronous(), metadata={LATER: True})",
        "Synchronous())",
        RUNS,
    ),
    Mutant(
        "nudged phase not looked at",
        "training/session.py",
        "for steps in vars(run.estimator).values():",
        "for steps in [run.estimator.free_steps]:",
        RUNS,
    ),
    Mutant("theorem of sweeps", "theorem/comparison.py", "found.schedule != Synchronous()", "found is None", LAWS),
]
