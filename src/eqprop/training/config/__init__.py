"""Frozen choices that decide a training, and their JSON form."""
