"""Requests to the site's own store as whom the pod is: by a key from a Secret, or an identity its node's agent knows.

Of all the places where an SDK looks for credentials only these two are a pod's own; the machine's identity is not.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import ContainerProvider, CredentialResolver, Credentials, EnvProvider
from botocore.exceptions import BotoCoreError

from serving import ServingError

KEY: Final = "AWS_ACCESS_KEY_ID"
AGENT: Final = ("AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI")
"""What EKS Pod Identity puts into a pod (https://docs.aws.amazon.com/eks/latest/userguide/pod-id-how-it-works.html)."""


class CredentialsError(ServingError):
    """Credentials the pod should have and does not get."""


class Signer:
    """Signs what is asked of the store; credentials that end are fetched anew."""

    def __init__(self, region: str, environment: Mapping[str, str]) -> None:
        self._region = region
        self._given = CredentialResolver([EnvProvider(environment), ContainerProvider(environment)])
        self._credentials: Credentials | None = None
        self._asking = threading.Lock()

    def headers(self, url: str) -> dict[str, str]:
        """What a GET of `url` says of who asks. Blocks while an agent is asked. Raises CredentialsError."""
        # Whoever asks has a deadline and comes again: one thread at a time waits for an agent that is silent.
        if not self._asking.acquire(blocking=False):
            raise CredentialsError("the pod's credentials have not come yet")
        try:
            return self._signed(url)
        finally:
            self._asking.release()

    def _signed(self, url: str) -> dict[str, str]:
        request = AWSRequest("GET", url, headers={"Host": urlsplit(url).netloc})
        try:
            if self._credentials is None:
                self._credentials = self._given.load_credentials()
            if self._credentials is None:
                raise CredentialsError(f"{KEY} is empty and no agent is named; see the pod's Secret or its identity")
            S3SigV4Auth(self._credentials.get_frozen_credentials(), "s3", self._region).add_auth(request)
        except (BotoCoreError, OSError, ValueError) as error:
            raise CredentialsError(f"the pod's credentials cannot be had: {error}") from error
        return dict(request.headers.items())


def signer(region: str, environment: Mapping[str, str]) -> Signer | None:
    """Who signs for this pod; None where it is given nothing to sign with, and the store is asked openly."""
    if not region or not any(environment.get(name) for name in (KEY, *AGENT)):
        return None
    return Signer(region, environment)
