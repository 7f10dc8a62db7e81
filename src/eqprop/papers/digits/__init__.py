"""The demo recipe on 8x8 digits."""
