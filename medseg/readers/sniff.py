"""What a file is, by its first bytes: names lie, magic numbers rarely do."""

from __future__ import annotations

import errno
import os
import re
import stat
import struct
import zlib
from typing import TYPE_CHECKING, NoReturn

from medseg.errors import InputError

if TYPE_CHECKING:
    from pathlib import Path

#: Bytes that are looked at: NIfTI-2 keeps its header in 540, DICOM its magic at 128.
_HEAD = 1024

#: Kinds that medseg reads, as `sniff` names them.
IMAGES = frozenset({"nifti", "nifti-pair", "gzip-nifti", "gzip-nifti-pair", "nrrd", "metaimage", "dicom"})

_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"NRRD00", "nrrd"),
    (b"version https://git-lfs", "git-lfs"),
    (b"\x89PNG\r\n", "png"),
    (b"\xff\xd8\xff", "jpeg"),
    (b"II*\x00", "tiff"),
    (b"MM\x00*", "tiff"),
    (b"PK\x03\x04", "zip"),
    (b"\x89HDF\r\n", "hdf5"),
    (b"CDF\x01", "minc"),
    (b"%PDF", "pdf"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ", "xz"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
)
_META = re.compile(rb"\s*(ObjectType|NDims|Comment|BinaryData|ElementType|DimSize)\s*=", re.IGNORECASE)
_HTML = re.compile(rb"(\xef\xbb\xbf)?\s*<(!doctype html|html|head|\?xml|!--)", re.IGNORECASE)

_REFUSALS = {
    "git-lfs": ("MS-F105", "this is a Git-LFS pointer, not the image", "run `git lfs pull` in its repository"),
    "html": ("MS-F106", "this is a web page, not an image", "download the file again; the link led to a page"),
    "mgh": (
        "MS-F108",
        "this is a FreeSurfer MGH/MGZ image",
        "convert it: `mri_convert in.mgz out.nii.gz`, or nibabel's `nib-convert in.mgz out.nii.gz`",
    ),
    "analyze": (
        "MS-F108",
        "this is an Analyze 7.5 image, whose left and right are not defined",
        "convert it to NIfTI with a tool that knows how it was made, and check left against right",
    ),
    "zip": ("MS-F108", "this is a zip archive", "unpack it and name the folder"),
}
_CONTAINERS = {"bzip2": "bunzip2", "xz": "unxz", "zstd": "unzstd"}


def sniff(path: Path) -> str:
    """What the file at `path` is, by its first bytes.

    Returns:
        'nifti', 'nifti-pair' (a header whose voxels lie in an .img), 'nrrd', 'metaimage', 'dicom'; what medseg
        does not read: 'analyze', 'mgh', 'png', 'jpeg', 'tiff', 'zip', 'hdf5', 'minc', 'pdf', 'bzip2', 'xz', 'zstd',
        'git-lfs', 'html', 'text', 'unknown'; and what lies inside gzip as 'gzip-nifti', 'gzip-mgh', 'gzip-unknown', ...

    Raises:
        InputError: MS-F101 to MS-F104 when there is no regular, readable, non-empty file.
    """
    require_file(path)
    with path.open("rb", buffering=0) as file:
        head = file.read(_HEAD)
    kind = _kind(head)
    return f"gzip-{_kind(_inflated(head))}" if kind == "gzip" else kind


def require_file(path: Path) -> os.stat_result:
    """Refuse what is no regular, readable, non-empty file, without opening pipes or devices.

    Raises:
        InputError: MS-F101 not there, MS-F102 no permission, MS-F103 not a regular file, MS-F104 empty.
    """
    try:
        found = path.stat()
        if stat.S_ISREG(found.st_mode):
            path.open("rb").close()
    except PermissionError:
        raise InputError(
            "MS-F102", "permission denied", file=path, mend="give yourself read permission, or copy the file"
        ) from None
    except (OSError, ValueError) as error:
        raise InputError("MS-F101", _absence(path, error), file=path, mend="check the spelling of the path") from None
    if stat.S_ISDIR(found.st_mode):
        raise InputError("MS-F103", "this is a folder where a file is wanted", file=path, mend="name a file in it")
    if not stat.S_ISREG(found.st_mode):
        raise InputError(
            "MS-F103", "this is a pipe, socket or device, not a file", file=path, mend="save its content to a file"
        )
    if found.st_size == 0:
        raise InputError("MS-F104", "the file is empty (0 bytes)", file=path, mend="copy or download it again")
    return found


