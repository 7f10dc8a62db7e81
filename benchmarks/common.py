"""Options and the JSON file that all benchmarks share."""

import argparse
import json
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from eqprop.training.environment import environment


def make_parser(text: str, *, threads: int = 1, repeats: int = 9) -> argparse.ArgumentParser:
    """Return a parser with the options that all benchmarks share."""
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=threads, help="CPU threads")
    parser.add_argument("--repeats", type=int, default=repeats, help="timed rounds")
    parser.add_argument("--json", type=Path, help="file for the results")
    return parser


def write_json(path: Path | None, rows: Sequence[dict[str, Any]]) -> None:
    """Write the command, the environment and the rows."""
    if path:
        words = shlex.join(["python", f"benchmarks/{Path(sys.argv[0]).name}", *sys.argv[1:]])
        report = {"command": words, "environment": environment(), "rows": rows}
        path.write_text(json.dumps(report, indent=2) + "\n")
