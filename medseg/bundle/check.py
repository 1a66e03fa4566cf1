"""Does a bundle keep its promises: to medseg, and to MONAI Label, MONAI Deploy and MONAI's federated client.

`check_bundle` runs nothing that the gate would refuse, and looks at everything it can: one `Problem` each, so that
one run shows all there is to mend.
"""

from __future__ import annotations

from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.check_configs import config_problems
from medseg.bundle.check_instances import INSTANCES, instance_problems, kind_problems
from medseg.bundle.config import read_config
from medseg.bundle.described import read_channels, read_labels
from medseg.bundle.domain import Domain
from medseg.bundle.export_record import RECORD, read_exported, stale_exports
from medseg.bundle.gate import GatedParser
from medseg.bundle.load import build, load_bundle
from medseg.bundle.metadata import fake_shape, metadata_problems
from medseg.bundle.shipped import config_path, find_bundle
from medseg.bundle.uncertainty import read_declared
from medseg.bundle.versions import check_versions
from medseg.bundle.weights import find_weights, load_into, read_weights
from medseg.errors import MedsegError
from medseg.networks.truth import truth_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MAX_WEIGHTS_MB = 20
_FILES = ("LICENSE", "configs/inference.json", "configs/train.json", "docs/README.md", "docs/data_license.txt")
_CARD = {"licence": ("licence", "license"), "limits": ("limit",), "intended use": ("research", "intended use")}


@dataclass(frozen=True)
class Problem:
    """One promise that a bundle does not keep.

    Args:
        code: MS-B3xx (or the code of the error that loading raised).
        message: what was found.
        file: path inside the bundle, '' for the whole.
        warning: the bundle works, but not everywhere or not as well as it could.
    """

    code: str
    message: str
    file: str = ""
    warning: bool = False

    def __str__(self) -> str:
        return f"{self.code} {self.file + ': ' if self.file else ''}{self.message}"


def check_bundle(path_or_name: str | Path) -> list[Problem]:
    """Every problem of a bundle, worst first; [] when it keeps all its promises. A recipe needs no weights.

    Raises:
        BundleError: there is no bundle there at all, or its configs are no JSON.
    """
    root = find_bundle(path_or_name)
    metadata = read_config(root, "metadata")
    found = [
        *_files(root),
        *_name(root),
        *(Problem("MS-B302", m, "configs/metadata.json") for m in metadata_problems(metadata)),
    ]
    found += _raised(lambda: check_versions(metadata, root), "configs/metadata.json")
    if config_path(root, "inference") is not None:
        inference = read_config(root, "inference")
        found += _raised(lambda: read_channels(inference, metadata, root), "configs/inference.json")
        found += _raised(lambda: read_labels(inference, metadata, root), "configs/inference.json")
        found += _domain(inference)
    for code, message, file, warning in config_problems(root, metadata):
        found.append(Problem(code, message, file, warning))
    found += [Problem("MS-B317", m, "configs/inference.json") for m in kind_problems(root, metadata)]
    found += _card(root)
    found += _network(root, metadata)
    found += _raised(lambda: read_exported(root), RECORD, warning=True) or _exported(root)
    if all(problem.warning for problem in found):
        found += _uncertainty(root)
    return sorted(found, key=lambda problem: problem.warning)


def _files(root: Path) -> Iterator[Problem]:
    for name in _FILES:
        if not (root / name).is_file():
            yield Problem("MS-B301", "is missing", name, warning=name.startswith("docs/data"))


def _name(root: Path) -> Iterator[Problem]:
    if "segmentation" not in root.name and "detection" not in root.name:
        yield Problem("MS-B303", f"MONAI Label tells what a bundle does from its folder's name: {root.name}", "", True)


def _domain(inference: dict[str, Any]) -> list[Problem]:
    if inference.get("domain") is None:
        message = 'declares no `domain`: every output will be marked "domain not declared" (medseg.bundle.measure_domain writes it)'
        return [Problem("MS-B304", message, "configs/inference.json", warning=True)]
    return _raised(lambda: Domain.from_json(inference["domain"]), "configs/inference.json")


def _card(root: Path) -> Iterator[Problem]:
    path = root / "docs" / "README.md"
    text = path.read_text(encoding="utf-8").lower() if path.is_file() else None
    for what, words in _CARD.items():
        if text is not None and not any(word in text for word in words):
            yield Problem("MS-B305", f"the model card says nothing of {what}", "docs/README.md", warning=True)


