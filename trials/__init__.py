"""Drills tried on themselves: each has to hold, deviate and refuse when it should, and its undo to outlive its host."""
