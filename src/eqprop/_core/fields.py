"""Keys of dataclass metadata that control how a field is written to configuration files."""

__all__ = ["LATER", "LOCAL"]

LOCAL = "local"
"""Marks a field that belongs to one machine, such as a path. It is never written."""

LATER = "later"
"""Marks a field that was added when files without it existed. It is not written while it has its default value, so that an
unchanged object still gives the same text."""
