"""What a site does to its updates before they leave: `configs/federation/privacy/NAME.yaml`, and the filters it means.

The filters stand in the site's own `local/privacy.json`, so that they run on every job, whatever the job says. Their
order is part of the promise: noise first (what follows only works on noisy values), then compression, then the audit,
which lets through what it knows and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import medseg
from medseg.errors import UsageError

_PACKAGE = Path(medseg.__file__).parent
#: The one scope of a site's privacy.json; a job that asks for another is refused by NVFLARE.
SCOPE = "medseg"
PACKINGS = ("none", "fp16", "top_k")
_ROOM = "medseg.federated.privacy"


@dataclass(frozen=True)
class Privacy:
    """What is done to an update at the site.

    Args:
        name: of it.
        clip_norm: the largest L2 norm of an update, over all that it changes; None: not clipped.
        noise_multiplier: the noise's standard deviation, in units of `clip_norm`; 0: no noise.
        delta: at which epsilon is stated.
        max_epsilon: the site sends no more updates once they would exceed it; None: no limit.
        packing: 'none', 'fp16' or 'top_k' (the largest entries, as fp16).
        keep: the share of entries that 'top_k' sends.
        feedback: whether what packing does not send is kept and added to the next round's update.
        encrypted: updates leave encrypted, for the server to add up and not to read (`sealing`).
    """

    name: str
    clip_norm: float | None = None
    noise_multiplier: float = 0.0
    delta: float = 1e-5
    max_epsilon: float | None = None
    packing: str = "none"
    keep: float = 0.1
    feedback: bool = True
    encrypted: bool = False

    @property
    def noisy(self) -> bool:
        """Whether noise is added, so that an epsilon can be stated."""
        return self.clip_norm is not None and self.noise_multiplier > 0


def shipped_privacy() -> dict[str, Path]:
    """Name -> file of every setting that comes with medseg."""
    for folder in (_PACKAGE / "_shipped" / "configs", _PACKAGE.parent / "configs"):
        found = {path.stem: path for path in sorted((folder / "federation" / "privacy").glob("*.yaml"))}
        if found:
            return found
    return {}


def load_privacy(name_or_file: str | Path) -> Privacy:
    """A shipped setting by name, or a YAML file with the same keys.

    Raises:
        UsageError: MS-J100 no such setting, or one that is not understood.
    """
    import yaml

    known = shipped_privacy()
    path = known.get(str(name_or_file), Path(name_or_file))
    if not path.is_file():
        mend = f"choose among {', '.join(known)}, or give a YAML file with the same keys"
        raise UsageError("MS-J100", f"no privacy setting is called {str(name_or_file)!r}", mend=mend)
    try:
        return privacy_from(yaml.safe_load(path.read_text(encoding="utf-8")), path.stem)
    except (ValueError, TypeError, OSError, yaml.YAMLError) as error:
        mend = "write it like configs/federation/privacy/clip_noise.yaml"
        raise UsageError("MS-J100", f"is not understood: {error}", file=path, mend=mend) from error


def privacy_from(said: Any, name: str) -> Privacy:
    """A setting from plain data.

    Raises:
        ValueError: an unknown key, or a value out of its range.
        TypeError: a value of another type.
    """
    if not isinstance(said, dict):
        msg = f"it holds a {type(said).__name__}, not a table"
        raise TypeError(msg)
    accepted = [field.name for field in fields(Privacy) if field.name != "name"]
    unknown = [str(key) for key in said if key not in accepted]
    if unknown:
        msg = f"unknown key {unknown[0]!r}; accepted: {', '.join(accepted)}"
        raise ValueError(msg)
    found = Privacy(name, **said)
    numbers = ("clip_norm", "noise_multiplier", "delta", "max_epsilon", "keep")
    for key in numbers:
        value = getattr(found, key)
        if value is None and key in ("clip_norm", "max_epsilon"):
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            msg = f"{key} is {value!r}, not a number"
            raise TypeError(msg)
        if not math.isfinite(value) or value < 0 or (value == 0 and key != "noise_multiplier"):
            msg = f"{key} is {value!r}, not a number above 0"
            raise ValueError(msg)
    _check_rest(found)
    return found


def _check_rest(found: Privacy) -> None:
    """What is no number, and what does not go together."""
    if found.delta >= 1 or found.keep > 1:
        msg = "delta is below 1, and keep at most 1"
        raise ValueError(msg)
    for key in ("feedback", "encrypted"):
        if not isinstance(getattr(found, key), bool):
            msg = f"{key} is {getattr(found, key)!r}, not true or false"
            raise TypeError(msg)
    if found.packing not in PACKINGS:
        msg = f"packing is {found.packing!r}; accepted: {', '.join(PACKINGS)}"
        raise ValueError(msg)
    if found.noise_multiplier > 0 and found.clip_norm is None:
        msg = "noise needs clip_norm: without a largest norm it promises nothing"
        raise ValueError(msg)
    if found.encrypted and found.packing != "none":
        msg = f"packing {found.packing} cannot be encrypted: ciphertexts hold every entry, and packing leaves some out"
        raise ValueError(msg)
    if found.max_epsilon is not None and not found.noisy:
        msg = "max_epsilon needs clip_norm and noise_multiplier: without noise there is no epsilon"
        raise ValueError(msg)


def filters(privacy: Privacy) -> list[dict[str, Any]]:
    """The site's filters on results, in their order, as NVFLARE's configs write components; the audit is the last."""
    found: list[dict[str, Any]] = []
    if privacy.clip_norm is not None:
        args = {
            "clip_norm": privacy.clip_norm,
            "noise_multiplier": privacy.noise_multiplier,
            "delta": privacy.delta,
            "max_epsilon": privacy.max_epsilon,
        }
        found.append({"path": f"{_ROOM}.clip_noise_filter.ClipNoiseFilter", "args": args})
    if privacy.packing != "none":
        args = {"packing": privacy.packing, "keep": privacy.keep, "feedback": privacy.feedback}
        found.append({"path": f"{_ROOM}.packing_filter.PackFilter", "args": args})
    args = {"packing": privacy.packing} | ({"encrypted": True} if privacy.encrypted else {})
    found.append({"path": f"{_ROOM}.audit_filter.AuditFilter", "args": args})
    return found


def data_filters(privacy: Privacy) -> list[dict[str, Any]]:
    """The site's filters on what comes; as `filters`."""
    return [{"path": f"{_ROOM}.opening_filter.OpenFilter", "args": {}}] if privacy.encrypted else []


def privacy_json(privacy: Privacy) -> dict[str, Any]:
    """The whole content of a site's `local/privacy.json`: these filters, on every job, with no way around them."""
    scope = {"name": SCOPE, "properties": {}}
    scope |= {"task_data_filters": data_filters(privacy), "task_result_filters": filters(privacy)}
    return {"scopes": [scope], "default_scope": SCOPE}
