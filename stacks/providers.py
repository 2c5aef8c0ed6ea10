"""The cloud account a stack talks to: which endpoints, as whom, under which tags."""

from __future__ import annotations

import pulumi
import pulumi_aws as aws

from infra.settings import AwsSettings
from stacks.contract import StackName


def cloud(stack: StackName, settings: AwsSettings) -> aws.Provider:
    """AWS, or what answers at the endpoints the settings name; everything is tagged with the stack."""
    # An endpoint of our own has no AWS account behind it to ask for identity or metadata.
    own = bool(settings.aws_endpoints)
    return aws.Provider(
        "aws",
        region=settings.region,
        endpoints=[aws.ProviderEndpointArgs(**settings.aws_endpoints)] if own else None,
        access_key=pulumi.Output.secret(settings.access_key) if settings.access_key else None,
        secret_key=pulumi.Output.secret(settings.secret_key) if settings.secret_key else None,
        s3_use_path_style=own,
        skip_credentials_validation=own,
        skip_metadata_api_check=own,
        skip_region_validation=own,
        skip_requesting_account_id=own,
        default_tags=aws.ProviderDefaultTagsArgs(tags={"tandem.io/stack": str(stack)}),
    )
