"""The embedded engine: runs the Pulumi programs of this house against the lab where no Pulumi CLI is installed.

It speaks the engine's side of Pulumi's wire protocol to the program and the plugin protocol to the providers.
It knows up, preview, destroy and outputs, and records a state that was exported; everything else it refuses.
It talks to loopback only.
"""
