"""What must be readable when other things are not: marks, a lock, snapshots, drills' tokens; in every site's store.

Objects of a signal bucket:

    drain/<site>, drain/<site>.shadow   a mark that keeps users away from a site
    locks/environment                   who works on the environment at this moment
    snapshots/outputs.json              outputs of all stacks, signed
    state/<stack>.json                  the state of a stack, signed, its secrets encrypted by its engine
    drills/arming/<id>                  a drill's token: who armed it, until when, and who agreed

Errors of this room:

    SignalError
    ├── StoreUnreachableError   a store that did not answer; what lies in it is not known
    ├── NoBucketError           a store that answers and has no such bucket: not made yet, or gone
    ├── ChangedError            an object that is no longer what its writer believed
    ├── LockedError             somebody else works on the environment
    └── SnapshotError           a signed document that cannot be read or must not be believed
"""


class SignalError(Exception):
    """Something in signals/ could not be done; the message gives value, rule and remedy."""


class StoreUnreachableError(SignalError):
    """A store that did not answer; what lies in it is not known."""


class NoBucketError(SignalError):
    """A store that answers and has no such bucket: not made yet, or gone."""


class ChangedError(SignalError):
    """An object that is no longer what its writer believed."""


class LockedError(SignalError):
    """Somebody else works on the environment."""


class SnapshotError(SignalError):
    """A signed document that cannot be read or must not be believed."""
