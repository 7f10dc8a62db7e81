"""Reproducing a paper: its rows, the records that answer them, and the report."""
