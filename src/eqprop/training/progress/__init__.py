"""Callbacks that report progress: plain lines, a progress bar, TensorBoard."""
