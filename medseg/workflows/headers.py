"""What the headers of all cases say is told before torch, MONAI and the bundle's network are loaded."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from medseg.bundle.config import read_config
from medseg.bundle.described import read_channels
from medseg.bundle.shipped import find_bundle
from medseg.errors import InputError, MedsegError
from medseg.readers.cases import check_cases
from medseg.workflows.identity.cases import identify
from medseg.workflows.identity.guard import guarded
from medseg.workflows.inputs import cases_of
from medseg.workflows.outcome import Failure

if TYPE_CHECKING:
    from collections.abc import Sequence
    from os import PathLike
    from pathlib import Path

    from medseg.bundle.load import Bundle
    from medseg.readers.cases import Case
    from medseg.readers.options import ReadOptions
    from medseg.workflows.identity.cases import Identity
    from medseg.workflows.reporter import Reporter


def channels_of(bundle: str | PathLike[str] | Bundle) -> tuple[tuple[str, ...] | None, MedsegError | None]:
    """The channels that a bundle wants, by its configs alone; or None and why its configs do not say."""
    if not isinstance(bundle, str | os.PathLike):
        return bundle.channels, None
    try:
        root = find_bundle(os.fspath(bundle))
        metadata = read_config(root, "metadata")
        return read_channels(read_config(root, "inference"), metadata, root), None
    except MedsegError as error:
        return None, error


def looked_at(
    source: Path,
    out: Path,
    bundle: str | PathLike[str] | Bundle,
    options: ReadOptions,
    hear: Reporter,
    *,
    mode: str,
    key_file: Path | None,
    write: bool,
) -> tuple[list[Case], Identity]:
    """Find and name the cases of a run, judge all of them by their headers, and tell at once what is refused.

    Args:
        source: what the user named.
        out: the folder of results.
        bundle: that the cases are for; not loaded.
        options: the readers' options; `strict`: nothing is begun while any case is refused.
        hear: is told of what is refused.
        mode: one of `identity.cases.MODES`.
        key_file: the key of pseudonyms; None: beside the input, or in a folder above it.
        write: make the key where there is none.

    Returns:
        The cases, each with its refusal as `error`: it fails when its turn comes, and the others are done.

    Raises:
        InputError: MS-C130 `strict`, and something is refused; what finding the cases raises.
        BundleError: what is wrong with the bundle's configs, after the refusals were told.
        UsageError, OutputError: of the key, see `identify`.
    """
    channels, broken = channels_of(bundle)
    try:
        cases, identity = identify(
            lambda: cases_of(source, out, channels or (), options),
            source,
            out,
            mode=mode,
            key_file=key_file,
            write=write and broken is None,
        )
    except MedsegError as error:
        raise broken or error from None  # without the bundle's channels nobody knows what to look for
    judged = check_cases(cases, channels)
    with guarded(lambda: identity.whole(cases)):
        _tell(judged, identity, hear, source, strict=options.strict)
    if broken is not None:
        raise broken
    return judged, identity


def _tell(cases: Sequence[Case], identity: Identity, hear: Reporter, source: Path, *, strict: bool) -> None:
    refused = [
        Failure.of(case.name, case.error, case.images[0] if case.images else "", identity.of(case))
        for case in cases
        if isinstance(case.error, MedsegError)
    ]
    if refused:
        hear.refused(refused, len(cases))
    if refused and strict:
        raise InputError(
            "MS-C130",
            f"{len(refused)} of {len(cases)} cases are refused by their headers, and --strict begins nothing then",
            file=source,
            mend="mend them or take them out, or leave out --strict: the others are done then",
        )
