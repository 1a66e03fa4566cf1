"""The software bill of materials of this installation, in CycloneDX 1.6: libraries, the vendored viewer, model weights.

Made from what is installed, without a network; the same installation gives the same text. Security teams feed such a
bill to their scanners, such as Dependency-Track or Grype.
"""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from packaging.requirements import Requirement

import medseg
from medseg.bundle.shipped import config_path, shipped_bundles
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import Message

#: The one file that is no Python package and no weights, see its README.
NIIVUE = ("niivue.umd.js", "@niivue/niivue", "0.69.0")
_VIEWER = Path(medseg.__file__).parent / "reports" / "niivue"


def bill_of_materials() -> dict[str, Any]:
    """The bill as plain data: medseg, every installed library that it needs or can use, the viewer, shipped weights."""
    needs = _closure()
    libraries = [_library(name) for name in sorted(needs) if name != "medseg"]
    graph = [
        {"ref": _ref(name), "dependsOn": sorted(_ref(other) for other in others)}
        for name, others in sorted(needs.items())
    ]
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**_library("medseg"), "type": "application"}},
        "components": [*libraries, _viewer(), *_models()],
        "dependencies": graph,
    }


def _closure() -> dict[str, set[str]]:
    """Installed distribution -> those that it needs, from medseg with all its extras downwards; names as PyPI has them."""
    needs: dict[str, set[str]] = {}
    waiting = [("medseg", frozenset(_known("medseg")[1].get_all("Provides-Extra") or ()))]
    seen = set()
    while waiting:
        name, extras = waiting.pop()
        seen.add((name, extras))
        found = needs.setdefault(name, set())
        for other, wanted in _asked(name, extras):
            if _installed(other) is None:
                continue
            found.add(other)
            if (other, wanted) not in seen:
                waiting.append((other, wanted))
    return {name: others - {name} for name, others in needs.items()}


def _asked(name: str, extras: frozenset[str]) -> Iterator[tuple[str, frozenset[str]]]:
    for asked in _known(name)[2]:
        if asked.marker is None or any(asked.marker.evaluate({"extra": extra}) for extra in ("", *extras)):
            yield _normal(asked.name), frozenset(asked.extras)


@cache
def _installed(name: str) -> tuple[str, Message, tuple[Requirement, ...]] | None:
    """Version, metadata and requirements of a distribution, None where it is not installed."""
    try:
        told = metadata.metadata(name)
        asked = tuple(map(Requirement, metadata.requires(name) or ()))
    except metadata.PackageNotFoundError:
        return None
    return str(told["Version"]), cast("Message", told), asked


def _known(name: str) -> tuple[str, Message, tuple[Requirement, ...]]:
    found = _installed(name)
    assert found is not None
    return found


def _library(name: str) -> dict[str, Any]:
    version, told, _ = _known(name)
    licence = told.get("License-Expression")
    stated = licence or next(
        (c.rsplit(" :: ", 1)[1] for c in told.get_all("Classifier") or () if "License ::" in c), None
    )
    licences = [{"expression": licence}] if licence else [{"license": {"name": stated}}] if stated else []
    component = {"type": "library", "bom-ref": _ref(name), "name": name, "version": version}
    return {**component, "purl": _ref(name), **({"licenses": licences} if licences else {})}


def _viewer() -> dict[str, Any]:
    file, name, version = NIIVUE
    purl = f"pkg:npm/{name.replace('@', '%40')}@{version}"
    return {
        "type": "library",
        "bom-ref": purl,
        "name": name,
        "version": version,
        "purl": purl,
        "hashes": [_hash(_VIEWER / file)],
        "licenses": [{"license": {"id": "BSD-2-Clause"}}],
    }


def _models() -> Iterator[dict[str, Any]]:
    """The weights of the shipped bundles."""
    for name, root in shipped_bundles().items():
        path = config_path(root, "metadata")
        version = "" if path is None else str(json.loads(path.read_text(encoding="utf-8")).get("version", ""))
        for weights in sorted((root / "models").glob("*.safetensors")):
            yield {
                "type": "machine-learning-model",
                "bom-ref": f"bundle:{name}/{weights.stem}",
                "name": f"{name}/{weights.name}",
                "version": version,
                "hashes": [_hash(weights)],
            }


def _hash(path: Path) -> dict[str, str]:
    return {"alg": "SHA-256", "content": sha256(path)}


def _ref(name: str) -> str:
    return f"pkg:pypi/{name}@{_known(name)[0]}"


def _normal(name: str) -> str:
    """As PEP 503 spells it."""
    return re.sub(r"[-_.]+", "-", name).lower()
