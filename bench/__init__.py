"""Measurements of this house against limits it sets itself; every figure a ratio from one run."""
