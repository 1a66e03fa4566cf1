"""What a bundle asks for and whether it may have it, told without running or building anything of it."""

from __future__ import annotations

import zipfile
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from medseg.bundle.config import read_config
from medseg.bundle.gate import GatedParser, refusals
from medseg.bundle.shipped import config_path, find_bundle
from medseg.bundle.trust import fingerprint, is_trusted
from medseg.errors import BundleError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

#: Configs that commands of medseg read.
_CONFIGS = ("inference", "train")
_WEIGHTS = (".safetensors", ".pt", ".pth", ".ts", ".onnx", ".ckpt", ".pkl")


@dataclass(frozen=True)
class Verdict:
    """See the file's docstring.

    Args:
        root: the bundle's folder.
        version: that metadata.json names.
        word: 'safe', 'needs trust', 'trusted', or 'changed' since it was trusted.
        why: in one sentence.
        refused: config -> what of it the gate does not do without trust, with its place; one that predicts is not hindered
            by what train.json asks for.
        targets: component, as the configs name it -> how often.
        expressions: how many `$` expressions there are, imports among them.
        imports: the import statements.
        scripts: Python files in it, which nothing runs without trust.
        weights: file -> in which form they are.
        hashes: file -> SHA-256.
    """

    root: Path
    version: str
    word: str
    why: str
    refused: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    targets: Mapping[str, int] = field(default_factory=dict)
    expressions: int = 0
    imports: tuple[str, ...] = ()
    scripts: tuple[str, ...] = ()
    weights: Mapping[str, str] = field(default_factory=dict)
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def usable(self) -> bool:
        """Whether `medseg predict` would take its config as it is."""
        return self.word in ("safe", "trusted")

    def to_json(self) -> dict[str, Any]:
        """The verdict as plain data."""
        return {
            "bundle": self.root.name,
            "version": self.version,
            "verdict": self.word,
            "why": self.why,
            "refused": {name: list(rows) for name, rows in self.refused.items()},
            "targets": dict(self.targets),
            "expressions": self.expressions,
            "imports": list(self.imports),
            "scripts": list(self.scripts),
            "weights": dict(self.weights),
            "sha256": dict(self.hashes),
        }


def inspect_bundle(path_or_name: str | Path) -> Verdict:
    """Read a bundle's configs and files as data, and say what of them medseg would run.

    Args:
        path_or_name: a bundle's folder, or the name of a shipped one.

    Raises:
        BundleError: there is no bundle, or a config is no JSON or YAML.
    """
    root = find_bundle(path_or_name)
    metadata = read_config(root, "metadata")
    refused: dict[str, tuple[str, ...]] = {}
    targets: Counter[str] = Counter()
    expressions: list[str] = []
    for name in _CONFIGS:
        if config_path(root, name) is None:
            continue
        config = read_config(root, name) | {"bundle_root": str(root), "_meta_": metadata}
        targets.update(str(value["_target_"]) for value in _tables(config) if "_target_" in value)
        expressions += [text for text in _texts(config) if text.startswith("$")]
        if found := _refused(config, root):
            refused[f"configs/{name}"] = found
    word, why = _word(root, refused)
    hashes = fingerprint(root)
    return Verdict(
        root=root,
        version=str(metadata.get("version", "")),
        word=word,
        why=why,
        refused=refused,
        targets=dict(sorted(targets.items())),
        expressions=len(expressions),
        imports=tuple(
            dict.fromkeys(text[1:] for text in expressions if text[1:].lstrip().startswith(("import ", "from ")))
        ),
        scripts=tuple(name for name in hashes if name.endswith((".py", ".so", ".pyd"))),
        weights={name: form_of(root / name) for name in hashes if name.endswith(_WEIGHTS)},
        hashes=hashes,
    )


def form_of(path: Path) -> str:
    """In which form a file of weights is, by its name and the list of what a zip file holds; it is not loaded."""
    if path.suffix == ".safetensors":
        return "safetensors: numbers alone"
    if path.suffix == ".onnx":
        return "ONNX: a graph"
    if path.suffix == ".ts":
        return "TorchScript: a program, which is not run"
    try:
        with zipfile.ZipFile(path) as archive:
            inside = archive.namelist()
    except (OSError, zipfile.BadZipFile):
        return "an old pickle, read with weights_only alone"
    if any("/code/" in name for name in inside):
        return "TorchScript: a program, which is not run"
    return "a pickle of torch, read with weights_only alone"


def _refused(config: dict[str, Any], root: Path) -> tuple[str, ...]:
    parser = GatedParser(config, root)
    try:
        parser.resolve_macro_and_relative_ids()
    except BundleError as error:
        return (error.what,)
    except (KeyError, ValueError, TypeError, IndexError, RecursionError) as error:
        return (f"its macros lead nowhere ({type(error).__name__}: {error})",)
    return tuple(map(str, refusals(parser.config)))


def _word(root: Path, refused: Mapping[str, tuple[str, ...]]) -> tuple[str, str]:
    try:
        trusted = is_trusted(root)
    except BundleError as error:
        if error.code != "MS-B142":
            raise
        return "changed", f"{error.what}: medseg predict refuses it until you trust it again"
    if trusted:
        return "trusted", "you trust every file of it as it is now, so its code runs"
    if "configs/inference" in refused:
        return "needs trust", "medseg predict refuses it: its config asks for what medseg does not run unseen"
    if refused:
        return "safe", "medseg predict runs none of its own code; to train it, it must be trusted"
    return "safe", "its configs name nothing but components and expressions on medseg's list"


def _tables(node: Any) -> Iterator[dict[str, Any]]:
    if isinstance(node, dict):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _tables(value)


def _texts(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    for value in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        yield from _texts(value)
