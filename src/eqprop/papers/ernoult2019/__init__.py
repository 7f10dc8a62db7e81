"""Ernoult et al. 2019: discrete-time EP equals BPTT."""
