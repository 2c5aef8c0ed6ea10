"""The `kubernetes` provider: plain HTTP against loopback API servers."""
