"""Programs: choose, wire, export."""
