"""The one exception of this package that is not Python's own."""

__all__ = ["DataError"]


class DataError(RuntimeError):
    """A data file is damaged, or could not be downloaded, unpacked, read or written; the text says which, why and what to do."""
