"""Run a number of cases and print what fails."""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from attack.runner import failures

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--seed", type=int, default=0)
parser.add_argument("--cases", type=int, default=1000)
options = parser.parse_args()
os.environ["EQPROP_OFFLINE"] = "1"
found = 0
with tempfile.TemporaryDirectory() as top:
    for said in failures(options.seed, options.cases, Path(top)):
        found += 1
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()
sys.stdout.write(f"{found} of {options.cases} cases fail\n")
sys.exit(found > 0)
