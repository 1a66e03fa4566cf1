"""Stands in for the medseg command: its progress lines, JSON, exit codes and files, chosen by the bundle's name.

    python fake_medseg.py bundles --json
    python fake_medseg.py predict SCAN -o OUT -b sound --json [--uncertainty mc:8]

Label 1 is where the scan is above 100, label 2 above 200; entropy is highest (0.9) at the scan's brightest voxel.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

BUNDLES = [
    {"name": "recipe", "version": "0.1.0", "weights": False, "needs": "CT", "finds": "liver", "intended_use": "none"},
    {"name": "sound", "version": "1.2.0", "weights": True, "needs": "one channel", "finds": "1 dim, 2 bright"},
]
ROWS = [("Dim «ä»", 1, (0.25, 0.5, 0.75)), ("Bright", 2, (1.0, 0.0, 0.2))]


def say(line: str) -> None:
    sys.stderr.write(line + "\n")
    sys.stderr.flush()


def main() -> int:
    if sys.argv[1] == "bundles":
        sys.stdout.write(json.dumps(BUNDLES) + "\n")
        return 0
    parser = argparse.ArgumentParser()
    parser.add_argument("command")
    parser.add_argument("input", type=Path)
    parser.add_argument("-o", "--out", type=Path)
    parser.add_argument("-b", "--bundle")
    parser.add_argument("--uncertainty", default="")
    parser.add_argument("--device")
    parser.add_argument("--outside-domain", action="store_true")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    return globals()[args.bundle.replace("-", "_")](args)


def sound(args, *, folder: Path | None = None) -> int:
    say("1 case | sound 1.2.0 | cpu | windows of 40x56x40")
    say("[1/1] scan: 12 of 48 windows, about 9.1 s left")
    folder = folder or args.out / "scan"
    folder.mkdir(parents=True)
    write(args, folder)
    say("[1/1] scan: done in 1.4 s | Dim 1.39 mL, Bright 1.67 mL")
    say("     the scan is coarse")
    say("     case   structure   volume (mL)   flags ")
    case = {"name": "scan", "status": "done", "folder": str(folder), "outside_domain": ["age"], "notes": ["coarse"]}
    sys.stdout.write(json.dumps({"out": str(args.out), "exit_code": 0, "cases": [case]}) + "\n")
    return 0


def wait(args) -> int:
    """Works until it is interrupted, and then leaves as medseg does."""
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "half.nii.gz").write_bytes(b"half")
    try:
        say(f"1 case | wait | pid {os.getpid()}")
        time.sleep(600)
    except KeyboardInterrupt:
        say("interrupted")
        return 130
    return 0


def stubborn(args) -> int:
    """Listens to nothing but a kill, and has a child that does the same."""
    for name in (signal.SIGINT, signal.SIGTERM):
        signal.signal(name, signal.SIG_IGN)
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    say(f"1 case | stubborn | pids {os.getpid()} {child.pid}")
    time.sleep(600)
    return 0


def late(args) -> int:
    """Finishes well although it was interrupted."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say("1 case | late")
    time.sleep(1.0)
    return sound(args)


def domain(args) -> int:
    say("1 case | domain")
    case = {
        "name": "scan",
        "status": "failed",
        "code": "MS-X101",
        "file": str(args.input),
        "what": "it is too small",
        "mend": "add --outside-domain",
    }
    sys.stdout.write(json.dumps({"out": str(args.out), "exit_code": 3, "cases": [case]}) + "\n")
    return 3


def refused(args) -> int:
    say("error MS-B210: two bundles would fit")
    say("  in /models/liver v2")
    say("     liver v2")
    say("     liver v3")
    say("  -> name one of them")
    return 4


def memory(args) -> int:
    return 5


def usage(args) -> int:
    say("Usage: medseg predict [OPTIONS] INPUT")
    say("╭─ Error ───────────────────────────────╮")
    say("│ No such option: --uncertainty         │")
    say("╰───────────────────────────────────────╯")
    return 2


def bug(args) -> int:
    say("error: medseg met something it did not expect (a bug): ")
    say("  ValueError: no")
    say("  -> run the same command with --debug and report what it prints")
    return 1


def silent(args) -> int:
    return 0


def astray(args) -> int:
    return sound(args, folder=args.out.parent / "elsewhere")


def unreadable(args) -> int:
    code = sound(args)
    (args.out / "scan" / "uncertainty_entropy.nii.gz").write_bytes(b"no map")
    return code


def killed(args) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return 0


def environment(args) -> int:
    say("error MS-U999: " + json.dumps(dict(os.environ)))
    return 2


def write(args, folder: Path) -> None:
    import numpy as np

    from medseg.labels import Label, LabelTable
    from medseg.readers.open import read
    from medseg.volume import Volume
    from medseg.writers.nifti import write_nifti
    from medseg.writers.seg_nrrd import write_seg_nrrd

    scan = read(args.input)
    grey = scan.array if scan.array.ndim == 3 else scan.array[0]
    labels = (grey > 100).astype(np.uint8) + (grey > 200)
    table = LabelTable(tuple(Label(v, name, tuple(round(255 * c) for c in colour)) for name, v, colour in ROWS))
    write_nifti(folder / "segmentation.nii.gz", labels, scan.affine, labels=table)
    if "plain" not in args.bundle:
        write_seg_nrrd(folder / "segmentation.seg.nrrd", Volume(labels, scan.affine, labels=table))
    if args.uncertainty:
        entropy = np.where(labels > 0, 0.1, 0.0).astype(np.float32)
        entropy[np.unravel_index(np.argmax(grey), grey.shape)] = 0.9
        for key, scale in (("entropy", 1.0), ("mutual_information", 0.05)):
            write_nifti(folder / f"uncertainty_{key}.nii.gz", entropy * np.float32(scale), scan.affine)
        lines = [f"{n} {n / 255:.3f} {n} {255 - n} 7 255" for n in range(256)]
        (folder / "uncertainty.ctbl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    with (folder / "measurements.csv").open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["structure", "value", "voxels", "volume_ml", "flags", "predicted_dice"])
        for name, value, _ in ROWS:
            writer.writerow([name, value, int((labels == value).sum()), 1.5, "", "" if value == 1 else 0.75])


def sound_plain(args) -> int:
    return sound(args)


if __name__ == "__main__":
    sys.exit(main())
