"""The cloud account a stack talks to: which endpoints, as whom, under which tags."""

from __future__ import annotations

from collections.abc import Mapping

import pulumi
import pulumi_aws as aws

from infra.settings import AwsSettings
from stacks.contract import StackName


def cloud(
    stack: StackName,
    settings: AwsSettings,
    after: pulumi.Output[None] | None = None,
    region: str = "",
    endpoints: Mapping[str, str] | None = None,
    role: str = "",
    profile: str = "",
) -> aws.Provider:
    """AWS, or what answers at the endpoints the settings name; everything is tagged with the stack.

    It speaks to the settings' region and endpoints, or to `region` and `endpoints` for what is not there, as `role` for
    what another account holds. Without a key in the settings `profile` says who asks: one of this machine's own.

    A check that needs other stacks' outputs goes `after`: until it has passed there is no provider, and so no resource.
    """
    # An endpoint of our own has no AWS account behind it to ask for identity or metadata.
    named = settings.aws_endpoints if endpoints is None else endpoints
    own = bool(named)
    other = bool(region) and region != settings.region
    chosen = region or settings.region
    name = f"aws-{region}" if other else "aws"
    return aws.Provider(
        f"{name}-other-account" if role else name,
        region=chosen if after is None else after.apply(lambda _: chosen),
        endpoints=[aws.ProviderEndpointArgs(**named)] if own else None,
        access_key=pulumi.Output.secret(settings.access_key) if settings.access_key else None,
        secret_key=pulumi.Output.secret(settings.secret_key) if settings.secret_key else None,
        profile=profile if profile and not settings.access_key else None,
        assume_roles=[aws.ProviderAssumeRoleArgs(role_arn=role, session_name="tandem")] if role else None,
        s3_use_path_style=own,
        skip_credentials_validation=own,
        skip_metadata_api_check=own,
        skip_region_validation=own,
        skip_requesting_account_id=own,
        default_tags=aws.ProviderDefaultTagsArgs(tags={"tandem.io/stack": str(stack)}),
    )
