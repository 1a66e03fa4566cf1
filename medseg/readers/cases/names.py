"""What file names say: the case, the channel, whether it is a label map; and names that every system can store."""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

#: Ends of names that are no part of a case's name, longest first.
EXTENSIONS = (
    ".seg.nrrd", ".seg.nhdr", ".nii.gz", ".hdr.gz", ".img.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", ".hdr", ".img", ".dcm", ".dicom", ".ima", ".mgz", ".mgh", ".mnc",
)  # fmt: skip
_DICOM = (".dcm", ".dicom", ".ima")
_CHANNEL = re.compile(r"(.+)_(\d{4})")
_SEPARATORS = "_-. "
_LABEL_WORDS = frozenset({
    "seg", "segs", "segmentation", "segmentations", "label", "labels", "labelmap", "labelled", "labeled", "mask", "masks", "gt",
    "groundtruth", "annotation", "annotations", "lesions",
})  # fmt: skip
#: What single scans of an examination are often called; beside a wanted channel they are not another case.
_MODALITIES = frozenset({
    "t1", "t1w", "t1ce", "t1c", "t1gd", "t1n", "t1post", "t2", "t2w", "t2f", "t2star", "flair",
    "pd", "pdw", "dwi", "adc", "swi", "bold", "dir", "mp2rage", "ct", "cta", "pet",
})  # fmt: skip
_FORBIDDEN = re.compile(r'[<>:"/\\|?*]')
_RESERVED = re.compile(r"(con|prn|aux|nul|conin\$|conout\$|(com|lpt)[0-9¹²³])(?=$|[. ])", re.IGNORECASE)
#: Files that a run writes beside its case folders.
_OURS = frozenset({"summary.csv", "failures.csv", "record.json"})
_MAX_LENGTH = 120


def has_image_name(path: Path) -> bool:
    """Whether a file's name ends like an image other than DICOM."""
    name = path.name.lower()
    return name.endswith(EXTENSIONS) and not name.endswith(_DICOM)


def has_dicom_name(path: Path) -> bool:
    """Whether a file's name ends like DICOM."""
    return path.name.lower().endswith(_DICOM)


def stem(path: Path) -> str:
    """The file's name without its extension: 'a_0000' of 'a_0000.nii.gz', 'b.v2' of 'b.v2.nrrd'."""
    name = path.name
    extension = next((e for e in EXTENSIONS if name.lower().endswith(e) and len(name) > len(e)), "")
    return name[: len(name) - len(extension)]


def words_of(stem_: str) -> tuple[str, ...]:
    """('t2', 'seg', 'manual') of 'T2_seg-manual'."""
    return tuple(re.findall(f"[^{re.escape(_SEPARATORS)}]+", stem_.casefold()))


def words_before_label(stem_: str) -> tuple[str, ...]:
    """('exam', '7') of 'exam_7_seg_fast'; () where a label word comes first, or none at all."""
    words = words_of(stem_)
    return next((words[:n] for n, word in enumerate(words) if word in _LABEL_WORDS), ())


def split_channel(stem_: str) -> tuple[str, int] | None:
    """('liver_07', 1) of 'liver_07_0001', None of a stem without a channel number."""
    found = _CHANNEL.fullmatch(stem_)
    return (found[1], int(found[2])) if found else None


def case_stem(path: Path) -> str:
    """The stem without `_0000`."""
    return stem(path).removesuffix("_0000") or stem(path)


def channel_key(name: str) -> str:
    """A channel's name as names are compared: letters and digits in lower case, 'T1w' as 'T1'."""
    key = "".join(c for c in name.casefold() if c.isalnum())
    return key[:-1] if key in ("t1w", "t2w", "pdw") else key


def split_by_channel_name(stem_: str, channels: Iterable[str]) -> tuple[str, int] | None:
    """(prefix, index) when a stem is a channel's name or ends with it: ('brats_7', 0) of 'brats_7_flair'."""
    keys = [channel_key(c) for c in channels]
    cut = max(stem_.rfind(s) for s in _SEPARATORS)
    prefix, word = (stem_[:cut], stem_[cut + 1 :]) if cut > 0 else ("", stem_)
    for key in (channel_key(stem_), channel_key(word)):
        if key in keys:
            return ("" if key == channel_key(stem_) else prefix), keys.index(key)
    return None


def is_other_modality(stem_: str) -> tuple[bool, str]:
    """Whether a stem is or ends with the usual name of a kind of scan, and what stands before it."""
    cut = max(stem_.rfind(s) for s in _SEPARATORS)
    prefix, word = (stem_[:cut], stem_[cut + 1 :]) if cut > 0 else ("", stem_)
    return word.casefold() in _MODALITIES, prefix


def is_label_name(path: Path) -> bool:
    """Whether a file is called a label map: one word of its name is 'seg', 'label', 'mask' or the like."""
    if path.name.lower().endswith((".seg.nrrd", ".seg.nhdr")):
        return True
    return any(word in _LABEL_WORDS for word in words_of(stem(path)))


def belongs_to(label: str, image: str) -> bool:
    """Whether the stem of a label map names the stem of an image: 'a', 'a_seg', 'a-mask2' or 'label_a' of 'a'."""
    if not image:
        return False
    if label == image or (label.startswith(image) and label[len(image)] in _SEPARATORS):
        return True
    front = label.removesuffix(image)
    return front != label and front[-1:] in tuple(_SEPARATORS) and front[:-1].casefold() in _LABEL_WORDS


def safe_name(text: str) -> str:
    """`text` as a name that Windows, macOS and Linux can store: never empty, hidden, reserved or a path."""
    text = unicodedata.normalize("NFC", text)
    text = "".join(c if c.isprintable() else "_" for c in _FORBIDDEN.sub("_", text))
    text = text.strip().rstrip(". ")[:_MAX_LENGTH].rstrip(". ")
    if text.startswith("."):
        text = "_" + text.lstrip(".")
    if _RESERVED.match(text) or text.casefold() in _OURS:
        text = "_" + text
    return text or "_"


def collision_key(name: str) -> str:
    """Two names with one key are one file on some system (upper and lower case, composed letters)."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def without_label_word(stem_: str) -> str:
    """The case that a label map's stem names: 'a' of 'a_seg' and 'label_a', the stem itself when no such word is there."""
    parts = re.split(f"([{re.escape(_SEPARATORS)}])", stem_)
    if len(parts) > 2 and parts[-1].casefold() in _LABEL_WORDS:
        return "".join(parts[:-2])
    if len(parts) > 2 and parts[0].casefold() in _LABEL_WORDS:
        return "".join(parts[2:])
    return stem_
