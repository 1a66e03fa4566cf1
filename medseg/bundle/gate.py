"""The gate: a bundle config builds nothing and evaluates nothing that is not on medseg's list.

MONAI's ConfigParser instantiates whatever `_target_` names (`os.system` too) and evaluates every `$` string. So
`GatedParser` looks at the config after its macros are resolved and before anything is built, each time it is
parsed: components by their full names against `allowed_targets.txt`, expressions by their syntax tree
(`expressions`), and the arguments by which some components would load code or data by name. medseg's own public
losses, networks, transforms, inferers and training components are allowed by rule.

What is refused can still be used after `medseg bundle trust PATH`, which remembers every file's hash (`trust`).
"""

from __future__ import annotations

import ast
import importlib
import re
from copy import deepcopy
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

from monai.bundle import ConfigParser
from monai.bundle.reference_resolver import ReferenceResolver

from medseg.bundle.config import read_file
from medseg.bundle.expressions import NAMES, imported_names, why_refused
from medseg.errors import BundleError, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_ROOMS = ("losses", "networks", "transforms", "inferers", "training")
_OURS = re.compile(rf"medseg\.(?:{'|'.join(_ROOMS)})\.[A-Z]\w*")

#: Readers and writers that LoadImage and SaveImage may be given by name: MONAI looks any dotted name up.
_READERS = frozenset(
    {
        "ITKReader", "ITKWriter", "NibabelReader", "NibabelWriter", "NrrdReader", "PILReader", "PILWriter",
        "PydicomReader", "medseg.transforms.VolumeReader",
    }
)  # fmt: skip
_FILE_COMPONENTS = frozenset(
    f"monai.transforms.{kind}Image{end}" for kind in ("Load", "Save") for end in ("", "d")
)  # fmt: skip


#: Files that a macro may take text from: they are read as plain data.
_CONFIGS = (".json", ".yaml", ".yml")
#: What macros bring in may hold macros again, so many times; and as many values in all, for few lines can ask for billions.
_DEEPEST, _MOST = 8, 100_000


@dataclass(frozen=True)
class Refusal:
    """One thing in a config that medseg does not do without trust: where it stands and what it is."""

    key: str
    what: str

    def __str__(self) -> str:
        return f"{self.key} {printable(self.what)}"


