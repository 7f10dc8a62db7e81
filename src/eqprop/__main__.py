"""``python -m eqprop``."""

import os
import sys

from eqprop.cli import main

code = main()
if "TORCHELASTIC_RUN_ID" in os.environ:  # under torchrun
    # The threads by which processes talk are now and then aborted where Python takes itself down (torch 2.13), after all is done.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
sys.exit(code)
