"""What a participant says of its own machine, in `local/medseg_site.yaml` of its kit. It stands in no job and no message."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import yaml

from medseg.errors import InputError

#: Its name in `local/`.
FILE = "medseg_site.yaml"


@dataclass(frozen=True)
class SiteFile:
    """Of a site, or of the server, which has no data.

    Args:
        data: the labelled cases, as `medseg train` takes them.
        bundle: its folder or shipped name; '': the one that a job names, where it comes with medseg.
        work: folder for what stays here: checkpoints, curves, models; '': `medseg_work` beside `local`.
        validation: names of the cases that validate; () as the bundle says.
        held_out: every case validates, none trains.
        look: before the first round of a job the site looks whether left and right are where their names say.
    """

    data: str = ""
    bundle: str = ""
    work: str = ""
    validation: tuple[str, ...] = ()
    held_out: bool = False
    look: bool = True


def read_site_file(local: str | Path) -> SiteFile:
    """Of a participant's `local/`; where there is none, nothing is said.

    Raises:
        InputError: MS-J014 it is not understood.
    """
    path = Path(local, FILE)
    if not path.is_file():
        return SiteFile()
    try:
        said: Any = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        if not isinstance(said, dict):
            msg = f"holds a {type(said).__name__}, not a table"
            raise TypeError(msg)
        if unknown := sorted(set(map(str, said)) - {one.name for one in fields(SiteFile)}):
            msg = f"{unknown[0]!r} is none of {', '.join(one.name for one in fields(SiteFile))}"
            raise ValueError(msg)
        validation = said.get("validation") or ()
        switches = {name: said.get(name, default) for name, default in (("held_out", False), ("look", True))}
        if not isinstance(validation, list | tuple) or not all(isinstance(one, bool) for one in switches.values()):
            msg = "validation is a list of names, held_out and look are true or false"
            raise TypeError(msg)
        texts = {name: str(said.get(name) or "") for name in ("data", "bundle", "work")}
    except (OSError, ValueError, TypeError, yaml.YAMLError) as error:
        raise InputError(
            "MS-J014", f"this site's own file is not understood: {error}", file=path,
            mend="write data: FOLDER and bundle: FOLDER into it, or join again",
        ) from error  # fmt: skip
    return SiteFile(**texts, **switches, validation=tuple(map(str, validation)))
