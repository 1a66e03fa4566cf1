"""3D Slicer's segmentation file (.seg.nrrd): segments with names, colours and codes, overlapping ones in layers.

Format: Slicer's developer guide, "Segmentations", and slicerio. A segment is the voxels of one value in one layer;
where one structure contains another (`Label.region`), each is a whole segment in a layer of its own.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from medseg.labels import Code, Label, LabelTable
from medseg.writers.nrrd import nrrd_head, one_line, write_packed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from medseg.volume import Volume

#: What Slicer itself gives to a segment of which nothing is known.
TISSUE = Code("SCT", "85756007", "Tissue")
#: Category of a structure that has a type and no category.
ANATOMY = Code("SCT", "123037004", "Anatomical Structure")
_CONTEXT = "Segmentation category and type - 3D Slicer General Anatomy list"
_REGIONS = "Anatomic codes - DICOM master list"
#: Tag with the values that a structure contains: seg.nrrd itself shows nesting only where there are voxels.
REGION_TAG = "medseg.region"
#: Up to so many voxels times segments (about a second) Slicer makes the surfaces of its 3D view as it opens the file.
_SURFACES = 200_000_000
_MAX_VALUE = np.iinfo(np.uint16).max
_SLAB = 1 << 22


def write_seg_nrrd(
    path: str | Path, segmentation: Volume, *, tags: Mapping[int, Mapping[str, str]] | None = None
) -> None:
    """Write a label map as a 3D Slicer segmentation, atomically and read back; one map gives one file.

    Args:
        path: ends in .seg.nrrd.
        segmentation: (I, J, K) label map of values 0 to 65535; its `labels` give names, colours, codes and nesting.
            A value that no label has becomes a segment "label 7", so no voxel is lost.
        tags: label value -> further tags of its segment, such as {1: {"medseg.volume_ml": "12.3"}}.

    Raises:
        OutputError: MS-O101 to MS-O106, see `atomic_write`.
        ValueError: another name, array or range of values.
    """
    path = Path(path)
    if not path.name.lower().endswith(".seg.nrrd"):
        msg = f"a 3D Slicer segmentation ends in .seg.nrrd, got {path.name!r}"
        raise ValueError(msg)
    array = segmentation.array
    if array.ndim != 3 or 0 in array.shape or array.dtype.kind not in "biu":
        msg = f"a label map is (I, J, K) of integers and not empty, got {array.dtype} {array.shape}"
        raise ValueError(msg)
    counts = _counts(array)
    labels = _all_labels(segmentation.labels, counts)
    layers = _layers(labels)
    highest = max((label.value for label in labels), default=0)
    dtype = np.dtype("u1") if highest < 256 else np.dtype("<u2")
    tables = np.zeros((max(layers.values(), default=0) + 1, max(len(counts), highest + 1)), dtype)
    for label, layer in layers.items():
        tables[layer, [v for v in _contents(label) if v < tables.shape[1]]] = label.value
    pairs = _pairs(layers, array.shape, tags or {})
    head = nrrd_head(dtype, array.shape, segmentation.affine, pairs, layers=len(tables))
    write_packed(path, head, (_interleaved(tables, slab) for slab in _slabs(array)))


def _counts(array: np.ndarray) -> np.ndarray:
    """Voxels of each value, 0 first."""
    counts = np.zeros(1, np.int64)
    for slab in _slabs(array):
        if slab.dtype.kind != "b" and (slab.min() < 0 or slab.max() > _MAX_VALUE):
            msg = f"label values lie in 0 to {_MAX_VALUE}, got {slab.min()} to {slab.max()}"
            raise ValueError(msg)
        found = np.bincount(slab.ravel(order="K").astype(np.intp, copy=False))
        longer, shorter = (found, counts) if len(found) > len(counts) else (counts, found)
        counts = longer.copy()
        counts[: len(shorter)] += shorter
    return counts


def _slabs(array: np.ndarray) -> Iterator[np.ndarray]:
    """Whole slices along K, about `_SLAB` voxels at once."""
    step = max(1, _SLAB // (array.shape[0] * array.shape[1]))
    for start in range(0, array.shape[2], step):
        yield array[:, :, start : start + step]


def _interleaved(tables: np.ndarray, slab: np.ndarray) -> np.ndarray:
    """The layers of a slab in the file's order: layer fastest, then I, J, K."""
    flat = slab.reshape(-1, order="F").astype(np.intp, copy=False)
    return tables[0][flat] if len(tables) == 1 else tables.T[flat]


