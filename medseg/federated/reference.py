"""What a bundle says of the data that it is for, as a fingerprint without numbers: what a site is compared with before there
is an agreement.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from medseg.bundle.config import read_config
from medseg.bundle.described import read_channels, read_labels
from medseg.federated.fingerprint import ChannelPrint, Fingerprint, Structure

if TYPE_CHECKING:
    from pathlib import Path


def of_bundle(bundle: Path) -> Fingerprint:
    """Its channels, structures and, where its domain says so, modality; nothing else is known of its cases.

    Raises:
        BundleError: MS-B107, MS-B108 it does not say what its channels or labels are.
    """
    config, metadata = read_config(bundle, "inference"), read_config(bundle, "metadata")
    labels = read_labels(config, metadata, bundle)
    domain = config.get("domain") if isinstance(config.get("domain"), dict) else {}
    terms = domain.get("modality", ()) if isinstance(domain, dict) else ()
    return Fingerprint(
        cases=0,
        at_least=0,
        unreadable=0,
        modality={str(term): 0 for term in terms},
        spacing_mm=None,
        extent_mm=None,
        channels=tuple(ChannelPrint(name, {}) for name in read_channels(config, metadata, bundle)),
        structures=tuple(Structure(row.name, row.value, None, mirror=row.mirror) for row in labels),
    )
