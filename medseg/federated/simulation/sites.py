"""The sites of a simulation: SITES.yaml, as `configs/federation/sites.example.yaml` explains it."""

from __future__ import annotations

import os
import re
import shutil
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from medseg.errors import InputError, UsageError
from medseg.federated.site_file import SiteFile
from medseg.readers.cases.names import stem
from medseg.training.datalist import named_cases

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,49}")
#: Names that NVFLARE, or a folder of results, has.
_TAKEN = frozenset({"server", "admin", "all", "local", "startup", "global", "central", "alone"})


@dataclass(frozen=True)
class Site:
    """One site of a simulation.

    Args:
        name: of it.
        data: folder of its cases.
        cases: names of those that it has; () for all in the folder.
        validation: names of those that validate; () as the bundle says.
        held_out: is tested on only.
    """

    name: str
    data: Path
    cases: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    held_out: bool = False

    def file(self, data: Path, bundle: Path, work: Path) -> SiteFile:
        """What its own file says."""
        return SiteFile(str(data), str(bundle), str(work), self.validation, self.held_out)


def read_sites(path: Path) -> tuple[Site, ...]:
    """The sites of a file.

    Raises:
        UsageError: MS-J020 the file is not understood, two sites have one name, or none trains.
    """
    try:
        said: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
        rows = said.get("sites") if isinstance(said, dict) else None
        if not isinstance(rows, list) or not rows or not all(isinstance(row, dict) for row in rows):
            msg = "it holds no list of `sites`"
            raise ValueError(msg)
        found = tuple(_site(row, path.resolve().parent) for row in rows)
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        _refuse(f"is not understood: {error}", path, error)
    names = [site.name.casefold() for site in found]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        _refuse(f"two sites are called {twice[0]!r}", path)
    if all(site.held_out for site in found):
        _refuse("every site is held out, so none would train", path)
    return found


def gather(site: Site, folder: Path, channels: Sequence[str] = ()) -> Path:
    """The folder of a site's cases: its own, or one with links to those of its cases alone.

    Raises:
        InputError: MS-J021 a case is not there; MS-T101 and so on, see `datalist`.
    """
    if not site.cases:
        return site.data
    known = named_cases(str(site.data), channels)
    missing = [name for name in site.cases if name not in known]
    if missing:
        raise InputError(
            "MS-J021", f"{len(missing)} cases of site {site.name} are not there, first {missing[0]!r}", file=site.data,
            mend="write names of cases as medseg inspect shows them, without _0000 and extensions",
        )  # fmt: skip
    return link_cases({name: known[name] for name in site.cases}, folder)


def link_cases(cases: Mapping[str, Mapping[str, Any]], folder: Path) -> Path:
    """Links (copies where the disk has none) to cases in a folder with imagesTr and labelsTr, called by the cases.

    Args:
        cases: name -> `{"image": path, or paths of the channels in their order, "label": path}`.
        folder: made anew.
    """
    if folder.exists():
        shutil.rmtree(folder)
    for sub in ("imagesTr", "labelsTr"):
        (folder / sub).mkdir(parents=True)
    for name, case in cases.items():
        several = isinstance(case["image"], list)
        for number, image in enumerate(map(Path, case["image"] if several else [case["image"]])):
            _link(image, folder / "imagesTr" / f"{name}{f'_{number:04d}' if several else ''}{_ending(image)}")
        _link(Path(case["label"]), folder / "labelsTr" / f"{name}{_ending(Path(case['label']))}")
    return folder


def _ending(file: Path) -> str:
    return file.name[len(stem(file)) :]


def _link(source: Path, target: Path) -> None:
    source = source.resolve()
    try:
        target.symlink_to(source)
    except FileExistsError:  # never write through a link into somebody's scan
        raise
    except OSError:  # Windows without the right to
        try:
            os.link(source, target)
        except OSError:
            shutil.copyfile(source, target)


def _site(row: Mapping[str, Any], base: Path) -> Site:
    if unknown := sorted(set(map(str, row)) - {one.name for one in fields(Site)}):
        msg = f"{unknown[0]!r} is none of {', '.join(one.name for one in fields(Site))}"
        raise ValueError(msg)
    name = str(row.get("name", ""))
    if not _NAME.fullmatch(name) or name.casefold() in _TAKEN:
        msg = f"{name!r} is no name of a site: letters, digits, - and _, and none of {', '.join(sorted(_TAKEN))}"
        raise ValueError(msg)
    if not row.get("data"):
        msg = f"site {name} has no data"
        raise ValueError(msg)
    lists = {}
    for key in ("cases", "validation"):
        value = row.get(key) or []
        if not isinstance(value, list):
            msg = f"{key} of site {name} is a list of names"
            raise TypeError(msg)
        lists[key] = tuple(map(str, value))
    held_out = row.get("held_out", False)
    if not isinstance(held_out, bool):
        msg = f"held_out of site {name} is true or false"
        raise TypeError(msg)
    return Site(name, base / Path(str(row["data"])).expanduser(), held_out=held_out, **lists)


def _refuse(what: str, path: Path, error: Exception | None = None) -> NoReturn:
    mend = "write it like configs/federation/sites.example.yaml, whose comments explain every entry"
    raise UsageError("MS-J020", what, file=path, mend=mend) from error
