"""What is said of a frozen choice's field beside its type: whether a file has it."""

__all__ = ["LATER", "LOCAL"]

LOCAL = "local"
"""Metadata key of a field that belongs to one machine (a path) and is left out of files."""

LATER = "later"
"""Metadata key of a field that came when there were files without it: at its default it is left out of them still, so that what
was written then and what is written now is the same text for the same object."""
