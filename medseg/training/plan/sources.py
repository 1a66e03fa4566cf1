"""What a folder, dataset.json or list holds for training: cases, channels, what is said of them, and what is missing.

The layouts are those of `medseg.readers.cases`; here nothing is refused because of one case: every image without label
map and every label map without image becomes a `Problem`, so that all are seen at once.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.readers.cases.dataset import dataset_cases, dataset_content, dataset_layout, is_dataset_json
from medseg.readers.cases.find import find_cases
from medseg.readers.cases.kinds import of_one_kind, shared_kind
from medseg.readers.cases.names import case_stem, has_image_name, is_label_name, safe_name, split_channel, stem
from medseg.readers.options import ReadOptions
from medseg.training.plan.map_folders import (
    folders_in,
    holds_images,
    holds_maps_alone,
    holds_scans,
    notes_beside,
    without_masks,
)
from medseg.training.plan.problems import Problem, problem_of
from medseg.training.plan.split import split_file
from medseg.training.plan.which_maps import of_another_kind, without_label

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from medseg.readers.cases.case import Case
    from medseg.readers.cases.kinds import Kind

#: Folders whose images are for training.
_TRAINING = re.compile(r"images(Tr|Va|Val)?", re.IGNORECASE)
#: What one channel is called of which nobody says anything.
UNNAMED = ("image",)


@dataclass(frozen=True)
class Source:
    """What was found.

    Args:
        path: what the user named.
        cases: with a label map each, as far as the names say.
        channels: their names, in order.
        said: the content of dataset.json, {} without one.
        problems: cases without a label map, label maps without a case, and refusals of the list as a whole.
        soft: several annotators' label maps stand behind each case, and their shares are what is learnt.
        kind: of the label maps that were taken where images have several; None: there was no choice.
        inner: the folder in `path` that alone was looked through.
    """

    path: Path
    cases: tuple[Case, ...]
    channels: tuple[str, ...]
    said: Mapping[str, Any]
    problems: tuple[Problem, ...] = ()
    soft: bool = False
    kind: Kind | None = None
    inner: Path | None = None

    @property
    def root(self) -> Path:
        """The folder that holds the dataset: of imagesTr, dataset.json or a list the one around it."""
        inside = self.path.is_file() or _TRAINING.fullmatch(self.path.name)
        return self.path.resolve().parent if inside else self.path

    @property
    def split_folder(self) -> Path:
        """The folder that says who validates, `root` where none does."""
        return next((one for one in (self.root, self.inner) if one is not None and split_file(one)), self.root)


def find_source(data: Path, channels: Sequence[str] = (), *, need_labels: bool = True) -> Source:
    """Look at names only, no image is read.

    Args:
        data: an MSD or nnU-Net folder or its dataset.json, a folder with images and labels, a folder of case folders,
            or a CSV, TSV or JSON list.
        channels: names of the channels; () takes those of dataset.json, of files `_0000`, `_0001`, or of case folders.
        need_labels: an image without a label map, and a label map without an image, are problems.

    Raises:
        InputError: MS-T103 there is no such folder or list.
    """
    if not data.exists():
        raise InputError(
            "MS-T103", "no such folder or list", file=data, mend="give a folder with imagesTr and labelsTr"
        )
    try:
        inner = inner_of(data)
        said = _said(inner)
        names = tuple(channels) or _channels_said(said) or channels_seen(inner) or UNNAMED
        cases, orphans, masks = _cases(inner, names)
    except InputError as error:  # the list as a whole
        return Source(data, (), tuple(channels) or UNNAMED, {}, (problem_of(error, "", data),))
    problems = [*notes_beside(data, inner), *masks]
    kind = shared_kind(cases)
    cases = of_one_kind(cases, kind)
    if need_labels:
        problems += [orphan(file) for file in orphans]
        problems += [without_label(case, kind, _annotators_of(case)) for case in cases if case.label is None]
        problems += of_another_kind(cases, kind)
        cases = [case for case in cases if case.label is not None]
    if not cases and all(problem.note for problem in problems):
        what = "every image was left out" if problems else "no images"
        found = InputError("MS-T101", what, file=data, mend="put images into imagesTr and labels into labelsTr")
        problems.append(problem_of(found, "", data))
    return Source(data, tuple(cases), names, said, tuple(problems), kind=kind, inner=None if inner == data else inner)


def training_folders(data: Path) -> list[Path]:
    """The folders of training images in a dataset's folder, or the folder itself where it is one."""
    if _TRAINING.fullmatch(data.name) and labels_of(data).is_dir():
        return [data]
    inside = [f for f in sorted(data.iterdir()) if f.is_dir() and _TRAINING.fullmatch(f.name)]
    return [f for f in inside if any(map(has_image_name, f.iterdir()))]


def labels_of(images: Path) -> Path:
    """The folder beside it: labelsTr of imagesTr, labels of images."""
    return images.with_name(re.sub("images", "labels", images.name, count=1, flags=re.IGNORECASE))


