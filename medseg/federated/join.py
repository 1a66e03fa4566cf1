"""`medseg federate join KIT --data DIR`, at the hospital: look, write the site's own file, be the site until it is ended.

Where the data lies is written into KIT/local/medseg_site.yaml and read by this site's own processes. It stands in no job,
in no message, and in no file of the server.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError, InputError, MedsegError
from medseg.federated import preflight
from medseg.federated.installed import require_nvflare
from medseg.federated.supervise import supervise
from medseg.training.datalist import datalist
from medseg.writers.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from medseg.federated.kit import Kit
    from medseg.workflows.doctor import Check

FILE = "medseg_site.yaml"


def site_bundle(kit: Kit, named: str | Path | None) -> Path:
    """The folder of the bundle that this site trains.

    Args:
        kit: of the site.
        named: by whoever joins; None: the one that was agreed on, among those that come with medseg.

    Raises:
        BundleError: MS-B101, MS-B102 it is not there; MS-J058 nobody named one.
    """
    if named is None and not kit.bundle:
        raise BundleError("MS-J058", "neither the kit nor this command names a bundle", file=kit.root,
                          mend="type --bundle and the folder, or the shipped name, of the bundle to train")  # fmt: skip
    return find_bundle(kit.bundle if named is None else named)


def ready(kit: Kit, data: Path, bundle: Path) -> list[Check]:
    """Everything that is looked at before a site starts, in order.

    Args:
        kit: of the site.
        data: folder of its cases.
        bundle: folder of the bundle that it trains.

    Raises:
        MissingExtraError: MS-J053 NVFLARE is not installed.
    """
    require_nvflare()
    found = list(preflight.machine(kit))
    found.append(preflight.bundle(kit, bundle))
    found.append(preflight.data_check(lambda: _cases(data, bundle)))
    return found


def require_ready(checks: list[Check], kit: Kit) -> None:
    """Let only a site pass of which no line says fail.

    Raises:
        BundleError: MS-J059 its bundle is another.
        InputError: MS-J059 anything else.
    """
    failed = [check for check in checks if check.verdict == "fail"]
    if failed:
        kind: type[MedsegError] = BundleError if failed[0].name == "bundle" else InputError
        names = ", ".join(check.name for check in failed)
        raise kind("MS-J059", f"this site is not ready: {names}", file=kit.root,
                   mend=failed[0].mend or "do what the table says, then type the same again")  # fmt: skip


def write_site_file(kit: Kit, data: Path, bundle: Path) -> Path:
    """Write where this site's data and bundle lie, for its own processes; nobody else on the machine may read it."""
    import yaml

    said = {"data": str(data.expanduser().resolve()), "bundle": str(bundle.expanduser().resolve())}
    path = kit.local / FILE
    write_text(path, yaml.safe_dump(said, allow_unicode=True, sort_keys=False), private=True)
    return path


def be_site(kit: Kit, tell: Callable[[str], object]) -> None:
    """Run the site's process until it is ended; errors as for `supervise`."""
    command = [sys.executable, "-u", "-m", "medseg.federated.site_process", str(kit.root)]
    supervise([*command, "--name", kit.name, "--organisation", kit.organisation], kit, tell)


def be_server(kit: Kit, tell: Callable[[str], object]) -> None:
    """Run the server's process until it is ended; errors as for `supervise`, and MS-J053."""
    from medseg.federated.prepare import write_server_resources

    require_nvflare()
    write_server_resources(kit)
    command = [sys.executable, "-u", "-m", "medseg.federated.server_process", str(kit.root)]
    supervise([*command, "--organisation", kit.organisation], kit, tell)


def _cases(data: Path, bundle: Path) -> str:
    """How many cases train and validate here, as `medseg train` would take them."""
    from medseg.bundle.config import read_config

    said = read_config(bundle, "train")
    held = said.get("validation") or ()
    names = said.get("channels") or ()
    channels = tuple(names) if len(names) > 1 else ()
    parts = {part: len(datalist(str(data), part, held, channels=channels)) for part in ("train", "val")}
    if not parts["train"]:
        raise InputError("MS-J059", "no case would train: all of them are held out", file=data,
                         mend="look at `validation` in the bundle's configs/train.json")  # fmt: skip
    return f"{parts['train']} cases to train, {parts['val']} to validate"
