"""Pulumi components: what can be declared. Knows no environment, no stack, no drill, no lab."""
