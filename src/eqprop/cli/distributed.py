"""A command in several processes that torchrun started: the first one talks, and one tells why all of them end."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

from eqprop.cli.errors import ReportedElsewhere, failure
from eqprop.training.distributed.gloo import joined
from eqprop.training.distributed.processes import Processes

__all__ = ["together"]


@contextmanager
def together() -> Iterator[Processes]:
    """The processes of this command, usually one; all but the first say nothing.

    Raises:
        Told: in the place of an error, if another process tells it, or what came of it there.
    """
    with joined() as processes:
        try:
            if processes.is_rank0:
                yield processes
            else:
                warnings.simplefilter("ignore")  # `eqprop.cli.main` puts the filters back
                with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere):
                    yield processes
        except Exception as error:
            if processes.should_report():
                raise
            raise ReportedElsewhere(failure(error)[1] or 1) from error
