"""Ernoult et al. 2020: continual EP and untied weights."""
