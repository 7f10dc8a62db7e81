"""Versions and hardware of a run, without host name, user or path."""

import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

from eqprop.version import __version__

__all__ = ["environment"]


def environment(device: torch.device | str = "cpu", processes: int = 1) -> dict[str, str | int | None]:
    """Return versions, CPU, cores, processes, threads per process, GPU (None on the CPU) and commit (None outside a checkout)."""
    device = torch.device(device)
    return {
        "eqprop": __version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": _cpu_model(),
        "cores": os.cpu_count(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def _commit() -> str | None:
    """Return the commit of the code, with ``-dirty`` if files have changed."""
    here = Path(__file__).parent
    try:
        described = subprocess.run(
            ["git", "--no-optional-locks", "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"],
            cwd=here, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        tracked = subprocess.run(
            ["git", "ls-files", "--error-unmatch", Path(__file__).name],
            cwd=here,
            capture_output=True,
            timeout=10,
            check=False,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return (
        described.stdout.strip() or None if tracked.returncode == 0 else None
    )  # not the commit of an enclosing repository
