"""Export a bundle's networks to files that run without torch, each checked against torch before it is kept.

    models/model.pt2               torch.export, for torch.export.load in Python or C++
    models/model.onnx              ONNX, weights included
    models/model.xml, model.bin    OpenVINO
    models/exported.json           what they were made from, and how well they agreed (export_record.py)

Files are made and checked elsewhere and then put into the bundle: one that fails the check never lies there.
"""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from medseg.bundle.export_check import Checked, batches_of, compare, milliseconds, require, torch_outputs
from medseg.bundle.export_engine import refuse_instances
from medseg.bundle.export_formats import FORMATS, NEEDS, Graph, to_graph, write_onnx, write_openvino, write_pt2
from medseg.bundle.export_record import add_exported, fingerprint
from medseg.bundle.weights import require_weights
from medseg.errors import BundleError, UsageError
from medseg.inferers.engine import Engine, library
from medseg.writers.atomic import sha256, write_bytes

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor, nn

    from medseg.bundle.load import Bundle


@dataclass(frozen=True)
class Exported:
    """One exported network.

    Args:
        files: inside the bundle, the one to open first.
        format: one of `FORMATS`.
        takes: (N, C, *space), None where any size will do.
        checked: against torch.
        torch_ms: one patch by torch in fp32.
        megabytes: of all its files.
    """

    files: tuple[str, ...]
    format: str
    takes: tuple[int | None, ...]
    checked: Checked
    torch_ms: float
    megabytes: float

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return {**asdict(self), "files": list(self.files), "takes": list(self.takes)}


def silent(text: str) -> None:
    """Hear what is being done, and say nothing."""
    del text


def choose_formats(text: str | None) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """(formats to write, formats left out because a package is missing).

    Args:
        text: 'pt2,onnx,openvino' or a part of it: what is missing is an error then; None: all that can be written.

    Raises:
        UsageError: MS-U315 an unknown format.
        MissingExtraError: MS-U310 a package of the extra is not there.
    """
    if text is None:
        missing = tuple(name for name in FORMATS if not _installed(name))
        return tuple(name for name in FORMATS if name not in missing), missing
    wanted = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
    if not wanted or not set(wanted) <= set(FORMATS):
        raise UsageError("MS-U315", f"--format {text!r} is not known", mend=f"use one or more of {','.join(FORMATS)}")
    for name in wanted:
        for package in NEEDS[name]:
            library(package)
    return wanted, ()


def export_bundle(
    bundle: Bundle,
    patches: Sequence[Tensor],
    formats: Sequence[str],
    *,
    regions: Sequence[int] | None = None,
    any_size: bool = False,
    members: bool = False,
    hear: Callable[[str], None] = silent,
) -> list[Exported]:
    """Export a bundle's network, check the files against torch, and put them into its models/.

    Args:
        bundle: loaded on the CPU.
        patches: (C, *roi) real windows, preprocessed.
        formats: of `FORMATS`.
        regions: label values of sigmoid channels; None for classes.
        any_size: the bundle's inferer cuts windows as large as the image, so a fixed size is of no use.
        members: export the other networks of its ensemble too.
        hear: told what is being done.

    Raises:
        BundleError: MS-B127 it finds instances; MS-B124 the network cannot be exported; MS-B125 an exported file does not
            give torch's labels.
        MissingExtraError: MS-U310 a package of the extra is not there.
        OutputError: models/ cannot be written.
    """
    refuse_instances(bundle)
    networks = [(require_weights(bundle.root), bundle.network)]
    if members:
        others = [bundle.root / name for name in bundle.uncertainty.weights]
        networks += zip(others, bundle.members()[1:], strict=True)
    found = []
    for weights, network in networks:
        hear(f"exporting {weights.relative_to(bundle.root).as_posix()}")
        graph = to_graph(network, patches[0], bundle.root)
        if any_size and any(n is not None for n in graph.shape[2:]):
            raise BundleError(
                "MS-B124",
                f"its network exports with windows of one size only, {graph.shape[2:]}, and its inferer has no roi_size",
                file=bundle.root,
                mend="name medseg.inferers.SlidingWindowInferer with a roi_size in its inference.json",
            )
        batches = batches_of(patches, graph.shape)
        wanted = torch_outputs(network, batches)
        torch_ms = milliseconds(lambda batch, network=network: torch_outputs(network, [batch]), batches[0])
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
            made = _written(graph, Path(folder) / weights.stem, formats)
            for name, path in made.items():
                hear(f"checking {path.name} against torch")
                found.append(_kept(bundle, weights, network, graph, name, path, (batches, wanted, regions), torch_ms))
    return found


def _written(graph: Graph, stem: Path, formats: Sequence[str]) -> dict[str, Path]:
    """Format -> its first file."""
    paths = {name: stem.with_suffix(FORMATS[name][0]) for name in FORMATS}
    if "pt2" in formats:
        write_pt2(graph, paths["pt2"])
    if {"onnx", "openvino"} & set(formats):
        write_onnx(graph, paths["onnx"])
    if "openvino" in formats:
        write_openvino(paths["onnx"], paths["openvino"])
    return {name: paths[name] for name in FORMATS if name in formats}


def _kept(
    bundle: Bundle,
    weights: Path,
    network: nn.Module,
    graph: Graph,
    name: str,
    path: Path,
    against: tuple[Sequence[Tensor], Sequence[Tensor], Sequence[int] | None],
    torch_ms: float,
) -> Exported:
    """Check one file, put it into the bundle and write down what it is."""
    if name == "pt2":
        module = torch.export.load(path).module()
        engine, version, takes = module, f"torch {torch.__version__}", graph.shape
    else:
        engine = Engine(path, name)
        version, takes = engine.version, engine.shape
    checked = compare(engine, *against)
    require(checked, path.name)
    del engine  # holds the file open on some systems
    sources = [path.with_suffix(suffix) for suffix in FORMATS[name]]
    targets = [weights.with_suffix(suffix) for suffix in FORMATS[name]]
    for source, target in reversed(list(zip(sources, targets, strict=True))):
        write_bytes(target, source.read_bytes())
    files = tuple(target.relative_to(bundle.root).as_posix() for target in targets)
    row = {
        "format": name,
        "takes": list(takes),
        "sha256": {file: sha256(bundle.root / file) for file in files},
        "weights": weights.relative_to(bundle.root).as_posix(),
        "weights_sha256": sha256(weights),
        "network_sha256": fingerprint(network),
        "versions": {"torch": torch.__version__, "engine": version},
        "verified": {key: value for key, value in asdict(checked).items() if key != "ms"},
    }
    add_exported(bundle.root, {files[0]: row})
    return Exported(files, name, tuple(takes), checked, torch_ms, sum(t.stat().st_size for t in targets) / 1e6)


def _installed(name: str) -> bool:
    from importlib.util import find_spec

    return all(find_spec(package) is not None for package in NEEDS[name])