def _all_labels(table: LabelTable | None, counts: np.ndarray) -> list[Label]:
    """The labels of the table and of values that it does not name; those that contain others first.

    Of two segments with the same voxels a reader that makes one map of them keeps the later one on top.
    """
    known = table or LabelTable(())
    strays = [int(v) for v in np.flatnonzero(counts) if v > 0 and v not in known.by_value]
    labels = [*known, *LabelTable.from_values(strays)]
    return sorted(labels, key=lambda label: -len(_contents(label)))


def _contents(label: Label) -> tuple[int, ...]:
    return label.region or (label.value,)


def _layers(labels: list[Label]) -> dict[Label, int]:
    """Label -> the first layer in which it meets no other; a table without nesting has one layer."""
    layers: dict[Label, int] = {}
    used: list[set[int]] = []
    for label in labels:
        contents = set(_contents(label))
        layer = next((n for n, taken in enumerate(used) if not taken & contents), len(used))
        if layer == len(used):
            used.append(set())
        used[layer] |= contents
        layers[label] = layer
    return layers


def _pairs(
    layers: Mapping[Label, int], shape: tuple[int, ...], tags: Mapping[int, Mapping[str, str]]
) -> dict[str, str]:
    surfaces = "Closed surface|" if len(layers) * math.prod(shape) <= _SURFACES else ""
    pairs = {
        "Segmentation_SourceRepresentation": "Binary labelmap",
        "Segmentation_ContainedRepresentationNames": f"Binary labelmap|{surfaces}",
        "Segmentation_ReferenceImageExtentOffset": "0 0 0",
    }
    # Slicer mistakes where a first segment lies whose extent is cropped, so each has the full one.
    extent = " ".join(f"0 {n - 1}" for n in shape)
    for number, (label, layer) in enumerate(layers.items()):
        own = {REGION_TAG: " ".join(map(str, label.region))} if label.region else {}
        pairs |= {
            f"Segment{number}_ID": f"Segment_{label.value}",
            f"Segment{number}_Name": one_line(label.name) or f"label {label.value}",
            f"Segment{number}_NameAutoGenerated": "0",
            f"Segment{number}_Color": " ".join(f"{c / 255:.6g}" for c in label.colour),
            f"Segment{number}_ColorAutoGenerated": "0",
            f"Segment{number}_LabelValue": str(label.value),
            f"Segment{number}_Layer": str(layer),
            f"Segment{number}_Extent": extent,
            f"Segment{number}_Tags": _tags({**own, **tags.get(label.value, {})}, label),
        }
    return pairs


def _tags(own: Mapping[str, str], label: Label) -> str:
    kind = label.type or TISSUE
    category = label.category or (ANATOMY if label.type else TISSUE)
    codes = "~".join(_code(code) for code in (category, kind, label.modifier))
    written = {"TerminologyEntry": f"{_CONTEXT}~{codes}~{_REGIONS}~^^~^^", **own}
    return "".join(f"{_apart(key, '|:')}:{_apart(value, '|')}|" for key, value in written.items())


def _code(code: Code | None) -> str:
    return "^^" if code is None else "^".join(_apart(x, "|~^") for x in (code.scheme, code.value, code.meaning))


def _apart(text: str, separators: str) -> str:
    """`text` without the characters that part the entries of a tag."""
    return one_line(text.translate(str.maketrans(separators, " " * len(separators))))
