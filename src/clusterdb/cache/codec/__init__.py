"""How values become bytes and come back: formats, compression, and the envelope around them."""

from __future__ import annotations

from .counting import addend, bounded, fits, out_of_bounds
from .custom import Codec
from .encoded import ROW, TYPED, CodecId, Encoded
from .envelope import Sealed
from .region import RegionCodec, region_codec
from .stamps import stamped, unstamped

__all__ = [
    "ROW",
    "TYPED",
    "Codec",
    "CodecId",
    "Encoded",
    "RegionCodec",
    "Sealed",
    "addend",
    "bounded",
    "fits",
    "out_of_bounds",
    "region_codec",
    "stamped",
    "unstamped",
]
