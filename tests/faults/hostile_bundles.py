"""Run in a process of its own: loads one hostile bundle after the other under an audit hook, and says what happened.

The hook hears of every file that Python opens and every process, socket and foreign import, and cannot be switched off. A
line of JSON on standard output: attack -> {"outcome": code or "loaded", "heard": what it did that it must not}.
"""

from __future__ import annotations

import json
import os
import pickle
import sys
from pathlib import Path

import torch
from torch import nn

import medseg
from medseg.bundle.load import load_bundle
from medseg.bundle.shipped import shipped_bundles
from medseg.bundle.trust import trust_bundle
from medseg.bundle.weights import find_weights
from medseg.errors import MedsegError
from tests.bundle.build import write_bundle
from tests.bundle.test_gate import HOSTILE, fill

NEVER = ("os.system", "os.exec", "os.posix_spawn", "os.fork", "os.forkpty", "os.startfile", "subprocess.Popen")
NEVER += (
    "socket.connect",
    "socket.getaddrinfo",
    "socket.gethostbyname",
    "socket.bind",
    "urllib.Request",
    "ftplib.connect",
)
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT

place = Path(sys.argv[1]).resolve()
SENTINEL = place / "sentinel"
#: Python, its libraries, medseg, and what the operating system tells.
OURS = (
    *(str(path) for path in (Path(sys.prefix), Path(sys.base_prefix), Path(medseg.__file__).parents[1])),
    *("/proc/", "/sys/", "/dev/", "/etc/localtime", "/usr/lib/", "/usr/share/zoneinfo"),
)
watched: Path | None = None
heard: list[str] = []


def hook(event: str, args: tuple) -> None:
    if watched is None:
        return
    if event in NEVER:
        heard.append(f"{event} {str(args)[:80]}")
    elif event == "import" and str(args[0]).split(".")[0] in ("evil_module", "scripts"):
        heard.append(f"import {args[0]}")
    elif event == "open" and isinstance(args[0], str | bytes | os.PathLike):
        path = os.path.realpath(os.fsdecode(args[0]))
        if (args[1] and set(str(args[1])) & set("wax+")) or (isinstance(args[2], int) and args[2] & WRITES):
            heard.append(f"write {path}")
        elif not path.startswith((*OURS, str(watched), str(place / "settings"))):
            heard.append(f"read {path}")


class Evil:
    def __reduce__(self):
        return os.system, (f"touch {SENTINEL}",)


def config(root: Path, change, name="inference") -> None:
    path = root / "configs" / f"{name}.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def from_gate(attack: str):
    def make(root: Path) -> None:
        def change(content):
            HOSTILE[attack](content)
            filled = fill(content, SENTINEL)
            content.clear()
            content.update(filled)

        config(root, change)
        # What a macro could take from another config of the bundle.
        config(root, lambda content: content.update(evil=f"$__import__('os').system('touch {SENTINEL}')"), "metadata")

    return make


def only_pt(root: Path, save) -> None:
    (root / "models" / "model.safetensors").unlink()
    save(root / "models" / "model.pt")


def legacy(path: Path) -> None:
    torch.save({"model": Evil()}, path, _use_new_zipfile_serialization=False)


def torchscript(root: Path) -> None:
    for path in (root / "models").iterdir():
        path.unlink()
    torch.jit.script(nn.Identity()).save(str(root / "models" / "model.ts"))


def logging_conf(root: Path) -> None:
    text = "[loggers]\nkeys=root\n[handlers]\nkeys=h\n[formatters]\nkeys=\n[logger_root]\nhandlers=h\n[handler_h]\n"
    text += f"class=__import__('os').system('touch {SENTINEL}')\nargs=()\n"
    (root / "configs" / "logging.conf").write_text(text, encoding="utf-8")


def yaml_object(root: Path) -> None:
    (root / "configs" / "inference.json").unlink()
    text = f"network_def: !!python/object/apply:os.system ['touch {SENTINEL}']\n"
    (root / "configs" / "inference.yaml").write_text(text, encoding="utf-8")


def scripts(root: Path) -> None:
    (root / "scripts").mkdir()
    (root / "scripts" / "__init__.py").write_text(f"open({str(SENTINEL)!r}, 'w').close()", encoding="utf-8")


def planted_module(root: Path) -> None:
    (root / "sitecustomize.py").write_text(f"open({str(SENTINEL)!r}, 'w').close()", encoding="utf-8")
    (root / "torch.py").write_text(f"open({str(SENTINEL)!r}, 'w').close()", encoding="utf-8")


def changed_after_trust(change):
    def make(root: Path) -> None:
        scripts(root)
        trust_bundle(root)
        change(root)

    return make


