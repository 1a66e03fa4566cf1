"""Load a bundle for prediction: network with weights, preprocessing, inferer, postprocessing, labels, domain.

This is the one gated parser that predict, train, plan and federated use (`open_config`). Only what prediction
needs is instantiated; the bundle's own LoadImaged, SaveImaged and EnsureChannelFirstd are left out, because medseg
reads (channels first) and writes. Works from any working directory and for MONAI's own bundles: where a bundle says
nothing of channels and labels in our words, metadata.json's `channel_def` is read as MONAI Label reads it.
"""

from __future__ import annotations

import copy
import re
import sys
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from monai.bundle import ConfigParser
from monai.inferers.inferer import SimpleInferer
from monai.transforms.compose import Compose
from monai.utils.module import OptionalImportError

from medseg.bundle.config import read_config
from medseg.bundle.described import read_channels, read_labels
from medseg.bundle.domain import Domain
from medseg.bundle.gate import GatedParser, full_name
from medseg.bundle.shipped import config_path, find_bundle
from medseg.bundle.trust import is_trusted
from medseg.bundle.uncertainty import Declared, read_declared
from medseg.bundle.versions import check_versions
from medseg.bundle.weights import load_into, read_weights, require_weights
from medseg.errors import BundleError, MedsegError
from medseg.inferers.instances.inferer import InstanceInferer
from medseg.writers.atomic import sha256

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from torch import nn

    from medseg.labels import LabelTable

_FILES = {f"monai.transforms.{name}d" for name in ("LoadImage", "SaveImage", "EnsureChannelFirst")}
_NOT_THERE = re.compile(r"No module named '([\w.]+)'")
_SHORT = {name.rsplit(".", 1)[1][:-1] for name in _FILES}


@dataclass(frozen=True)
class Bundle:
    """A bundle that is ready to predict.

    Args:
        name: the folder's name.
        root: the folder.
        version: of the bundle, as metadata.json says.
        channels: names of the image channels the network takes, in order.
        labels: what the values of its label map mean.
        domain: what it was trained on, None where it does not say.
        network: with its weights, in eval mode, on the wanted device.
        preprocessing: dict transforms on key "image", from a channels-first MetaTensor.
        inferer: called with (batch, network).
        postprocessing: dict transforms on keys "image" and "pred", ending in the label map.
        uncertainty: what it declares about its uncertainty.
        members: loads the networks of its ensemble, `network` first; the others on first use.
        hashes: path inside the bundle -> sha256 of its configs and weights.
        trusted: whether its code runs because the user trusts it.
    """

    name: str
    root: Path
    version: str
    channels: tuple[str, ...]
    labels: LabelTable
    domain: Domain | None
    network: nn.Module
    preprocessing: Compose
    inferer: Any
    postprocessing: Compose
    uncertainty: Declared = field(default_factory=Declared)
    members: Callable[[], tuple[nn.Module, ...]] = tuple
    hashes: Mapping[str, str] = field(default_factory=dict)
    trusted: bool = False

    @property
    def finds_instances(self) -> bool:
        """Whether it gives a map of instances (`medseg.inferers.InstanceInferer`) instead of a label map."""
        return isinstance(self.inferer, InstanceInferer)


def load_bundle(path_or_name: str | Path, *, device: str | torch.device = "cpu") -> Bundle:
    """Load a bundle for prediction.

    Args:
        path_or_name: a bundle's folder, or the name of a shipped one.
        device: where its network is put.

    Raises:
        BundleError: MS-B1xx, see docs/errors/B-bundle.md: unknown, incomplete, asks for newer packages, asks for
            what the gate refuses, or has no weights.
    """
    root = find_bundle(path_or_name)
    metadata = read_config(root, "metadata")
    check_versions(metadata, root)
    config = read_config(root, "inference")
    labels, channels, domain = read_labels(config, metadata, root), read_channels(config, metadata, root), None
    if config.get("domain") is not None:
        domain = Domain.from_json(config["domain"])
    weights = require_weights(root)
    trusted = is_trusted(root)
    with running_trusted(root, trusted):
        parser = open_config(root, config, metadata, device=device, trusted=trusted)
        _leave_out_files(parser.config)
        network = build(parser, ("network_def", "network"), root)
        if not isinstance(network, torch.nn.Module):
            raise _no_network(root)
        load_into(network, read_weights(weights), weights)
        network = network.float().to(device).eval()
        declared = read_declared(config.get("uncertainty"), root)
        return Bundle(
            name=root.name,
            root=root,
            version=str(metadata.get("version", "")),
            channels=channels,
            labels=labels,
            domain=domain,
            network=network,
            preprocessing=_compose(build(parser, ("preprocessing", "pre_transforms"), root)),
            inferer=build(parser, ("inferer",), root) or SimpleInferer(),
            postprocessing=_compose(build(parser, ("postprocessing", "post_transforms"), root)),
            uncertainty=declared,
            members=cache(lambda: (network, *_other_members(parser, network, declared, root, device))),
            hashes=_hashes(root, weights, *(root / name for name in declared.weights), *_included(parser, root)),
            trusted=trusted,
        )


