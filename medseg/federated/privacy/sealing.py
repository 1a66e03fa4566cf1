"""Weights under encryption, as they travel: what a site seals, the server adds up, and the sites open.

A site sends its weights times its share; the server adds ciphertexts and keeps the sum, which is the next global state
before it was divided by the sum of the shares. So every message is whole: a site that missed rounds needs no other one.
Not differences: their sum could only be opened by who was there in every round before.

A sealed table is two plain tensors, like a packed update: `CIPHERTEXTS` (n,) uint8, all end to end, and `LENGTHS` (m,)
int32, their bytes. Beside it stand in the meta `SHARE`, by which the numbers inside have to be divided, and `KEY`, which
says by a digest which key they belong to: another one would open them to noise, and nobody would know.
"""

from __future__ import annotations

import hashlib
import math
from typing import TYPE_CHECKING, Any, NoReturn

import torch

from medseg.federated.privacy.encryption import SLOTS, EncryptionError, added, decrypted, encrypted, make_keys
from medseg.federated.privacy.packing import flatten, split

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from torch import Tensor

#: The sites' key, in `local/` of each site.
KEY_FILE = "medseg_sites.key"
#: Names of the two tensors.
CIPHERTEXTS, LENGTHS = "medseg_ciphertexts", "medseg_lengths"
#: Keys of a DXO's meta, up and down.
SHARE, KEY = "medseg_share", "medseg_key"
#: Keys of a DXO's meta, down: by what a site multiplies before it seals, `share_of`.
PER_CASE, MOST = "medseg_per_case", "medseg_most"
_MEND = "use the same medseg and the same key at all sites"


def read_key(path: Path) -> bytes:
    """A site's key.

    Raises:
        EncryptionError: MS-J143 there is none.
    """
    try:
        return path.read_bytes()
    except OSError as error:
        mend = f"put the key that all sites share into local/{KEY_FILE} of this site's kit"
        raise EncryptionError("MS-J143", "this site has no key to encrypt with", file=path, mend=mend) from error


def key_id(key: bytes) -> str:
    """16 hexadecimal digits that tell keys apart, and nothing else of them."""
    return hashlib.sha256(b"medseg: which key is this\0" + key).hexdigest()[:16]


def sealed(weights: Mapping[str, Tensor], share: float, key: bytes) -> dict[str, Tensor]:
    """Weights times a share, encrypted.

    Args:
        weights: name -> any shape; their order does not matter.
        share: in (0, 1].
        key: of the sites.

    Raises:
        EncryptionError: MS-J140 numbers that are too large or not finite, MS-J141 no key of the sites.
        MissingExtraError: MS-J102 tenseal is not installed.
    """
    flat, _ = flatten(weights)
    return _table(encrypted(flat.double().numpy() * share, key))


def opened(
    table: Mapping[str, Any], share: float, layout: Sequence[tuple[str, tuple[int, ...]]], key: bytes
) -> dict[str, Tensor]:
    """The weights behind a sealed table or a sum of them, float32.

    Args:
        table: as it came.
        share: by which they are divided: of the one, or the sum of all.
        layout: `packing.layout_of`, in the order of the names.
        key: of the sites.

    Raises:
        EncryptionError: MS-J141 no key of the sites, MS-J142 no ciphertexts of this key, MS-J146 no sealed table.
    """
    total = sum(math.prod(shape) for _, shape in layout)
    chunks = checked(table, total)
    if not (isinstance(share, float) and math.isfinite(share) and share > 0):
        _refuse(f"a share of {share!r}")
    flat = torch.from_numpy(decrypted(chunks, key, total) / share)
    return {name: value.float() for name, value in split(flat, layout).items()}


def sum_of(tables: Sequence[Mapping[str, Any]], total: int) -> dict[str, Tensor]:
    """The sum of sealed tables, still sealed: what a server does that has no key.

    Adding needs the ring's numbers alone, and those are the same everywhere: a key without a secret, made on the spot and
    thrown away, holds them.

    Args:
        tables: of the sites.
        total: numbers in each.

    Raises:
        EncryptionError: MS-J142 no ciphertexts, MS-J146 no sealed tables of so many numbers.
        MissingExtraError: MS-J102 tenseal is not installed.
    """
    return _table(added([checked(table, total) for table in tables], make_keys().server))


def checked(table: Mapping[str, Any], total: int) -> list[bytes]:
    """The ciphertexts of a table that says it holds so many numbers; what can be seen from outside.

    Raises:
        EncryptionError: MS-J146 other names, types, or another number of ciphertexts.
    """
    if set(table) != {CIPHERTEXTS, LENGTHS}:
        _refuse(f"entries {', '.join(sorted(map(str, table))[:3]) or 'none'}")
    data, lengths = table[CIPHERTEXTS], table[LENGTHS]
    if not isinstance(data, torch.Tensor) or not isinstance(lengths, torch.Tensor):
        _refuse("no tensors")
    if (data.dtype, lengths.dtype, data.ndim, lengths.ndim) != (torch.uint8, torch.int32, 1, 1):
        _refuse(f"{data.dtype} of {data.ndim} and {lengths.dtype} of {lengths.ndim} axes")
    sizes = lengths.tolist()
    if len(sizes) != math.ceil(total / SLOTS) or min(sizes, default=0) < 1 or sum(sizes) != len(data):
        _refuse(f"{len(sizes)} ciphertexts for {total} numbers, or not as long as it says")
    found, at = [], 0
    raw = data.numpy().tobytes()
    for size in sizes:
        found.append(raw[at : at + size])
        at += size
    return found


def require_ciphertexts(table: Mapping[str, Any], total: int) -> None:
    """Let only a table pass that could be added to others of this training; errors as for `sum_of`."""
    sum_of([table], total)


def share_of(cases: int, per_case: float, most: float) -> float:
    """A site's share by what the server asks: so much for each case, but no more than `most` (`aggregation.weighing`).

    Raises:
        EncryptionError: MS-J146 the server asks for what is no share.
    """
    share = min(most, per_case * cases) if _number(per_case) and _number(most) else math.nan
    if not 0 < share <= 1:
        _refuse(f"a share of {share!r}")
    return share


def _number(value: Any) -> bool:
    return isinstance(value, float) and not math.isnan(value)


def _table(chunks: Sequence[bytes]) -> dict[str, Tensor]:
    data = torch.frombuffer(bytearray(b"".join(chunks)), dtype=torch.uint8)
    return {CIPHERTEXTS: data, LENGTHS: torch.tensor([len(one) for one in chunks], dtype=torch.int32)}


def _refuse(what: str) -> NoReturn:
    raise EncryptionError("MS-J146", f"what came is no encrypted update of this training ({what})", mend=_MEND)
