"""The exchange of fingerprints, without NVFLARE: what is asked, what a site tells, and all of it in one process.

Twice: first quantiles, from which the server sets bins that all sites share; then the same with histograms in these bins.
A message is `{"fingerprint": ..., "held_out": ...}`, the question `{"at_least": ..., "bins": [[unit, low, high, n], ...]}`.
"""

from __future__ import annotations

from dataclasses import astuple
from typing import TYPE_CHECKING, Any

from medseg.errors import InputError
from medseg.federated.stats.agreement import agree, bins_for
from medseg.federated.stats.fingerprint import AT_LEAST, Bins, fingerprint_of
from medseg.federated.stats.fingerprint_json import from_json, to_json
from medseg.federated.stats.survey import survey

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from pathlib import Path

    from medseg.federated.stats.agreement import Agreement
    from medseg.federated.stats.fingerprint import Fingerprint
    from medseg.federated.stats.survey import Survey
    from medseg.labels import LabelTable

_KEYS = {"fingerprint", "held_out"}


def question(at_least: int, bins: Sequence[Bins] = ()) -> dict[str, Any]:
    """What the server asks.

    Args:
        at_least: cases below which a site is to say nothing.
        bins: of each channel; () asks for no histograms.
    """
    return {"at_least": at_least, "bins": [list(astuple(one)) for one in bins]}


def told(seen: Survey, asked: Mapping[str, Any], at_least: int = AT_LEAST, *, held_out: bool = False) -> dict[str, Any]:
    """What a site answers.

    Args:
        seen: its cases.
        asked: of `question`.
        at_least: the site's own; the server can ask for more.
        held_out: whether the site is tested on only.

    Raises:
        InputError: MS-J170 the question is none, or the answer would hold what does not belong there.
    """
    try:
        bins = [Bins(str(unit), float(low), float(high), int(n)) for unit, low, high, n in asked["bins"]]
        most = max(at_least, int(asked["at_least"]))
    except (KeyError, TypeError, ValueError) as error:
        mend = "use the same version of medseg at the server"
        raise InputError("MS-J170", "the server asks for no statistics that this site knows", mend=mend) from error
    return remade({"fingerprint": to_json(fingerprint_of(seen, bins, most)), "held_out": held_out})


def remade(message: Any) -> dict[str, Any]:
    """A site's answer made anew of what belongs there, or refused.

    Raises:
        InputError: MS-J170 anything else.
    """
    one, held_out = heard(message)
    return {"fingerprint": to_json(one), "held_out": held_out}


def heard(message: Any) -> tuple[Fingerprint, bool]:
    """A site's fingerprint, and whether it is held out.

    Raises:
        InputError: MS-J170 it holds anything else.
    """
    if not isinstance(message, dict) or set(message) != _KEYS or not isinstance(message["held_out"], bool):
        mend = "use the same version of medseg at the server and the sites"
        raise InputError("MS-J170", "this is no answer to a question for statistics", mend=mend)
    return from_json(message["fingerprint"]), message["held_out"]


def statistics_of(
    sites: Mapping[str, Path],
    *,
    channels: Sequence[str] = (),
    labels: LabelTable | None = None,
    held_out: Collection[str] = (),
    cases: Mapping[str, Collection[str]] | None = None,
    at_least: int = AT_LEAST,
    progress: Callable[[str, int, int], None] | None = None,
) -> Agreement:
    """All of it in this process, for folders that lie on this machine.

    Args:
        sites: name -> folder of its cases.
        channels: their names; () takes what each dataset says.
        labels: of the bundle that is to be trained.
        held_out: sites that are tested on only.
        cases: site -> names of those that it has; of other sites all count.
        at_least: cases below which nothing is said of a site.
        progress: called with (site, cases read, cases in all).

    Raises:
        InputError: a site's folder cannot be used, see `survey`.
        ValueError: no site trains.
    """
    surveys = {
        name: survey(
            folder,
            channels,
            labels=labels,
            cases=(cases or {}).get(name),
            progress=None if progress is None else _progress_of(name, progress),
        )
        for name, folder in sites.items()
    }
    training = [one for name, one in surveys.items() if name not in held_out]
    bins = bins_for([heard(told(one, question(at_least), at_least))[0] for one in training])
    answers = {name: heard(told(one, question(at_least, bins), at_least))[0] for name, one in surveys.items()}
    return agree(answers, labels, held_out)


def _progress_of(name: str, progress: Callable[[str, int, int], None]) -> Callable[[int, int], None]:
    return lambda done, of: progress(name, done, of)
