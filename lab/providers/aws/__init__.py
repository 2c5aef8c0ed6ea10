"""The `aws` provider: boto3 against loopback endpoints."""
