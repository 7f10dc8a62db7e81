"""Scellier et al. 2023: deep convolutional Hopfield networks."""
