"""Entry of `scripts/phantom PRESET -o OUT`: a folder of seeded volumes with instance label maps.

Volumes of 48 mm train on a laptop. Same arguments, same bytes; another --seed shares no volume with this one.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from medseg.errors import MedsegError
from medseg.writers.atomic import write_bytes
from phantoms import PRESETS, make
from phantoms.dataset import case_seed, write_dataset


def main() -> int:
    parser = argparse.ArgumentParser(prog="scripts/phantom", description=__doc__.split("\n\n", 1)[1])
    parser.add_argument("preset", choices=sorted(PRESETS))
    parser.add_argument("-o", "--out", type=Path, help="folder for imagesTr, labelsTr, imagesTs, labelsTs")
    parser.add_argument("--train", type=count, default=40, help="volumes in imagesTr (40)")
    parser.add_argument("--test", type=count, default=10, help="volumes in imagesTs (10)")
    parser.add_argument("--seed", type=count, default=0)
    parser.add_argument("--size", type=sides, default=48, help="mm along every axis, or voxels as D,H,W (48)")
    parser.add_argument("--objects", type=span, help="least and most instances a volume, as 3-8 (or one number)")
    parser.add_argument("--box-only", type=share, default=0.0, help="share of training instances drawn as boxes (0)")
    parser.add_argument("--picture", type=Path, help="a PNG of the first volume")
    args = parser.parse_args()
    if args.out is None and args.picture is None:
        parser.error("say where to: -o OUT for a data set, --picture FILE.png for a picture")
    if args.out is not None and args.out.is_dir() and any(args.out.iterdir()):
        parser.error(f"{args.out} is not empty: give another folder, or empty it first")
    what = {"size": args.size, "objects": args.objects}
    try:
        if args.out is not None:
            parts = {"train": args.train, "test": args.test, "seed": args.seed, "box_only": args.box_only}
            write_dataset(args.out, args.preset, **parts, **what)
            print(f"{args.train} + {args.test} volumes in {args.out}", file=sys.stderr)
        if args.picture is not None:
            from phantoms.picture import picture_png

            first = make(args.preset, case_seed(args.seed, "Tr", 0), **what)
            write_bytes(args.picture, picture_png(first, args.preset))
    except (MedsegError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return getattr(error, "exit_code", 2)
    return 0


def count(text: str) -> int:
    number = int(text)
    if not 0 <= number <= 50_000:
        raise argparse.ArgumentTypeError(f"a number from 0 to 50000, not {text}")
    return number


def sides(text: str) -> int | tuple[int, int, int]:
    numbers = [int(n) for n in text.split(",")]
    if len(numbers) not in (1, 3) or min(numbers) < 1:
        raise argparse.ArgumentTypeError(f"one size in mm or three in voxels (48,48,16), not {text}")
    return numbers[0] if len(numbers) == 1 else (numbers[0], numbers[1], numbers[2])


def span(text: str) -> tuple[int, int]:
    numbers = [int(n) for n in text.split("-")]
    if len(numbers) > 2 or numbers[0] < 1 or numbers[-1] < numbers[0]:
        raise argparse.ArgumentTypeError(f"least and most, such as 3-8, not {text}")
    return numbers[0], numbers[-1]


def share(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f"from 0 to 1, not {text}")
    return number


if __name__ == "__main__":
    sys.exit(main())
