"""Helpers that every part of the package shares: argument checks, files, precision, memory layout, states."""
