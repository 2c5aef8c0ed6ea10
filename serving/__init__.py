"""The recommender: trained, packaged, published, fetched and served. Imports torch only where it trains.

Errors of this room:

    ServingError
    ├── DataError                  a data folder that cannot be read as behaviour
    ├── PackageError               a model package that is not what its manifest or its digest says
    ├── ParityError                an exported model that does not rank as the trained one
    └── StoreError                 an object store that refused, lost or changed something
        └── StoreUnreachableError  a store that did not answer at all
"""


class ServingError(Exception):
    """Something in serving/ broke its promise; the message gives value, rule and remedy."""


class DataError(ServingError):
    """A data folder that cannot be read as behaviour."""


class PackageError(ServingError):
    """A model package that is not what its manifest or its digest says."""


class ParityError(ServingError):
    """An exported model that does not rank as the trained one."""


class StoreError(ServingError):
    """An object store that refused, lost or changed something."""


class StoreUnreachableError(StoreError):
    """An object store that did not answer at all."""
