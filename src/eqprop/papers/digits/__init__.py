"""The demo: 8x8 digits that ship with the package."""
