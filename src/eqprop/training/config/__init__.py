"""Configuration of a training: frozen dataclasses and their JSON form."""
