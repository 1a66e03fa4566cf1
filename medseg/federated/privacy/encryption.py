"""Updates that the server adds up without being able to read them: CKKS (Cheon et al. 2017), by tenseal on SEAL.

Who holds what: the sites share one secret key, which the server never gets. So the server, and whoever breaks into it,
reads no update and not even their sum; but any site could read another site's update if the server handed it over. It
protects from the server alone, and with two sites each can subtract its own update from the sum.

The server only adds. Weighing happens before encryption: a site sends its update times its share, and all divide the sum
by the sum of the shares. So no multiplication is needed, and the smallest ring that SEAL calls 128-bit secure will do:
2048 numbers a ciphertext, one modulus of 54 bits and one of 54 for keys, scale 2^40. Numbers are exact to about 1e-9 and
their sums must stay below 2^12 (the modulus leaves 13 bits beside the scale, one for the sign).
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import numpy as np

from medseg.errors import InputError, MissingExtraError

if TYPE_CHECKING:
    from collections.abc import Sequence

#: Numbers in one ciphertext: half the degree of the ring.
SLOTS = 2048
#: Numbers that are encrypted must be smaller, so that sums of up to 64 sites stay below `2^12`.
LARGEST = 64.0
_DEGREE, _MODULI, _SCALE = 2 * SLOTS, (54, 54), 2.0**40


class EncryptionError(InputError):
    """Numbers that cannot be encrypted, added or decrypted."""


@dataclass(frozen=True)
class Keys:
    """Two sides of one key.

    Args:
        sites: with the secret; every site has it and nobody else.
        server: without the secret; enough to add.
    """

    sites: bytes
    server: bytes


def make_keys() -> Keys:
    """New keys, from the operating system's randomness.

    Raises:
        MissingExtraError: MS-J102 tenseal is not installed.
    """
    ts = _tenseal()
    context = ts.context(
        ts.SCHEME_TYPE.CKKS,
        poly_modulus_degree=_DEGREE,
        coeff_mod_bit_sizes=list(_MODULI),
        encryption_type=ts.ENCRYPTION_TYPE.SYMMETRIC,
    )
    context.global_scale = _SCALE
    nothing = {"save_public_key": False, "save_galois_keys": False, "save_relin_keys": False}
    return Keys(
        sites=context.serialize(save_secret_key=True, **nothing),
        server=context.serialize(save_secret_key=False, **nothing),
    )


def encrypted(values: np.ndarray, key: bytes) -> list[bytes]:
    """Ciphertexts of a vector, each of `SLOTS` numbers, the last padded with zeros so that all look alike.

    Args:
        values: (n,) finite, below `LARGEST`.
        key: of the sites.

    Raises:
        EncryptionError: MS-J140 numbers that are too large, not finite, or none; MS-J141 a key without the secret.
    """
    ts = _tenseal()
    flat = np.asarray(values, np.float64).reshape(-1)
    if not flat.size or not np.isfinite(flat).all() or np.abs(flat).max() >= LARGEST:
        what = f"only finite numbers below {LARGEST:g} can be encrypted"
        raise EncryptionError("MS-J140", what, mend="train with a smaller learning rate, or without encryption")
    context = _private(key)
    padded = np.zeros(-(-flat.size // SLOTS) * SLOTS)
    padded[: flat.size] = flat
    return [ts.ckks_vector(context, row.tolist()).serialize() for row in padded.reshape(-1, SLOTS)]


def added(parts: Sequence[Sequence[bytes]], key: bytes) -> list[bytes]:
    """The sum of several sites' ciphertexts, still encrypted; what the server does.

    Args:
        parts: of each site, in the order of the vector.
        key: of the server, or of the sites.

    Raises:
        EncryptionError: MS-J142 parts of different lengths, or what is no ciphertext of this key and scale.
    """
    if not parts or len({len(part) for part in parts}) != 1 or not parts[0]:
        raise EncryptionError("MS-J142", "the sites' ciphertexts are not of one length", mend=_MEND)
    context = _context(key)
    return [_sum([_vector(chunk, context) for chunk in chunks]) for chunks in zip(*parts, strict=True)]


def decrypted(chunks: Sequence[bytes], key: bytes, length: int) -> np.ndarray:
    """(length,) float64 of ciphertexts; needs the sites' key.

    Raises:
        EncryptionError: MS-J141 a key without the secret, MS-J142 what is no ciphertext of this key.
    """
    context = _private(key)
    if len(chunks) != -(-length // SLOTS):
        raise EncryptionError("MS-J142", f"{len(chunks)} ciphertexts for {length} numbers", mend=_MEND)
    return np.concatenate([np.asarray(_vector(chunk, context).decrypt()) for chunk in chunks])[:length]


_MEND = "use the same medseg and the same keys at all sites and at the server"


def _sum(vectors: Sequence[Any]) -> bytes:
    try:
        total = vectors[0]
        for vector in vectors[1:]:
            total = total + vector
        return total.serialize()
    except (ValueError, RuntimeError, TypeError) as error:
        raise EncryptionError("MS-J142", f"the ciphertexts cannot be added ({error})", mend=_MEND) from error


def _vector(chunk: bytes, context: Any) -> Any:
    try:
        found = _tenseal().ckks_vector_from(context, bytes(chunk))
        if found.size() != SLOTS:
            msg = f"{found.size()} numbers"
            raise ValueError(msg)
        scales = [one.scale for one in found.ciphertext()]
        if scales != [_SCALE]:  # SEAL adds equal scales alone, and tells only when it is to add
            msg = f"scales {scales[:3]}"
            raise ValueError(msg)
    except (ValueError, RuntimeError, TypeError) as error:
        raise EncryptionError("MS-J142", "what came is no ciphertext of this key and scale", mend=_MEND) from error
    return found


def require_key(key: bytes) -> None:
    """Let only a key of the sites pass.

    Raises:
        EncryptionError: MS-J141 it is the server's, or none.
        MissingExtraError: MS-J102 tenseal is not installed.
    """
    _private(key)


def _private(key: bytes) -> Any:
    context = _context(key)
    if not context.is_private():
        what = "this key can neither encrypt nor decrypt: it is the server's"
        raise EncryptionError("MS-J141", what, mend="use the sites' key")
    return context


def _context(key: bytes) -> Any:
    try:
        return _tenseal().context_from(key)
    except (ValueError, RuntimeError, TypeError) as error:
        raise EncryptionError("MS-J141", "this is no key", mend="make new ones for all sites and the server") from error


def _tenseal() -> Any:
    if find_spec("tenseal") is None:
        what = "encrypted updates need tenseal, which is not installed"
        raise MissingExtraError("MS-J102", what, mend='type: pip install "medseg[encrypted]"')
    import tenseal

    return tenseal
