import pytest
import torch


@pytest.fixture(autouse=True)
def _reproducible():
    """Every test draws the same numbers whatever ran before it, and the tiny networks run on one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
