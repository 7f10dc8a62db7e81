"""Vinayak and Srinivasan 2025: a residual network of 13 layers."""
