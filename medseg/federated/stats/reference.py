"""What a bundle says of the data that it is for, as a fingerprint without numbers: what a site is compared with before there
is an agreement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.bundle.config import read_config
from medseg.bundle.described import read_channels, read_labels
from medseg.bundle.shipped import find_bundle
from medseg.federated.stats.fingerprint import ChannelPrint, Fingerprint, Structure

if TYPE_CHECKING:
    from pathlib import Path

    from medseg.labels import LabelTable


def of_bundle(bundle: str | Path) -> Fingerprint:
    """Its channels, structures and, where its domain says so, modality; nothing else is known of its cases.

    Raises:
        BundleError: MS-B107, MS-B108 it does not say what its channels or labels are.
    """
    root = find_bundle(bundle)
    config, metadata = read_config(root, "inference"), read_config(root, "metadata")
    labels = read_labels(config, metadata, root)
    domain = config.get("domain") if isinstance(config.get("domain"), dict) else {}
    terms = domain.get("modality", ()) if isinstance(domain, dict) else ()
    return Fingerprint(
        cases=0,
        at_least=0,
        unreadable=0,
        modality={str(term): 0 for term in terms},
        spacing_mm=None,
        extent_mm=None,
        channels=tuple(ChannelPrint(name, {}) for name in read_channels(config, metadata, root)),
        structures=tuple(Structure(row.name, row.value, None, mirror=row.mirror) for row in labels),
    )


def channels_and_labels(bundle: str | Path | None) -> tuple[tuple[str, ...], LabelTable | None]:
    """Names of channels, () of one, and the labels, as `survey` takes them; of no bundle nothing.

    Raises:
        BundleError: as `of_bundle`.
    """
    if bundle is None:
        return (), None
    root = find_bundle(bundle)
    config, metadata = read_config(root, "inference"), read_config(root, "metadata")
    names = read_channels(config, metadata, root)
    return names if len(names) > 1 else (), read_labels(config, metadata, root)
