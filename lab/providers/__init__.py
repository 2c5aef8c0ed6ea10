"""The `aws` and `kubernetes` resource providers over Pulumi's plugin protocol, for the lab only.

    python -m lab.providers --home $TANDEM_HOME

Closed world: what is not implemented is an error that names the resource, never a silent success.
"""