def refuse(path: Path, kind: str) -> NoReturn:
    """Refuse a file that is not an image medseg reads, saying what it is.

    Raises:
        InputError: MS-F105 Git-LFS pointer, MS-F106 web page, MS-F107 unknown, MS-F108 another format.
    """
    inner = kind.removeprefix("gzip-")
    wrapped = ", inside gzip," if kind != inner else ""
    if inner in _REFUSALS:
        code, what, mend = _REFUSALS[inner]
        raise InputError(code, what, file=path, mend=mend)
    if inner in _CONTAINERS:
        raise InputError(
            "MS-F108", f"this is {inner}-compressed", file=path, mend=f"unpack it with {_CONTAINERS[inner]}"
        )
    if kind == "gzip-dicom":
        raise InputError("MS-F108", "this is DICOM inside gzip", file=path, mend="unpack it with gunzip")
    if inner in ("unknown", "text"):
        found = "plain text" if inner == "text" else "its first bytes belong to no format that medseg knows"
        raise InputError(
            "MS-F107",
            f"not an image: {found}{wrapped.rstrip(',')}",
            file=path,
            mend="give a NIfTI, NRRD, MetaImage or DICOM file, or copy it again if it should be one",
        )
    raise InputError(
        "MS-F108",
        f"this is {inner.upper() if len(inner) < 5 else inner}{wrapped.rstrip(',')}, which medseg does not read here",
        file=path,
        mend="convert it to NIfTI or NRRD with its place in space, for example in 3D Slicer",
    )


def _kind(head: bytes) -> str:
    # First DICOM: its preamble may be the head of a TIFF, so that one file serves as both.
    if head[128:132] == b"DICM":
        return "dicom"
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    if kind := _nifti_kind(head):
        return kind
    return "dicom" if looks_like_dicom(head) else _text_kind(head) or _rare_kind(head)


def looks_like_dicom(head: bytes) -> bool:
    """Whether a file that begins with `head` (132 bytes or more) is DICOM, with or without preamble."""
    if head[128:132] == b"DICM":
        return True
    if len(head) < 16:
        return False
    for order in "<>":
        group, element = struct.unpack(order + "HH", head[:4])
        if group in (0x0002, 0x0008) and element <= 0x18:
            vr, length = head[4:6], struct.unpack(order + "L", head[4:8])[0]
            if vr in (b"UL", b"UI", b"CS", b"OB", b"DA", b"TM", b"SH", b"LO", b"PN") or length <= 128:
                return True
    return False


def _nifti_kind(head: bytes) -> str | None:
    sizeof_hdr = {int.from_bytes(head[:4], order) for order in ("little", "big")}
    if 348 in sizeof_hdr and len(head) >= 348:
        return {b"n+1": "nifti", b"ni1": "nifti-pair"}.get(head[344:347], "analyze")
    if 540 in sizeof_hdr and len(head) >= 8:
        return {b"n+2": "nifti", b"ni2": "nifti-pair"}.get(head[4:7])
    # A header that was cut is still worth the name, so that the reader can say what is missing.
    return "nifti" if 348 in sizeof_hdr or 540 in sizeof_hdr else None


def _text_kind(head: bytes) -> str | None:
    if _META.match(head):
        return "metaimage"
    if _HTML.match(head):
        return "html"
    printable = sum(32 <= b < 127 or b in b"\t\r\n" for b in head)
    return "text" if head and printable >= 0.97 * len(head) else None


def _rare_kind(head: bytes) -> str:
    if head[:4] == b"\x00\x00\x00\x01" and len(head) >= 284:  # version 1, big-endian; no other magic
        return "mgh"
    return "unknown"


def _inflated(head: bytes) -> bytes:
    """What the first bytes of a gzip stream hold, as far as they are sound."""
    decoder, out = zlib.decompressobj(wbits=31), b""
    try:
        for start in range(0, len(head), 64):
            out += decoder.decompress(head[start : start + 64], _HEAD)
    except zlib.error:
        pass
    return out[:_HEAD]


def _absence(path: Path, error: Exception) -> str:
    if isinstance(error, OSError) and error.errno == errno.ELOOP:
        return "a symbolic link that leads back to itself"
    if isinstance(error, FileNotFoundError) and os.path.lexists(path):
        return f"a symbolic link to {str(path.readlink())!r}, which does not exist"
    if isinstance(error, FileNotFoundError):
        return "no such file or folder"
    return f"cannot be opened ({error})"
