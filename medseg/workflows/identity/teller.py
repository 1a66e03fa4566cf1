"""How one case's files, and words about it, are told in results, failures, logs and errors."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medseg.errors import ChoiceError
from medseg.readers.cases.names import EXTENSIONS
from medseg.workflows.identity.hide import hide, parts_of, spellings
from medseg.workflows.identity.key import UID
from medseg.workflows.identity.tags import values_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from medseg.errors import MedsegError
    from medseg.readers.options import ReadOptions
    from medseg.volume import Volume
    from medseg.workflows.identity.key import Key

#: Of more files than this the names of the first are known; a message names one or two.
_MOST_FILES = 20_000
_INPUT, _HIDDEN = "INPUT", "[name]"


@dataclass(frozen=True)
class Teller:
    """Paths below the input are told relative to it, or by pseudonyms; where the input lies is told nobody.

    Args:
        source: what the user named as the input.
        out: the folder of results.
        case: what the case is called; '' for words about the input as a whole.
        roots: the files and folders of the case.
        key: gives pseudonyms; None: names are told.
        known: the name that the case would have without pseudonyms.
        mentioned: pseudonym -> path, of what was told by one; for the key's table.
    """

    source: Path
    out: Path
    case: str = ""
    roots: tuple[Path, ...] = ()
    key: Key | None = None
    known: str = ""
    mentioned: dict[str, str] = field(default_factory=dict, compare=False)

    @cached_property
    def base(self) -> Path:
        """The folder that paths are told from."""
        return absolute(self.source if self.source.is_dir() else self.source.parent)

    def root(self, path: Path) -> str:
        """A file or folder of the case as its record names it."""
        place = absolute(path)
        if self.key is None:
            return place.relative_to(self.base).as_posix() if place.is_relative_to(self.base) else place.name
        return self.case if place.is_dir() else self.name(place.name)

    def name(self, relative: str) -> str:
        """A file's name relative to the folder of its root."""
        relative = relative.replace(os.sep, "/")
        if self.key is None:
            return relative if not relative.startswith("../") else relative.rsplit("/", 1)[-1]
        told = self.key.path(relative)
        ending = next((e for e in EXTENSIONS if relative.lower().endswith(e)), "")
        return told + ending

    def path(self, path: str | Path) -> str:
        """Any path, as a failure or an error names it."""
        if not str(path):
            return ""
        place = absolute(path)
        results = absolute(self.out)
        if place.is_relative_to(results):
            return place.relative_to(results).as_posix() if place != results else str(path)
        if self.key is None:
            return self.root(place) if place != self.base else _INPUT if self.source.is_dir() else place.name
        for root in self.roots:
            top = absolute(root)
            if place == top:
                return self.case or self._mentioned(place, place.name)
            if place.is_relative_to(top):
                return self._mentioned(place, place.relative_to(top).as_posix())
        if place == absolute(self.source):
            return _INPUT
        return self._mentioned(place, Path(os.path.relpath(place, self.base)).as_posix())

    def _mentioned(self, place: Path, relative: str) -> str:
        told = self.name(relative)
        self.mentioned[told] = str(place)
        return f"{self.case}/{told}" if self.case else told

    def text(self, words: str) -> str:
        """Words about the case without what tells of somebody: no UID, nothing from its headers, no place."""
        if not words:
            return words
        words = hide(words, self._places)
        return hide(words, self._names(words), self._uid)

    def read_options(self, options: ReadOptions) -> dict[str, Any]:
        """The readers' options as records have them: of a series named by its UID only a pseudonym of that."""
        told = asdict(options)
        return told | {"series": told["series"] and hide(told["series"], {}, self._uid)}

    def _uid(self, uid: str) -> str:
        return f"{UID}{sha256(uid.encode()).hexdigest()[:12]}" if self.key is None else self.key.uid(uid)

    def tell(self, error: MedsegError) -> None:
        """Have an error tell its file and its words so; once."""
        if error.__dict__.setdefault("told", False):
            return
        error.told = True  # pyright: ignore[reportAttributeAccessIssue]
        error.what, error.mend = self.text(error.what), self.text(error.mend)
        error.file = None if error.file is None else self.path(error.file)
        if isinstance(error, ChoiceError):
            error.candidates = tuple(map(self.text, error.candidates))
        error.args = (error.code, error.what, error.file, error.mend)

    def volume(self, volume: Volume) -> Volume:
        """A volume whose decisions are told so."""
        decisions = tuple(replace(d, message=self.text(d.message)) for d in volume.source.decisions)
        return replace(volume, source=replace(volume.source, decisions=decisions))

    @cached_property
    def _places(self) -> dict[str, str]:
        """Where the input lies, as messages may spell it -> nothing, so that the way from there stays."""
        named = self.source if self.source.is_dir() else self.source.parent
        spelled = {str(p) for p in (self.base, self.base.resolve(), named)} - {".", os.sep, ""}
        bare = {place: _INPUT for place in spelled if os.sep in place or "/" in place}
        if str(self.out) not in (".", os.devnull):
            spelled |= {str(absolute(self.out)), str(self.out)}
        return bare | {f"{place}{separator}": "" for place in spelled for separator in (os.sep, "/")}

    def _names(self, words: str) -> dict[str, str]:
        """What stands in the words and tells of somebody -> what may stand instead."""
        instead = {value: told for value, told in self._values.items() if value in words}
        if self.key is None:
            return instead
        for name, place in self._files.items():
            if name in words:
                told = self.name(Path(os.path.relpath(place, self._top(place))).as_posix())
                self.mentioned[told] = str(place)
                instead[name] = told
        return instead | {name: self.case or _HIDDEN for name in self._folders if name in words}

    def _top(self, place: Path) -> Path:
        tops = [absolute(root) for root in self.roots]
        return next((t for t in tops if t != place and place.is_relative_to(t)), self.base)

    @cached_property
    def _folders(self) -> set[str]:
        """Names on the way from the input to the case, and what it would be called."""
        tops = [absolute(root) for root in self.roots] or [self.base]
        ways = parts_of(tops, self.base) | {self.base.name, self.source.name, *(top.name for top in tops), self.known}
        return {spelled for name in ways for spelled in spellings(name)}

    @cached_property
    def _files(self) -> dict[str, Path]:
        """Names of the case's files, as messages may spell them -> the file."""
        found: dict[str, Path] = {}
        for file in self._below():
            for name in {file.name, *file.relative_to(self._top(file)).parts}:
                for spelled in spellings(name):
                    found.setdefault(spelled, file)
        return found

    def _below(self) -> Iterator[Path]:
        left = _MOST_FILES
        for root in self.roots or (self.base,):
            top = absolute(root)
            if not top.is_dir():
                yield top
                continue
            for folder, _, names in os.walk(top):
                yield from (Path(folder, name) for name in names[:left])
                left -= min(left, len(names))
                if not left:
                    break

    @cached_property
    def _values(self) -> dict[str, str]:
        """What the headers of the case say."""
        return {value: told for root in self.roots for value, told in values_in(root).items()}


def plain(roots: Sequence[Path]) -> Teller:
    """A teller of files that belong to no run: by their names."""
    return Teller(roots[0] if roots else Path(), Path(os.devnull), roots=tuple(roots))


def absolute(path: str | Path) -> Path:
    """A path from the root of the file system, `..` resolved and links kept."""
    return Path(os.path.abspath(path))  # noqa: PTH100  resolve() would follow links