def annotator_folders(images: Path) -> dict[str, Path]:
    """Annotator -> the folder with their label maps beside a folder of images."""
    pattern = re.compile(re.escape(labels_of(images).name) + r"[ _.-]+(.+)", re.IGNORECASE)
    beside = [folder for folder in sorted(images.resolve().parent.iterdir()) if folder.is_dir()]
    return {found[1]: folder for folder in beside if (found := pattern.fullmatch(folder.name))}


def inner_of(data: Path) -> Path:
    """The one folder in a folder that is laid out as a dataset, or beside which there are folders of label maps alone."""
    if not data.is_dir() or dataset_layout(data) is not None:
        return data
    folders = folders_in(data)
    inside = [folder for folder in folders if dataset_layout(folder) is not None]
    if len(inside) == 1:
        return inside[0]
    rest = [folder for folder in folders if not holds_maps_alone(folder)]
    return rest[0] if len(rest) == 1 < len(folders) and not holds_scans(data) else data


def _said(data: Path) -> Mapping[str, Any]:
    places = [data] if data.is_file() else [data / "dataset.json", data.resolve().parent / "dataset.json"]
    if data.is_dir() and not _TRAINING.fullmatch(data.name):
        places = places[:1]
    for path in places:
        if path.is_file() and path.suffix.lower() == ".json" and is_dataset_json(path):
            return dataset_content(path)
    return {}


def _channels_said(said: Mapping[str, Any]) -> tuple[str, ...]:
    names = said.get("channel_names") or said.get("modality")
    if not isinstance(names, dict):
        return ()
    return tuple(str(names[key]) for key in sorted(names, key=lambda key: int(key) if str(key).isdigit() else 0))


def channels_seen(data: Path) -> tuple[str, ...]:
    """Numbers `_0000` and on that most cases have, or file names that most case folders share."""
    if not data.is_dir():
        return ()
    for folder in training_folders(data):
        numbers: dict[str, set[int]] = {}
        for file in folder.iterdir():
            split = split_channel(stem(file)) if has_image_name(file) and not file.name.startswith(".") else None
            if split is not None:
                numbers.setdefault(split[0], set()).add(split[1])
        counts = [frozenset(found) for found in numbers.values() if 0 in found]
        if counts:
            usual = max(set(counts), key=lambda found: (counts.count(found), -len(found)))
            return tuple(f"channel {n}" for n in sorted(usual)) if len(usual) > 1 else ()
        return ()
    folders = [f for f in folders_in(data) if not (is_label_name(f) and holds_images(data))]
    held = [frozenset(stem(f) for f in d.iterdir() if _is_map(f) and not is_label_name(f)) for d in folders]
    return tuple(sorted(_shared([names for names in held if names])))


def _shared(held: Sequence[frozenset[str]]) -> frozenset[str]:
    """What the images of case folders are called: of several in a folder each name is a channel's.

    So is the one name that single images of most folders share (`case_7/imaging`): cases are called by their folders then.
    A folder with an image too many makes no channels for all others.
    """
    usual = max(set(held), key=lambda names: (held.count(names), sorted(names)), default=frozenset())
    count, alone = held.count(usual), sum(len(names) == 1 for names in held)
    enough = count > alone if len(usual) > 1 else count > max(1, len(held) / 2)
    return usual if enough else frozenset()


def _cases(data: Path, channels: tuple[str, ...]) -> tuple[list[Case], list[Path], list[Problem]]:
    """Cases by name, label maps without an image, and notes of folders that were passed over."""
    options = ReadOptions()
    layout = dataset_layout(data) if data.is_dir() else data if is_json_dataset(data) else None
    if layout is None:
        notes: list[Problem] = []

        def without(found: list[Case]) -> list[Case]:
            kept, told = without_masks(found, data)
            notes.extend(told)
            return kept

        return find_cases(data, channels=channels, sift=without), [], notes
    if layout.is_file() and isinstance(dataset_content(layout).get("training"), list):
        return _safe(dataset_cases(layout, channels, options, need_labels=True)), [], []
    folder = layout.parent if layout.is_file() else layout
    cases: list[Case] = []
    orphans: list[Path] = []
    for images in training_folders(folder):
        found = find_cases(images, channels=channels)
        known = {case.name for case in found}
        beside = labels_of(images)
        files = sorted(beside.iterdir()) if beside.is_dir() else []
        orphans += [f for f in files if _is_map(f) and safe_name(case_stem(f)) not in known]
        cases += found
    return cases, orphans, []


def is_json_dataset(path: Path) -> bool:
    """Whether a file is an MSD or nnU-Net dataset.json."""
    return path.suffix.lower() == ".json" and is_dataset_json(path)


def _safe(cases: list[Case]) -> list[Case]:
    return [replace(case, name=safe_name(case.name)) for case in cases]


def _is_map(path: Path) -> bool:
    return has_image_name(path) and not path.name.startswith(".")


def _annotators_of(case: Case) -> list[str]:
    """Who have folders of label maps beside a case's image."""
    folder = case.images[0].parent if case.images else None
    if folder is None or not _TRAINING.fullmatch(folder.name):
        return []
    found = annotator_folders(folder)
    return list(found) if len(found) > 1 else []


def orphan(file: Path) -> Problem:
    """A label map without an image."""
    what = "this label map has no image of its name"
    return Problem("MS-T142", what, str(file), "add its image, or take the label map out", case_stem(file))
