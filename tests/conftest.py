"""What holds for every test."""

import signal

# A shell has its background jobs ignore the interrupt, and they pass that on to what they start; tests send interrupts.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
