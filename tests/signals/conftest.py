"""Stores of two sites for every test of signals."""

from tests.signals.bench import server, stores

__all__ = ["server", "stores"]
