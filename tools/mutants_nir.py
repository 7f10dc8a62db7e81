"""Faults in the export to NIR."""

from mutant import Mutant

__all__ = ["NIR"]

NODES, FILES = "reference/test_nir.py", "training/test_cli_export.py"
DRAFT, EXPORT = "spiking/draft.py", "spiking/nir.py"

NIR = [
    Mutant("no bias leaks in", DRAFT, "self.leaky(n, eps, self.bias(n))", "self.leaky(n, eps)", NODES),
    Mutant("lambda for eps", DRAFT, "self.leaky(n, eps, ", "self.leaky(n, lam, ", NODES),
    Mutant("an integral of ticks", DRAFT, "1 / self.tick", "1.0", NODES),
    Mutant("the code of the value alone", DRAFT, "(1 - lam) / lam", "0.0", NODES),
    Mutant(
        "spikes are not taken off", DRAFT, "nir.Scale(self.filled(n, -1.0))", "nir.Scale(self.filled(n, 0.0))", NODES
    ),
    Mutant(
        "a threshold of one", DRAFT, "nir.Threshold(self.filled(n, 0.5))", "nir.Threshold(self.filled(n, 1.0))", NODES
    ),
    Mutant("feedback through forward weights", DRAFT, "both_ways(connection) or ", "", NODES),
    Mutant("the average is left out", DRAFT, 'if forward.pool == "avg" else 1', "if not forward.pool else 1", NODES),
    Mutant(
        "the input's current is decoded",
        DRAFT,
        'self.inlet(post) if self.spiking_input else f"potential_{post}"',
        "self.inlet(post)",
        NODES,
    ),
    Mutant(
        "input spikes of this tick's lambda",
        EXPORT,
        "size_at(dynamics.lam, tick + 1)",
        "size_at(dynamics.lam, tick)",
        NODES,
    ),
    Mutant("what cannot be is written", EXPORT, 'if forward.pool not in ("avg", None):', "if False:", NODES),
    Mutant("an older file is lost", "cli/export.py", "path.is_symlink() or path.exists()", "path.is_symlink()", FILES),
]
