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
count = 0
with tempfile.TemporaryDirectory() as top:
    for count, said in enumerate(failures(options.seed, options.cases, Path(top)), start=1):
        sys.stdout.write(f"{said}\n")
        sys.stdout.flush()
sys.stdout.write(f"{count} of {options.cases} cases fail\n")
sys.exit(count > 0)
