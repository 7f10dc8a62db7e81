"""What a run ran on: versions and hardware, and never a host name, a user or a path."""

import os
import platform
import subprocess
from pathlib import Path

import numpy as np
import torch

from eqprop.version import __version__

__all__ = ["environment"]


def environment(device: torch.device | str = "cpu", processes: int = 1) -> dict[str, str | int | None]:
    """Versions, processor, cores, processes and the threads of each, GPU (None on the CPU), commit (None outside a checkout)."""
    device = torch.device(device)
    return {
        "eqprop": __version__,
        "commit": commit(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "system": f"{platform.system()} {platform.machine()}",
        "cpu": processor(),
        "cores": os.cpu_count(),
        "processes": processes,
        "threads": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name(device) if device.type == "cuda" else None,
    }


def processor() -> str:
    """The processor's model, as far as the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or "unknown"


def commit() -> str | None:
    """The commit that the code is at, with ``-dirty`` if it was changed since."""
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
    return described.stdout.strip() or None if tracked.returncode == 0 else None  # not that of a repository around it
