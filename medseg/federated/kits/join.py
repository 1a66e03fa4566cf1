"""`medseg federate join KIT --data DIR`, at the hospital: look, write the site's own file, be the site until it is ended.

Where the data lies is written into KIT/local/medseg_site.yaml and read by this site's own processes. It stands in no job,
in no message, and in no file of the server.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from medseg.bundle.config import read_config
from medseg.bundle.shipped import find_bundle
from medseg.errors import BundleError, InputError, MedsegError
from medseg.federated.installed import require_nvflare
from medseg.federated.kits import preflight
from medseg.federated.kits.progress import latest
from medseg.federated.kits.supervise import supervise
from medseg.federated.site_file import FILE, read_site_file
from medseg.federated.stats.regard import CONSORTIUM, regard
from medseg.training.datalist import datalist
from medseg.writers.atomic import write_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from medseg.federated.kits.kit import Kit
    from medseg.workflows.doctor import Check

#: What the site's data look like beside the others', in the kit; for the site alone.
PICTURE = "medseg_site.png"


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


def ready(
    kit: Kit,
    data: Path,
    bundle: Path,
    *,
    held_out: bool = False,
    consortium: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> list[Check]:
    """Everything that is looked at before a site starts, in order; with a picture, KIT/medseg_site.png.

    Args:
        kit: of the site.
        data: folder of its cases.
        bundle: folder of the bundle that it trains.
        held_out: the site tests and never trains.
        consortium: what `medseg federate stats` wrote for all; None: KIT/local/consortium.json where there is one.
        progress: called with (cases read, cases in all).

    Raises:
        MissingExtraError: MS-J053 NVFLARE is not installed.
    """
    require_nvflare()
    found = list(preflight.machine(kit))
    found.append(preflight.bundle(kit, bundle))
    found.append(preflight.data_check(lambda: _cases(data, bundle, held_out=held_out)))
    if found[-1].verdict == "fail":
        return found
    sent = kit.local / CONSORTIUM
    others = consortium or (sent if sent.is_file() else None)
    try:
        return found + regard(kit.name, data, bundle, kit.root / PICTURE, consortium=others, progress=progress)
    except MedsegError as error:
        return [*found, preflight.data_check(_raiser(error))]


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


def write_site_file(kit: Kit, data: Path | None, bundle: Path | None, *, held_out: bool = False) -> Path:
    """Write where this site's data and bundle lie, for its own processes; nobody else on the machine may read it.

    What else the site's owner wrote into it (`work`, `validation`, `look`) stays.
    """
    import yaml

    path = kit.local / FILE
    old = read_site_file(kit.local)
    said = {
        "data": "" if data is None else str(data.expanduser().resolve()),
        "bundle": old.bundle if bundle is None else str(bundle.expanduser().resolve()),
        "work": old.work,
        "validation": list(old.validation),
        "held_out": held_out,
        "look": old.look,
    }
    write_text(path, yaml.safe_dump(said, allow_unicode=True, sort_keys=False), private=True)
    return path


def be_site(kit: Kit, tell: Callable[[str], object], show: Callable[[str], object] = lambda _: None) -> None:
    """Run the site's process until it is ended; errors as for `supervise`.

    Args:
        kit: of the site.
        tell: hears of each round that begins here, and when the process is begun again.
        show: hears how far the round is, often.
    """
    work = Path(read_site_file(kit.local).work or kit.root / "medseg_work")
    heard = [latest(work)]

    def watch() -> None:
        found = latest(work)
        if found is not None and found != heard[0]:
            if heard[0] is None or (found.run, found.round) != (heard[0].run, heard[0].round):
                tell(f"{found.run}: round {found.round + 1}")
            heard[0] = found
            show(str(found))

    command = [sys.executable, "-u", "-m", "medseg.federated.kits.site_process", str(kit.root)]
    supervise([*command, "--name", kit.name, "--organisation", kit.organisation], kit, tell, watch)


def be_server(kit: Kit, tell: Callable[[str], object]) -> None:
    """Run the server's process until it is ended; errors as for `supervise`, and MS-J053."""
    from medseg.federated.kits.prepare import write_server_resources

    require_nvflare()
    write_server_resources(kit)
    command = [sys.executable, "-u", "-m", "medseg.federated.kits.server_process", str(kit.root)]
    supervise([*command, "--organisation", kit.organisation], kit, tell)


def _cases(data: Path, bundle: Path, *, held_out: bool) -> str:
    """How many cases train and validate here, as `medseg train` would take them."""
    said = read_config(bundle, "train")
    names = said.get("channels") or ()
    channels = tuple(names) if len(names) > 1 else ()
    held = said.get("validation") or ()
    parts = {part: len(datalist(str(data), part, held, channels=channels)) for part in ("train", "val")}
    if held_out:
        return f"{sum(parts.values())} cases to test with"
    if not parts["train"]:
        raise InputError("MS-J059", "no case would train: all of them are held out", file=data,
                         mend="look at `validation` in the bundle's configs/train.json")  # fmt: skip
    return f"{parts['train']} cases to train, {parts['val']} to validate"


def _raiser(error: MedsegError) -> Callable[[], str]:
    def fail() -> str:
        raise error

    return fail
