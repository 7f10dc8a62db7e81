"""Vinayak and Srinivasan 2025: EP in a residual network of 13 layers."""
