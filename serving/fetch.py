"""The init container: bring one version from the site's store, verified byte for byte, or leave nothing and say why.

Exit status: 0 laid out, 1 the store holds no such version or other bytes, 2 wrong arguments, 3 the store did not answer
before the deadline.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final, TypeVar

from serving import PackageError, ServingError, StoreUnreachableError
from serving.manifest import check_digest
from serving.repository import MODEL, PARTS, place
from serving.store import DEFAULT_REGION, Store, get_file, get_manifest

REFUSED: Final = 1
UNREACHABLE: Final = 3
_Result = TypeVar("_Result")


def fetch(store: Store, *, model: str, digest: str, part: str, into: Path, deadline_seconds: float) -> Path:
    """The folder `<into>/<part>` of a version; while the store does not answer, asked again until the deadline.

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

    manifest = patiently(lambda: get_manifest(store, model, digest))
    return place(manifest, into, part, lambda name: patiently(lambda: get_file(store, manifest, name)))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run with the arguments of the pod's manifest; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m serving.fetch", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--endpoint", default="", help="URL of the store; empty for AWS")
    parser.add_argument("--region", default=DEFAULT_REGION)
    parser.add_argument("--bucket", required=True)
    parser.add_argument("--digest", required=True, help="sha256:<64 hexadecimal digits>")
    parser.add_argument("--model", default=MODEL)
    parser.add_argument("--part", required=True, choices=PARTS)
    parser.add_argument("--into", required=True, type=Path)
    parser.add_argument("--deadline-seconds", type=float, default=120.0, help="how long an absent store is asked again")
    options = parser.parse_args(arguments)
    try:
        check_digest(options.digest)
    except PackageError as error:
        parser.error(str(error))
    store = Store(name="store", endpoint=options.endpoint, bucket=options.bucket, region=options.region)
    try:
        folder = fetch(
            store,
            model=options.model,
            digest=options.digest,
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
    print(f"{options.part} of {options.digest} verified and laid out in {folder}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
