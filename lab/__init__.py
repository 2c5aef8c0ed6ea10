"""A hybrid cloud on one machine; nothing in production imports it."""
