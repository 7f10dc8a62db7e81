"""Run the command line: ``python -m eqprop``."""

import os
import sys

from eqprop.cli import main

code = main()
if "TORCHELASTIC_RUN_ID" in os.environ:  # under torchrun
    # torch 2.13 sometimes aborts gloo's threads during interpreter shutdown, after all work is done. Exit without the shutdown.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
