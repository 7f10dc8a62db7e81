"""Ernoult et al. 2020: EP with continual weight updates, and untied weights."""