def large_files(root: Path) -> None:
    for path in (root / "models").iterdir():
        path.unlink()
    row = "- path: models/model.pt\n  url: http://127.0.0.1:9/model.pt\n"
    (root / "large_files.yml").write_text(f"large_files:\n{row}", encoding="utf-8")


def member(weights: str, save=None):
    def make(root: Path) -> None:
        if save is not None:
            save(root / weights)
        config(root, lambda c: c.update(uncertainty={"ensemble": {"weights": [weights]}}))

    return make


def chain(length: int):
    """A macro to a config whose text is a macro to the next; the last one holds the command."""

    def make(root: Path) -> None:
        config(root, lambda c: c.update(network_def="%configs/chain_1.json::x"))
        for n in range(1, length + 1):
            evil = {"_target_": "os.system", "command": f"touch {SENTINEL}"}
            text = json.dumps({"x": evil if n == length else f"%configs/chain_{n + 1}.json::x"})
            (root / "configs" / f"chain_{n}.json").write_text(text, encoding="utf-8")

    return make


OTHERS = {
    **{f"macros through {n} configs": chain(n) for n in (2, 3, 4, 5, 8, 9)},
    "pickle in model.pt": lambda root: only_pt(root, lambda p: torch.save(Evil(), p)),
    "pickle in a state dict": lambda root: only_pt(root, lambda p: torch.save({"model": Evil()}, p)),
    "pickle of old torch": lambda root: only_pt(root, legacy),
    "pickle without torch": lambda root: only_pt(root, lambda p: p.write_bytes(pickle.dumps(Evil()))),
    "pickle called safetensors": lambda root: (root / "models/model.safetensors").write_bytes(pickle.dumps(Evil())),
    "TorchScript": torchscript,
    "code in logging.conf": logging_conf,
    "object in YAML": yaml_object,
    "scripts that nobody names": scripts,
    "modules of known names": planted_module,
    "schema from a web server": lambda root: config(
        root, lambda c: c.update(schema="http://127.0.0.1:9/schema.json"), "metadata"
    ),
    "weights from a web server": large_files,
    "member that is a pickle": member("models/member.pt", lambda p: torch.save({"model": Evil()}, p)),
    "member outside": member("../outside.pt"),
    "member at an absolute path": member(str(place / "outside.pt")),
    "script changed after trust": changed_after_trust(
        lambda root: (root / "scripts/__init__.py").write_text("import os")
    ),
    "script added after trust": changed_after_trust(lambda root: (root / "scripts/more.py").write_text("")),
    "weights changed after trust": changed_after_trust(
        lambda root: (root / "models/model.safetensors").write_bytes(pickle.dumps(Evil()))
    ),
}


def load(root: Path) -> str:
    try:
        load_bundle(root).members()
    except MedsegError as error:
        return error.code
    except BaseException as error:  # noqa: BLE001  whatever else it raises is told
        return f"{type(error).__name__}: {error}"
    return "loaded"


def main() -> None:
    global watched
    torch.save({"weight": torch.zeros(1)}, place / "outside.pt")
    (place / "evil_module.py").write_text(f"open({str(SENTINEL)!r}, 'w').close()", encoding="utf-8")
    sys.path.insert(0, str(place))
    sound = {name: write_bundle(place / name, ours=name == "own") for name in ("zoo", "own")}
    sound |= {name: root for name, root in shipped_bundles().items() if find_weights(root) is not None}
    for name in ("zoo", "own"):
        load(sound[name])  # what libraries import and read once
    sys.addaudithook(hook)
    report = {}
    attacks = {name: from_gate(name) for name in HOSTILE} | OTHERS
    for n, (name, make) in enumerate(attacks.items()):
        root = write_bundle(place / f"hostile{n}")
        make(root)
        heard.clear()
        watched = root
        outcome = load(root)
        watched = None
        report[name] = {"outcome": outcome, "heard": [*heard, *(["sentinel"] if SENTINEL.exists() else [])]}
        SENTINEL.unlink(missing_ok=True)
    for name, root in sound.items():
        heard.clear()
        watched = root
        outcome = load(root)
        watched = None
        report[f"sound: {name}"] = {"outcome": outcome, "heard": list(heard)}
    # The watch itself can fail: what MONAI's own way of loading such weights would do is heard.
    heard.clear()
    watched = place / "zoo"
    pickle.loads(pickle.dumps(Evil()))
    (place / "outside.pt").read_bytes()
    watched = None
    report["proof"] = {"outcome": "ran" if SENTINEL.exists() else "did not", "heard": list(heard)}
    sys.stdout.write(json.dumps(report) + "\n")


main()