@cache
def allowed_targets() -> frozenset[str]:
    """Full names of MONAI's, torch's and ignite's components that a bundle may name."""
    text = files("medseg.bundle").joinpath("allowed_targets.txt").read_text(encoding="utf-8")
    return frozenset(line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#"))


@cache
def _expression_names() -> frozenset[str]:
    """What expressions may name: functions and constants, and constructors whose arguments need no look."""
    return NAMES | (allowed_targets() - _FILE_COMPONENTS)


@cache
def _short_names() -> Mapping[str, str]:
    """'UNet' -> 'monai.networks.nets.UNet': MONAI's components may be named without their module."""
    return {full.rsplit(".", 1)[1]: full for full in sorted(allowed_targets()) if full.startswith("monai.")}


def full_name(target: str) -> str | None:
    """The full name of an allowed `_target_`, None when it is not allowed."""
    if target in allowed_targets():
        return target
    if _OURS.fullmatch(target):
        room, name = target.rsplit(".", 1)
        try:
            component = getattr(importlib.import_module(room), name, None)
        except ImportError:
            return None
        return target if getattr(component, "__module__", "").startswith("medseg.") else None
    parts = target.split(".")
    if parts[0] == "monai" and len(parts) > 3:  # the module that defines it instead of the one that exports it
        short = _short_names().get(parts[-1])
        return short if short is not None and target == _defined_as(short) else None
    return _short_names().get(target)


def refusals(config: Any) -> list[Refusal]:
    """Everything in a config, its macros resolved, that is not done without trust; [] when it may be parsed."""
    imported, found, modules = _imports(config)
    for key, value in _walk(config):
        if isinstance(value, dict) and "_target_" in value:
            found += _check_component(key, value)
        elif isinstance(value, str) and (value.startswith(("$", "@"))):
            what = _check_text(value, imported, modules)
            if what is not None and key not in modules:
                found.append(Refusal(key, what))
    return found


class GatedParser(ConfigParser):
    """MONAI's ConfigParser, which refuses what the gate refuses before it builds or evaluates anything.

    Args:
        config: the config as read from JSON or YAML; it is changed in place, as MONAI's parser does.
        root: the bundle's folder, for messages; macros reach other configs in it.

    Attributes:
        included: configs of the bundle that macros took text from.
    """

    included: set[Path]
    taken: int

    def __init__(self, config: dict[str, Any], root: Path) -> None:
        self.__dict__["root"] = root  # before ConfigParser.__init__, whose __getattr__ looks names up in the config
        self.__dict__["included"] = set()
        self.__dict__["taken"] = 0  # values that macros brought in
        super().__init__(config)
        self.locator = _FullNames()

    def parse(self, reset: bool = True) -> None:
        """Resolve macros, pass the gate, and only then register items for instantiation.

        Nothing is resolved behind the gate, as MONAI's own `parse` would: what the gate saw is what is built.

        Raises:
            BundleError: MS-B140 naming every key that is refused and how to trust the bundle; MS-B141 a macro.
        """
        self.resolve_macro_and_relative_ids()
        found = refusals(self.config)
        if found:
            more = f", and {len(found) - 4} more" if len(found) > 4 else ""
            raise BundleError(
                "MS-B140",
                f"its config asks for what medseg does not run unseen: {'; '.join(map(str, found[:4]))}{more}",
                file=self.root,
                mend=f"read its configs and scripts, and if you trust them type: medseg bundle trust {self.root}",
            )
        _write_full_names(self.config)
        if reset:
            self.ref_resolver.reset()
        self._do_parse(config=self.get())

    def resolve_macro_and_relative_ids(self) -> None:
        """As MONAI's, until nothing is left to resolve: what a macro brings in may hold macros.

        Raises:
            BundleError: MS-B141 a macro that takes text from elsewhere, or that has no end.
        """
        left = [""]
        for _ in range(_DEEPEST):
            super().resolve_macro_and_relative_ids()
            left = [key for key, value in _walk(self.config) if isinstance(value, str) and value.startswith("%")]
            if not left:
                return
        raise self._no_text(left[0], f"macros that lead to macros, {_DEEPEST} times over")

    def _do_resolve(self, config: Any, id: str = "") -> Any:  # noqa: A002 - MONAI's name
        """MONAI's macro resolution, which reads other files only where they are configs inside the bundle."""
        if isinstance(config, dict | list):
            for k, sub_id, v in ReferenceResolver.iter_subconfigs(id=id, config=config):
                config[k] = self._do_resolve(v, sub_id)  # pyright: ignore - keys of a dict, places of a list
        if isinstance(config, str):
            config = self.resolve_relative_ids(id, config)
            if config.startswith("%"):
                path, ids = ConfigParser.split_path_id(config[1:])
                found = self._text(path, ids, id) if path else self[ids]
                self.__dict__["taken"] += sum(1 for _ in _walk(found))
                if self.taken > _MOST:
                    raise self._no_text(id, f"macros that bring in more than {_MOST} values")
                return deepcopy(found)
        return config

    def _text(self, path: str, ids: str, key: str) -> Any:
        """What another config of the bundle holds under `ids`; paths count from the bundle's folder."""
        root = self.root and self.root.resolve()
        file = root and (root / path).resolve()
        if not file or file.suffix not in _CONFIGS or not file.is_relative_to(root) or not file.is_file():
            raise self._no_text(key, f"another file ({printable(path)}) that is no JSON or YAML inside the bundle")
        found = read_file(file)
        for part in ReferenceResolver.split_id(ids) if ids else ():
            try:
                found = found[int(part)] if isinstance(found, list) else found[part]
            except (KeyError, IndexError, ValueError, TypeError):
                raise self._no_text(key, f"{printable(path)}, which has no {printable(ids)}") from None
        self.included.add(file)
        return found

    def _no_text(self, key: str, where: str) -> BundleError:
        mend = f"write the content into the config itself, or: medseg bundle trust {self.root}"
        return BundleError("MS-B141", f"{key} takes text from {where}", file=self.root, mend=mend)


class _FullNames:
    """A component locator that knows nothing: the gate has written every name in full."""

    def get_component_module_name(self, name: str) -> None:  # noqa: ARG002 - MONAI's signature
        return None


def _check_component(key: str, value: dict[str, Any]) -> list[Refusal]:
    target = value["_target_"]
    full = full_name(target) if isinstance(target, str) else None
    if full is None:
        return [Refusal(f"{key}::_target_", f"names {target!r}, which is not on its list of components")]
    found = []
    mode = value.get("_mode_", "default")
    if mode != "default" and (mode != "callable" or full in _FILE_COMPONENTS):
        found.append(Refusal(f"{key}::_mode_", f"is {mode!r}"))
    if value.get("_debug_"):
        found.append(Refusal(f"{key}::_debug_", "opens a debugger"))
    if value.get("pretrained", False) is not False:
        found.append(Refusal(f"{key}::pretrained", "fetches weights from the network"))
    if full in _FILE_COMPONENTS:
        for name in ("reader", "writer"):
            given = value.get(name)
            several = given if isinstance(given, list) else [given]
            unknown = [one for one in several if one is not None and one not in _READERS]
            found += [Refusal(f"{key}::{name}", f"names {one!r}, not on its list of readers") for one in unknown]
    return found


def _check_text(value: str, imported: Mapping[str, str], modules: frozenset[str]) -> str | None:
    """Why a string that begins with `$` or `@` is refused: judged on the text that Python would evaluate."""
    for ref in ReferenceResolver.match_refs_pattern(value):
        if any(key == ref or key.startswith(f"{ref}::") for key in modules):
            return "refers to an imported module"
    if not value.startswith("$"):
        return None
    text = ReferenceResolver.update_refs_pattern(value, _Anything())
    return why_refused(text[1:], _expression_names(), imported)


def _imports(config: Any) -> tuple[dict[str, str], list[Refusal], frozenset[str]]:
    """What a config's import statements bind, which are refused, and under which keys they stand."""
    bound: dict[str, str] = {}
    found, keys = [], set()
    for key, value in _walk(config):
        if isinstance(value, str) and value.startswith("$") and "import" in value and _is_import(value[1:]):
            keys.add(key)
            names, what = imported_names(value[1:])
            bound.update(names)
            if what is not None:
                found.append(Refusal(key, what))
    return bound, found, frozenset(keys)


def _is_import(text: str) -> bool:
    """As MONAI decides it: the first statement is an import. Text that Python cannot read is no import."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return bool(body) and isinstance(body[0], ast.Import | ast.ImportFrom)


def _walk(config: Any, key: str = "") -> Iterator[tuple[str, Any]]:
    """Every (id, value) of a config, parents first."""
    yield key, config
    if isinstance(config, dict | list):
        for _, sub, value in ReferenceResolver.iter_subconfigs(key, config):
            yield from _walk(value, sub)


def _write_full_names(config: Any) -> None:
    for _, value in _walk(config):
        if isinstance(value, dict) and "_target_" in value:
            value["_target_"] = full_name(value["_target_"])


@cache
def _defined_as(full: str) -> str:
    """'monai.transforms.Compose' -> 'monai.transforms.compose.Compose'."""
    module, name = full.rsplit(".", 1)
    component = getattr(importlib.import_module(module), name)
    return f"{component.__module__}.{component.__qualname__}"


class _Anything(dict):
    """Every reference exists: only the text around it is of interest."""

    def __contains__(self, key: object) -> bool:
        return True
