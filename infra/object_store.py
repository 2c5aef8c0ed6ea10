"""What the object stores a site may have can do beyond keeping objects.

Ceph's RGW takes bucket policies with aws:SecureTransport and the encryption keys of PutObject
(https://docs.ceph.com/en/latest/radosgw/bucketpolicy/), versioning, object lock and lifecycles
(https://docs.ceph.com/en/latest/radosgw/s3/) and, since Octopus, the public access block
(https://github.com/ceph/ceph/pull/30033). Ownership controls came so late
(https://github.com/ceph/ceph/pull/64152) that none are declared there; ACLs are blocked in any case. It has no KMS of
AWS's kind: AES256 asks it for keys of its own, for which the operator sets
`rgw_crypt_sse_s3_backend` (https://docs.ceph.com/en/latest/radosgw/encryption/). Cheaper storage classes are the
placement's, and replication goes between the zones of a multisite only
(https://docs.ceph.com/en/latest/radosgw/multisite/), which the operator sets up: neither is declared here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, kw_only=True)
class StoreKind:
    """What may be declared of a bucket in this kind of store."""

    name: str
    own_keys: bool
    """Whether a key service beside it keeps a key for each bucket."""
    ownership_controls: bool
    cold_class: str
    """Storage class for what is seldom read; empty for none."""
    replicates: bool
    """Whether a bucket may be told to copy itself to another region."""


AWS: Final = StoreKind(name="aws", own_keys=True, ownership_controls=True, cold_class="STANDARD_IA", replicates=True)
CEPH: Final = StoreKind(name="ceph", own_keys=False, ownership_controls=False, cold_class="", replicates=False)
"""Also for any other S3 that does what RGW does."""
KINDS: Final[Mapping[str, StoreKind]] = {kind.name: kind for kind in (AWS, CEPH)}
COLD_DAYS_LEAST: Final = 30
"""Before that, S3 moves nothing to its cheaper class for seldom reads
(https://docs.aws.amazon.com/AmazonS3/latest/userguide/lifecycle-transition-general-considerations.html)."""
