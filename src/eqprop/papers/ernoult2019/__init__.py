"""Ernoult et al. 2019: the updates of discrete-time EP match the gradients of BPTT."""