def _network(root: Path, metadata: dict[str, Any]) -> list[Problem]:
    """The network builds from either config, takes the weights and gives what metadata.json says."""
    found: list[Problem] = []
    for name in ("inference", "train"):
        if config_path(root, name) is None:
            continue
        file = f"configs/{name}.json"
        try:
            parser = GatedParser(read_config(root, name) | {"bundle_root": str(root), "device": "cpu"}, root)
            network = build(parser, ("network_def",), root)
            if not isinstance(network, torch.nn.Module):
                found.append(Problem("MS-B306", "has no network_def that builds a network", file))
                continue
            if name == "inference":
                found += _weights(root, network)
            found += [Problem("MS-B307", message, file) for message in _forward(network.eval(), metadata)]
        except MedsegError as error:
            found.append(Problem(error.code, error.what, file))
    return found


def _weights(root: Path, network: torch.nn.Module) -> list[Problem]:
    best = find_weights(root)
    if best is None:
        return []
    found = []
    paths = [p for n in ("model.safetensors", "model.pt") if (p := root / "models" / n).is_file()]
    if len(paths) < 2:
        message = f"only {best.name}: MONAI reads model.pt, safetensors is the safe form; ship both"
        found.append(Problem("MS-B308", message, "models", warning=True))
    every = [path for path in (root / "models").iterdir() if path.suffix in (".safetensors", ".pt")]
    size = sum(path.stat().st_size for path in every) / 1e6
    if size > MAX_WEIGHTS_MB:
        found.append(Problem("MS-B309", f"weights are {size:.1f} MB, {MAX_WEIGHTS_MB} MB at most", "models", True))
    states = []
    for path in paths:
        try:
            state = read_weights(path)
            load_into(network, state, path)
        except MedsegError as error:
            found.append(Problem(error.code, error.what, f"models/{path.name}"))
            continue
        states.append(state)
    if len(states) == 2:
        one, two = states
        if any(not torch.equal(one[key], two[key]) for key in one):
            found.append(Problem("MS-B310", "model.pt and model.safetensors hold different weights", "models"))
    return found


def _exported(root: Path) -> list[Problem]:
    """No exported file is of other weights than the bundle's."""
    mend = "medseg predict --engine refuses it: export it again"
    return [Problem("MS-B123", f"{what}; {mend}", file, True) for file, what in stale_exports(root)]


def _uncertainty(root: Path) -> list[Problem]:
    """What is declared of uncertainty is understood, and every member of the ensemble loads."""
    declared = read_config(root, "inference").get("uncertainty")
    if find_weights(root) is None:
        return _raised(lambda: read_declared(declared, root), "configs/inference.json")
    return _raised(lambda: load_bundle(root).members(), "configs/inference.json")


def _forward(network: torch.nn.Module, metadata: dict[str, Any]) -> Iterator[str]:
    """A random image of metadata.json's smallest shape, as MONAI's verify_net_in_out makes it."""
    try:
        described = metadata["network_data_format"]
        image, pred = described["inputs"]["image"], described["outputs"]["pred"]
        shape = (1, int(image["num_channels"]), *fake_shape(image["spatial_shape"]))
        wanted = int(pred["num_channels"])
    except (KeyError, TypeError, ValueError):
        return  # metadata_problems has said so
    try:
        with torch.no_grad():
            output = network(torch.rand(shape), **_as_in_validation(network, shape[2:]))
    except (RuntimeError, ValueError, IndexError) as error:
        yield f"the network does not take the smallest shape that metadata.json names, {shape[2:]}: {error}"
        return
    if pred.get("format") == INSTANCES:
        yield from instance_problems(output, network)
    elif not isinstance(output, torch.Tensor):
        yield f"the network gives a {type(output).__name__} in eval mode, not one tensor"
    elif output.shape[1] != wanted:
        yield f"the network gives {output.shape[1]} channels, metadata.json says {wanted}"
    elif output.dtype != torch.float32:
        yield f"the network gives {output.dtype}, not float32"


def _as_in_validation(network: torch.nn.Module, shape: tuple[int, ...]) -> dict[str, Any]:
    """For a network that takes what is true: nothing. It then outlines the best alone, not all that noise may be."""
    if "truth" not in signature(network.forward).parameters:
        return {}
    none = torch.zeros(1, dtype=torch.int64)
    return {"truth": [truth_of(torch.zeros(shape, dtype=torch.int64), none, none)]}


def _raised(action: Any, file: str, *, warning: bool = False) -> list[Problem]:
    try:
        action()
    except MedsegError as error:
        return [Problem(error.code, error.what, file, warning)]
    return []