def open_config(
    root: Path,
    config: dict[str, Any],
    metadata: dict[str, Any],
    *,
    device: str | torch.device = "cpu",
    trusted: bool = False,
    overrides: Mapping[str, Any] | None = None,
) -> ConfigParser:
    """A parser over one config, behind the gate unless the bundle is trusted; macros are resolved, nothing is built.

    Args:
        root: the bundle's folder; becomes `bundle_root`, wherever the program runs.
        config: as `read_config` gives it; it is changed.
        metadata: what `@_meta_` refers to.
        device: becomes `device`.
        trusted: let MONAI's own parser run whatever the config says.
        overrides: `id -> value`, ids such as "train#trainer#max_epochs".

    Raises:
        BundleError: MS-B140, MS-B141 what the gate refuses, MS-B106 a config that is malformed.
    """
    config |= {"bundle_root": str(root), "device": torch.device(device)}
    if "_meta_" in str(config):
        config["_meta_"] = metadata
    parser = ConfigParser(config) if trusted else GatedParser(config, root)
    parser.update(dict(overrides or {}))
    with _blame("config", root):
        parser.parse()
    return parser


def build(parser: ConfigParser, keys: tuple[str, ...], root: Path) -> Any:
    """Instantiate the first of `keys` that the config has, None when it has none of them.

    Raises:
        BundleError: MS-B106 naming the key and what MONAI said, MS-B117 a package that it needs.
    """
    for key in keys:
        if key in parser:
            with _blame(key, root):
                return parser.get_parsed_content(key)
    return None


@contextmanager
def running_trusted(root: Path, trusted: bool) -> Iterator[None]:
    """Let a trusted bundle import its own `scripts`, fresh from source; nothing for an untrusted one."""
    if not trusted:
        yield
        return
    for name in [n for n in sys.modules if n == "scripts" or n.startswith("scripts.")]:
        del sys.modules[name]  # those of the bundle before
    path, prefix, silent = list(sys.path), sys.pycache_prefix, sys.dont_write_bytecode
    sys.path.insert(0, str(root))
    sys.pycache_prefix, sys.dont_write_bytecode = str(root / ".medseg-no-cache"), True  # a folder that is not there
    try:
        yield
    finally:
        sys.path[:], sys.pycache_prefix, sys.dont_write_bytecode = path, prefix, silent


def _leave_out_files(config: Any) -> None:
    """Switch off every component that reads or writes files, wherever it stands, before it is built."""
    if isinstance(config, dict):
        target = config.get("_target_")
        if isinstance(target, str) and (full_name(target) or target) in _FILES:
            config["_disabled_"] = True
    for value in config.values() if isinstance(config, dict) else config if isinstance(config, list) else ():
        _leave_out_files(value)


def _compose(transform: Any) -> Compose:
    """A Compose without file transforms, also those that an expression built; Invertd keeps pointing to it."""
    compose = transform if isinstance(transform, Compose) else Compose([] if transform is None else [transform])
    kept = []
    for one in compose.transforms:
        if isinstance(one, Compose):
            one = _compose(one)
        if one is not None and type(one).__name__.removesuffix("d") not in _SHORT:
            kept.append(one)
    compose.transforms = tuple(kept)
    return compose


@contextmanager
def _blame(key: str, root: Path) -> Iterator[None]:
    """Turn whatever MONAI or a component raises while it is built into a BundleError that names the key."""
    try:
        yield
    except MedsegError:
        raise
    except Exception as error:
        deepest: BaseException = error
        while deepest.__cause__ is not None:
            deepest = deepest.__cause__
        if isinstance(deepest, MedsegError):
            raise deepest from error
        if isinstance(deepest, OptionalImportError) and (missing := _NOT_THERE.search(str(deepest))):
            package = missing[1].split(".")[0]
            what = f"`{key}` needs the Python package {package}, which is not installed"
            raise BundleError("MS-B117", what, file=root, mend=f"pip install {package}") from error
        raise BundleError(
            "MS-B106",
            f"`{key}` cannot be built: {type(deepest).__name__}: {deepest}",
            file=root,
            mend="medseg bundle check names what is wrong with a bundle",
        ) from error


def _no_network(root: Path) -> BundleError:
    what = "configs/inference has no `network_def`"
    return BundleError("MS-B106", what, file=root, mend="medseg bundle check lists what a bundle needs")


def _other_members(
    parser: ConfigParser, network: nn.Module, declared: Declared, root: Path, device: str | torch.device
) -> Iterator[nn.Module]:
    """The networks of the ensemble but for the bundle's own, each with its weights."""
    template = build(parser, ("uncertainty#ensemble#network_def",), root)
    for name in declared.weights:
        if not (root / name).is_file():
            mend = "fetch the bundle again, or take the file out of `uncertainty` in configs/inference.json"
            raise BundleError("MS-B116", f"a member of the ensemble is not there: {name}", file=root, mend=mend)
        member = copy.deepcopy(network if template is None else template)
        load_into(member, read_weights(root / name), root / name)
        yield member.float().to(device).eval()


def _included(parser: ConfigParser, root: Path) -> list[Path]:
    """Other configs that the one for prediction took text from."""
    found = parser.included if isinstance(parser, GatedParser) else ()
    return sorted(root / file.relative_to(root.resolve()) for file in found)


def _hashes(root: Path, *weights: Path) -> dict[str, str]:
    configs = [p for n in ("inference", "metadata", "train") if (p := config_path(root, n)) is not None]
    return {p.relative_to(root).as_posix(): sha256(p) for p in (*configs, *weights) if p.is_file()}
