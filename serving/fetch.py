"""The init container: bring versions from the site's store, verified byte for byte, or leave nothing and say why.

One version lies in `<into>/<part>` itself. Several, which a gateway accepts during a rollout, lie there in a folder
each, named by the 64 digits of its digest.

Exit status: 0 laid out, 1 the store holds no such version or other bytes, 2 wrong arguments, 3 the store did not answer
before the deadline.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeVar

from serving import PackageError, ServingError, StoreUnreachableError
from serving.manifest import Manifest, check_digest
from serving.repository import MODEL, PARTS, place, place_several
from serving.store import DEFAULT_REGION, Store, get_file, get_manifest

REFUSED: Final = 1
UNREACHABLE: Final = 3
_Result = TypeVar("_Result")


def fetch(store: Store, *, model: str, digests: Sequence[str], part: str, into: Path, deadline_seconds: float) -> Path:
    """The folder `<into>/<part>` of these versions; while the store does not answer, asked again until the deadline.

    Raises StoreUnreachableError after the deadline, StoreError and PackageError at once.
    """
    deadline = time.monotonic() + deadline_seconds

    def patiently(call: Callable[[], _Result]) -> _Result:
        pause = 0.25
        while True:
            try:
                return call()
            except StoreUnreachableError as error:
                left = deadline - time.monotonic()
                if left <= 0:
                    raise
                print(f"{error}; asking again for {left:.0f} s", file=sys.stderr, flush=True)
                time.sleep(min(pause, left))
                pause = min(pause * 2, 4.0)

    def read(manifest: Manifest, name: str) -> bytes:
        return patiently(lambda: get_file(store, manifest, name))

    manifests = [patiently(partial(get_manifest, store, model, digest)) for digest in digests]
    if len(manifests) == 1:
        return place(manifests[0], into, part, partial(read, manifests[0]))
    return place_several(manifests, into, part, read)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the arguments of the pod's manifest; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serving.fetch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--endpoint", default="", help="URL of the store; empty for AWS")
    parser.add_argument("--region", default=DEFAULT_REGION)
    parser.add_argument("--bucket", required=True)
    parser.add_argument(
        "--digest",
        required=True,
        action="append",
        dest="digests",
        help="sha256:<64 hexadecimal digits>; may be given several times for the reference",
    )
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--into", required=True, type=Path)
    parser.add_argument("--deadline-seconds", type=float, default=120.0, help="how long an absent store is asked again")
    options = parser.parse_args(arguments)
    try:
        for digest in options.digests:
            check_digest(digest)
        if len(set(options.digests)) < len(options.digests):
            raise PackageError("--digest: one digest is given twice; give each accepted version once")
        if len(options.digests) > 1 and options.part != "reference":
            raise PackageError(f"--part {options.part}: holds one version; give one digest")
    except PackageError as error:
        parser.error(str(error))
    store = Store(name="store", endpoint=options.endpoint, bucket=options.bucket, region=options.region)
    try:
        folder = fetch(
            store,
            model=options.model,
            digests=options.digests,
            part=options.part,
            into=options.into,
            deadline_seconds=options.deadline_seconds,
        )
    except ServingError as error:
        print(f"fetch failed: {error}", file=sys.stderr, flush=True)
        return UNREACHABLE if isinstance(error, StoreUnreachableError) else REFUSED
    except OSError as error:
        print(f"fetch failed: {options.into}: cannot be written ({error})", file=sys.stderr, flush=True)
        return REFUSED
    print(f"{options.part} of {', '.join(options.digests)} verified and laid out in {folder}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
