"""The request trace that is shipped with the package (see ``data/README.md``)."""

from __future__ import annotations

import array
import gzip
import sys
from importlib import resources
from typing import Final

__all__ = ["ATTRIBUTION", "read_trace"]

ATTRIBUTION: Final = (
    'Request trace: "orm-busy" by headissue GmbH, Jens Wilke, CC BY 4.0; '
    "cut to its first requests, keys renumbered."
)

_FILE: Final = "orm-busy-200k.u32.gz"


def read_trace() -> array.array[int]:
    """The key ids of all requests, in their order."""
    packed = resources.files("clusterdb.cache").joinpath("data", _FILE).read_bytes()
    ids = array.array("I")
    if ids.itemsize != 4:
        ids = array.array("L")
    ids.frombytes(gzip.decompress(packed))
    if sys.byteorder == "big":
        ids.byteswap()
    return ids
