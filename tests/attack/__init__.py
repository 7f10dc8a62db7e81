"""Random hostile uses with a fixed seed: command lines, damaged folders, calls of the API.

``PYTHONPATH=src:tests python -m attack --seed 5 --cases 10000`` tries more than the test does.
"""
