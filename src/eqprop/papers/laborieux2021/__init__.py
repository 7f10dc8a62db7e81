"""Laborieux et al. 2021: EP scaled to deep convolutional networks."""
