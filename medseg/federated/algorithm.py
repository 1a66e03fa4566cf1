"""How sites train together: `configs/federation/NAME.yaml`, or a file of the user's."""

from __future__ import annotations

import math
import re
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

import medseg
from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping

_PACKAGE = Path(medseg.__file__).parent
#: The shipped ones; other files of the folder are of other kinds.
NAMES = ("fedavg", "fedprox", "fedopt", "scaffold")


@dataclass(frozen=True)
class ServerOptimiser:
    """What the server does with the mean change of all sites (`medseg.federated.aggregation`).

    Args:
        kind: 'average', 'momentum', 'adam' or 'yogi'.
        learning_rate: of it; 1 with 'average' is the plain mean.
        momentum: beta 1.
        beta2: of the second moment.
        epsilon: added to its root.
    """

    kind: str = "average"
    learning_rate: float = 1.0
    momentum: float = 0.9
    beta2: float = 0.99
    epsilon: float = 1e-3

    def __post_init__(self) -> None:
        if self.kind not in ("average", "momentum", "adam", "yogi"):
            _wrong(f"server: kind is average, momentum, adam or yogi, got {self.kind!r}")
        for name in ("learning_rate", "epsilon"):
            if not _number(getattr(self, name)) or getattr(self, name) <= 0:
                _wrong(f"server: {name} is a number above 0, got {getattr(self, name)!r}")
        for name in ("momentum", "beta2"):
            if not _number(getattr(self, name)) or not 0 <= getattr(self, name) < 1:
                _wrong(f"server: {name} is at least 0 and below 1, got {getattr(self, name)!r}")


@dataclass(frozen=True)
class Algorithm:
    """One way of training together. The comments in `configs/federation/fedavg.yaml` say what each entry does.

    Args:
        name: of the file.
        rounds: exchanges.
        local_steps: of the optimiser at every site in a round.
        local_epochs: over a site's own cases in a round; one of the two is None.
        mu: of FedProx; 0: none.
        server: the server's optimiser.
        control_variates: SCAFFOLD's.
        share_cap: largest share of one site in the average.
        quorum: sound updates without which a round, and the job, fails.
        deadline_s: of a round, seconds.
        grace_s: for slow sites once the quorum is there, seconds.
        validate_every: rounds between two validations of the global weights.
        personal: regular expressions of entries of the state dict that stay at their site.
    """

    name: str
    rounds: int = 20
    local_steps: int | None = None
    local_epochs: int | None = 1
    mu: float = 0.0
    server: ServerOptimiser = field(default_factory=ServerOptimiser)
    control_variates: bool = False
    share_cap: float = 1.0
    quorum: int = 2
    deadline_s: float = 3600.0
    grace_s: float = 300.0
    validate_every: int = 1
    personal: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("rounds", "quorum", "validate_every"):
            if not _whole(getattr(self, name)):
                _wrong(f"{name} is a whole number from 1, got {getattr(self, name)!r}")
        steps, epochs = self.local_steps, self.local_epochs
        if (steps is None) == (epochs is None) or not _whole(epochs if steps is None else steps):
            _wrong("one of local_steps and local_epochs is a whole number from 1, the other null")
        if not _number(self.mu) or self.mu < 0:
            _wrong(f"mu is a number from 0, got {self.mu!r}")
        if not _number(self.share_cap) or not 0 < self.share_cap <= 1:
            _wrong(f"share_cap is above 0 and at most 1, got {self.share_cap!r}")
        if not _number(self.deadline_s) or self.deadline_s <= 0 or not _number(self.grace_s) or self.grace_s < 0:
            _wrong("deadline_s and grace_s are seconds")
        if not isinstance(self.control_variates, bool):
            _wrong(f"control_variates is true or false, got {self.control_variates!r}")
        for pattern in self.personal:
            try:
                re.compile(pattern)
            except (re.error, TypeError) as error:
                _wrong(f"personal: {pattern!r} is no regular expression ({error})")

    def to_json(self) -> dict[str, Any]:
        """Plain data, as a job carries it."""
        return asdict(self) | {"personal": list(self.personal)}

    @staticmethod
    def from_json(said: Mapping[str, Any]) -> Algorithm:
        """Of `to_json`.

        Raises:
            UsageError: MS-J012 an entry is unknown or impossible.
        """
        return _build(dict(said))


def algorithms() -> dict[str, Path]:
    """Name -> file of every shipped algorithm."""
    for folder in (_PACKAGE / "_shipped" / "configs", _PACKAGE.parent / "configs"):
        found = {name: folder / "federation" / f"{name}.yaml" for name in NAMES}
        if all(path.is_file() for path in found.values()):
            return found
    return {}


def load_algorithm(name_or_file: str | Path, **changes: Any) -> Algorithm:
    """A shipped algorithm by name, or a YAML file with the same entries.

    Args:
        name_or_file: such as 'fedavg'.
        changes: entries of `Algorithm` that are said otherwise; None leaves them.

    Raises:
        UsageError: MS-J011 no such algorithm, MS-J012 an entry is unknown or impossible.
    """
    known = algorithms()
    path = known.get(str(name_or_file), Path(name_or_file))
    if not path.is_file():
        raise UsageError(
            "MS-J011", f"no algorithm is called {str(name_or_file)!r}",
            mend=f"choose among {', '.join(NAMES)}, or give a YAML file with the same entries",
        )  # fmt: skip
    try:
        said: Any = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, OSError, ValueError) as error:
        raise UsageError("MS-J012", f"is not understood: {error}", file=path, mend=_MEND) from error
    if not isinstance(said, dict):
        raise UsageError("MS-J012", f"holds a {type(said).__name__}, not a table", file=path, mend=_MEND)
    try:
        found = _build({"name": path.stem, **said})
        wanted = {name: value for name, value in changes.items() if value is not None}
        if "local_steps" in wanted:
            wanted.setdefault("local_epochs", None)
        elif "local_epochs" in wanted:
            wanted["local_steps"] = None
        return replace(found, **wanted)
    except UsageError as error:
        raise UsageError(error.code, error.what, file=path, mend=error.mend) from error


_MEND = "write it like configs/federation/fedavg.yaml, whose comments explain every entry"


def _build(said: dict[str, Any]) -> Algorithm:
    known = {one.name for one in fields(Algorithm)}
    if unknown := sorted(set(map(str, said)) - known):
        _wrong(f"{unknown[0]!r} is none of {', '.join(sorted(known - {'name'}))}")
    server = said.get("server", {})
    if not isinstance(server, dict) or set(server) - {one.name for one in fields(ServerOptimiser)}:
        _wrong("server is a table of kind, learning_rate, momentum, beta2 and epsilon")
    personal = said.get("personal", ())
    if not isinstance(personal, list | tuple):
        _wrong("personal is a list of patterns")
    try:
        return Algorithm(**{**said, "server": ServerOptimiser(**server), "personal": tuple(personal)})
    except TypeError as error:
        raise UsageError("MS-J012", str(error), mend=_MEND) from error


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _wrong(what: str) -> None:
    raise UsageError("MS-J012", what, mend=_MEND)
