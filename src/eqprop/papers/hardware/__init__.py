"""Analog imperfections: noise, device mismatch, few bits."""
