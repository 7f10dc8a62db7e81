"""Beyond the papers: EP on simulated analog hardware with noise, device mismatch and few bits."""
