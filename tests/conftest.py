"""What holds for every test."""

import signal
import sys

import pytest

# A shell has its background jobs ignore the interrupt, and they pass that on to what they start; tests send interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="module", autouse=True)
def empty_account() -> None:
    """moto keeps one account for the whole process: a module finds nothing of what an earlier one made."""
    if moto := sys.modules.get("moto.moto_api._internal.models"):
        moto.moto_api_backend.reset()
