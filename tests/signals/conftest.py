"""Stores of two sites for every test of signals."""

from tests.signals.signal_stage import server, stores

__all__ = ["server", "stores"]
