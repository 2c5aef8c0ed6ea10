"""A small Kubernetes API server: one store of objects, one watch bus, one HTTP application."""
