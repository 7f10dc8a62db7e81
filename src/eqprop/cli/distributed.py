"""Run one command in the processes that torchrun started."""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout

from eqprop.cli.errors import ReportedElsewhereError, describe
from eqprop.training.distributed.gloo import joined
from eqprop.training.distributed.processes import Processes

__all__ = ["join_processes"]


@contextmanager
def join_processes() -> Iterator[Processes]:
    """Yield the processes of this command, usually one; only rank 0 prints.

    Raises:
        ReportedElsewhereError: in place of an error that another process reports.
    """
    with joined() as processes:
        try:
            if processes.is_rank0:
                yield processes
            else:
                warnings.simplefilter("ignore")  # `eqprop.cli.main` restores the filters
                with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
                    yield processes
        except Exception as error:
            if processes.should_report():
                raise
            raise ReportedElsewhereError(describe(error)[1] or 1) from error
