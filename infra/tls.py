"""The certificate a site's gateways show, and who keeps it fresh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import pulumi
from pulumi import Input, Output, ResourceOptions
from pulumi_kubernetes.apiextensions import CustomResource
from pulumi_kubernetes.meta.v1 import ObjectMetaArgs

from infra import naming

NAME: Final = "gateway-tls"
LIFE_HOURS: Final = 90 * 24
RENEWAL_HOURS: Final = 30 * 24
"""So long before its end there is a new one; an alert has to fire well inside of that."""


@dataclass(frozen=True, kw_only=True)
class ServerCertificateArgs:
    """For which names, issued by whom."""

    site: str
    namespace: Input[str]
    issuer: str
    """A ClusterIssuer of cert-manager."""
    names: tuple[str, ...]


class ServerCertificate(pulumi.ComponentResource):
    """A key that never leaves its cluster, and a certificate for it that is renewed long before it ends."""

    secret: Output[str]

    def __init__(self, name: str, args: ServerCertificateArgs, opts: ResourceOptions | None = None) -> None:
        super().__init__("tandem:tls:ServerCertificate", name, {}, opts)
        certificate = CustomResource(
            name,
            api_version="cert-manager.io/v1",
            kind="Certificate",
            metadata=ObjectMetaArgs(name=NAME, namespace=args.namespace, labels=naming.labels(args.site, "tls")),
            spec={
                "secretName": NAME,
                "dnsNames": list(args.names),
                "issuerRef": {"group": "cert-manager.io", "kind": "ClusterIssuer", "name": args.issuer},
                "duration": f"{LIFE_HOURS}h",
                "renewBefore": f"{RENEWAL_HOURS}h",
                "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
                "usages": ["digital signature", "server auth"],
            },
            opts=ResourceOptions(parent=self),
        )
        self.secret = certificate.id.apply(lambda _: NAME)
        self.register_outputs({"secret": self.secret})
