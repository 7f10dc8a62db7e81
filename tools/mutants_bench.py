"""Faults in measurements: products that are not counted or not done, times that are mixed up, states that are kept."""

from mutant import Mutant

__all__ = ["BENCH"]

COUNTED, MEASURED, MEMORY = "laws/test_arithmetic.py", "training/test_bench.py", "laws/test_step_memory.py"
FILE, TIMING, MEASURE, WHO = "bench/arithmetic.py", "bench/timing.py", "bench/measuring.py", "bench/contenders.py"

BENCH = [
    Mutant("one nudged phase for two", FILE, "many = copies * batch", "many = batch", COUNTED),
    Mutant("gradient of one state", FILE, "2 * batch if pre else batch", "batch", COUNTED),
    Mutant("untied weights as tied ones", FILE, "Untied):\n        return [", "Call):\n        return [", COUNTED),
    Mutant(
        "mismatch hides that weights are untied",
        FILE,
        'getattr(connection, "written", connection)',
        "connection",
        COUNTED,
    ),
    Mutant("spikes before there are any", FILE, "steps - silent", "steps", COUNTED),
    Mutant("input drive at every step", FILE, "if pre or not still", "if True", COUNTED),
    Mutant("no way down", FILE, "(WAYS if pre else WAYS[:1])", "WAYS[:1]", COUNTED),
    Mutant("no readout", FILE, "(*step(model, many), *pull)", "step(model, many)", COUNTED),
    Mutant("pixels above a pooling", FILE, "above if wire.pooling.fixed else wire.there.up(below)", "above", COUNTED),
    Mutant("calls once that are done many times", FILE, "for _ in range(times):", "for _ in range(1):", COUNTED),
    Mutant(
        "no activation on the way up", "bench/feedforward.py", "x = rho.rho(layer.up(x))", "x = layer.up(x)", COUNTED
    ),
    Mutant("first round counted", TIMING, "            if turn:\n", "            if True:\n", MEASURED),
    Mutant("seconds for milliseconds", TIMING, "1e3 * (clock() - begin)", "(clock() - begin)", MEASURED),
    Mutant("a block counted as a step", TIMING, "(clock() - begin) / sizes[name]", "(clock() - begin)", MEASURED),
    Mutant("a warm step before a long one", TIMING, "if sizes[name] > 1:", "if True:", MEASURED),
    Mutant("ratio the other way", TIMING, "median(a / b for", "median(b / a for", MEASURED),
    Mutant("a phase for a step", MEASURE, "taken / STEPS, None", "taken, None", MEASURED),
    Mutant("looks at the residual now and then", "bench/settling.py", ", check_every=1)", ")", MEASURED),
    Mutant("a tolerance left in", WHO, "tol=None, average", "average", COUNTED),
    Mutant("more steps averaged than taken", WHO, "min(settle.average, steps)", "settle.average", COUNTED),
    Mutant("states kept", "settle.py", "            if trajectory:\n", "            if True:\n", MEMORY),
]
