"""A simulation's sites compared before its first round, in one process: what `medseg federate stats` and `join` do for real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.bundle.check_instances import INSTANCES
from medseg.bundle.config import read_config
from medseg.errors import InputError
from medseg.federated.stats.exchange import statistics_of
from medseg.federated.stats.reference import channels_and_labels

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from medseg.federated.simulation.sites import Site
    from medseg.federated.stats.agreement import Agreement


def first_look(sites: Sequence[Site], root: Path, tell: Callable[[str], object]) -> Agreement | None:
    """Compare the sites, and tell what was found, a line each.

    Args:
        sites: of the simulation.
        root: the bundle that is to be trained.
        tell: hears the lines.

    Returns:
        None of a bundle for instances, whose label maps hold numbers of objects and no structures.

    Raises:
        InputError: MS-J177 a site must not train as it is, and what the readers refuse.
    """
    outputs = (read_config(root, "metadata").get("network_data_format") or {}).get("outputs") or {}
    if (outputs.get("pred") or {}).get("format") == INSTANCES:
        return None
    channels, labels = channels_and_labels(root)
    found = statistics_of(
        {site.name: site.data for site in sites},
        channels=channels,
        labels=labels,
        held_out=[site.name for site in sites if site.held_out],
        cases={site.name: site.cases for site in sites if site.cases},
    )
    for one in found.findings:
        tell(f"{one.verdict}  {one.site}  {one.code}  {one.what}")
    failed = [one for one in found.findings if one.verdict == "fail"]
    if failed:
        names = ", ".join(sorted({one.site for one in failed}))
        mend = f"{failed[0].mend}; --no-look trains all the same"
        raise InputError("MS-J177", f"not fit to train as they are: {names}; first {failed[0].what}", mend=mend)
    return found
