"""Inject one fault at a time into a copy of the package; the tests must catch every one.

    python tools/mutate.py [--jobs N] [NAME ...]

A mutant is caught if the tests named beside it fail. It survives if they pass, and that is a missing test. A mutant whose
text is no longer in the source is an error too: the list must follow the code.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mutant import Mutant
from mutants_acceleration import ACCELERATION
from mutants_augment import AUGMENT
from mutants_bench import BENCH
from mutants_continual import CONTINUAL
from mutants_convolution import CONVOLUTION
from mutants_core import CORE
from mutants_hardware import HARDWARE
from mutants_nir import NIR
from mutants_order import ORDER
from mutants_parallel import PARALLEL
from mutants_reproduction import REPRODUCTION
from mutants_seeds import SEEDS
from mutants_spiking import SPIKING
from mutants_theorem import THEOREM
from mutants_training import TRAINING

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 300  # seconds for one mutant's tests; a mutant that hangs them is caught

MUTANTS = [
    *CORE,
    *CONVOLUTION,
    *CONTINUAL,
    *THEOREM,
    *TRAINING,
    *AUGMENT,
    *REPRODUCTION,
    *HARDWARE,
    *ORDER,
    *NIR,
    *SPIKING,
    *PARALLEL,
    *ACCELERATION,
    *BENCH,
    *SEEDS,
]


def text(mutant: Mutant) -> str:
    """The source to be changed, in which the mutant's text must stand just once."""
    source = (ROOT / "src/eqprop" / mutant.file).read_text()
    if source.count(mutant.old) != 1:
        raise SystemExit(f"mutant {mutant.name!r}: its text is {source.count(mutant.old)} times in {mutant.file}")
    return source


def caught(mutant: Mutant) -> tuple[bool, str]:
    """Whether the tests fail on the mutant, and the end of what they printed."""
    source = text(mutant)
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / "eqprop"
        shutil.copytree(ROOT / "src/eqprop", package, ignore=shutil.ignore_patterns("__pycache__"))
        (package / mutant.file).write_text(source.replace(mutant.old, mutant.new))
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", f"tests/{mutant.tests}"]
        environment = {**os.environ, "PYTHONPATH": folder, "PYTHONDONTWRITEBYTECODE": "1"}
        try:
            run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT)
        except subprocess.TimeoutExpired:
            return True, f"hung for {LIMIT} s"
    if run.returncode not in (0, 1):
        raise SystemExit(f"mutant {mutant.name!r}: the tests did not run:\n{run.stdout[-2000:]}{run.stderr[-2000:]}")
    last = [line for line in run.stdout.splitlines() if line.startswith("FAILED")] or run.stdout.splitlines()[-1:]
    return run.returncode == 1, last[0]


def main() -> None:
    """Run the mutants named, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="mutants to run; all if none is named")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="mutants at a time")
    args = parser.parse_args()
    chosen = [m for m in MUTANTS if not args.names or m.name in args.names]
    if not chosen or (args.names and len(chosen) != len(set(args.names))):
        parser.error(f"known mutants: {', '.join(m.name for m in MUTANTS)}")
    for mutant in chosen:
        text(mutant)  # before the first of them runs
    survivors = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for mutant, (found, last) in zip(chosen, pool.map(caught, chosen), strict=True):
            print(f"{'caught  ' if found else 'SURVIVED'}  {mutant.name}: {last}", flush=True)
            survivors += [] if found else [mutant.name]
    print(f"{len(chosen) - len(survivors)} of {len(chosen)} mutants caught")
    sys.exit(1 if survivors else 0)


if __name__ == "__main__":
    main()
