"""Image files of one folder -> cases: channels by `_0000` or by name, label maps to their images."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from medseg.errors import InputError
from medseg.readers.cases.case import Case
from medseg.readers.cases.names import (
    belongs_to,
    is_label_name,
    is_other_modality,
    split_by_channel_name,
    split_channel,
    stem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from medseg.readers.options import ReadOptions


@dataclass(frozen=True)
class Grouped:
    """The cases among the files of one folder.

    Args:
        cases: without label maps that `strays` could hold.
        strays: files called label maps that belong to no case.
    """

    cases: tuple[Case, ...]
    strays: tuple[Path, ...]


def group(
    files: Iterable[Path],
    folder_name: str,
    channels: Sequence[str],
    options: ReadOptions,
    *,
    any_name: bool = False,
) -> Grouped:
    """Cases of the image files of one folder.

    Args:
        files: image files of one folder.
        folder_name: what a case is called whose files are called by channel only ('FLAIR.nii.gz', 'T1.nii.gz').
        channels: what the bundle wants.
        options: how to read them.
        any_name: every file is an image, whatever it is called.
    """
    files = sorted(files)
    images = [f for f in files if any_name or not is_label_name(f)]
    labels = [f for f in files if f not in images]
    if not images:  # nothing but label maps: then these are what the user named
        images, labels = labels, []
    numbered, rest = _by_number(images, channels, options)
    named: Found = []
    if not any_name or len(channels) > 1:
        named, rest = _by_name(rest, folder_name, channels, options)
    whole = [(Case(stem(f), (f,), options=options), {stem(f)}) for f in rest]
    return _with_labels([*numbered, *named, *whole], labels)


#: Each case with the stems that a label map of it may begin with; no case for files that are passed over.
Found = list[tuple[Case | None, set[str]]]


def _by_number(files: list[Path], channels: Sequence[str], options: ReadOptions) -> tuple[Found, list[Path]]:
    groups: dict[str, dict[int, Path]] = defaultdict(dict)
    for file in files:
        if (split := split_channel(stem(file))) and split[1] not in groups[split[0]]:
            groups[split[0]][split[1]] = file
    # 'scan_0001', 'scan_0002', ... without a 'scan_0000' are numbers of scans, unless the bundle wants channels.
    taken = {prefix: found for prefix, found in groups.items() if found and (0 in found or len(channels) > 1)}
    used = {file for found in taken.values() for file in found.values()}
    cases: Found = [(numbered_case(prefix, found, channels, options), {prefix}) for prefix, found in taken.items()]
    return cases, [file for file in files if file not in used]


def numbered_case(name: str, found: dict[int, Path], channels: Sequence[str], options: ReadOptions) -> Case:
    """The case of files `name_0000`, `name_0001`, ...; with an error when they are not the bundle's channels."""
    images = tuple(found[n] for n in sorted(found))
    error = None
    # One `_0000` alone may hold every channel (4D); `load_case` looks.
    if sorted(found) != list(range(len(channels))) and sorted(found) != [0]:
        error = wrong_channels(images, channels, by_number=True)
    return Case(name, images, options=options, error=error)


def wrong_channels(images: Sequence[Path], channels: Sequence[str], *, by_number: bool = False) -> InputError:
    """MS-C105: says which channels the bundle wants and which files were found."""
    wanted = ", ".join(f"{c} (_{n:04d})" if by_number else c for n, c in enumerate(channels))
    count = f"{len(channels)} channel{'s' if len(channels) > 1 else ''}"
    mend = f"give one file for each of: {wanted}"
    if by_number and len(channels) == 1:
        mend = "name the wanted channel alone; if these are separate scans, name them in a CSV list"
    return InputError(
        "MS-C105",
        f"the bundle wants {count}: {wanted}; found {', '.join(i.name for i in images) or 'no file'}",
        file=images[0] if images else None,
        mend=mend,
    )


def _by_name(
    files: list[Path], folder_name: str, channels: Sequence[str], options: ReadOptions
) -> tuple[Found, list[Path]]:
    """Cases whose files are called by channel, and the files that are not.

    Beside them, scans of other kinds under the same name ('a_T2w' where 'a_T1w' is wanted) are passed over.
    """
    groups: dict[str, dict[int, list[Path]]] = defaultdict(lambda: defaultdict(list))
    for file in files:
        if split := split_by_channel_name(stem(file), channels):
            groups[split[0]][split[1]].append(file)
    cases: Found = []
    used: set[Path] = set()
    for prefix, found in groups.items():
        if any(len(same) > 1 for same in found.values()):
            continue  # 'a.nii' and 'a.nii.gz': as cases of their own they will be refused as one output
        images = tuple(found[n][0] for n in sorted(found))
        others = [f for f in files if f not in images and is_other_modality(stem(f)) == (True, prefix)]
        if not prefix and len(channels) == 1 and len(files) > 1 + len(others):
            continue  # 'T1' among scans that are called otherwise is no case folder
        error = None if len(found) == len(channels) else wrong_channels(images, channels)
        # A single channel's file gives the case its name; several share what stands before.
        name = folder_name if not prefix else prefix if len(channels) > 1 else stem(images[0])
        cases.append((Case(name, images, options=options, error=error), {prefix, *map(stem, images)}))
        cases += [(None, {stem(f)}) for f in others]
        used |= {*images, *others}
    return cases, [file for file in files if file not in used]


def _with_labels(found: Found, labels: list[Path]) -> Grouped:
    """Every label map goes to the case whose stem it names, the longest where several fit."""
    owned: dict[int, list[Path]] = defaultdict(list)
    cases = [n for n, (case, _) in enumerate(found) if case is not None]
    strays = []
    for label in labels:
        name = stem(label)
        fits = [(len(s), n) for n, (_, stems) in enumerate(found) for s in stems if belongs_to(name, s)]
        if fits:
            owned[max(fits)[1]].append(label)
        elif len(cases) == 1:
            owned[cases[0]].append(label)
        else:
            strays.append(label)
    paired = [
        replace(case, label=owned[n][0] if len(owned[n]) == 1 else None, maps=tuple(owned[n]))
        for n, (case, _) in enumerate(found)
        if case is not None
    ]
    return Grouped(tuple(sorted(paired, key=lambda case: case.name)), tuple(strays))
