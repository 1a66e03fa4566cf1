"""One process of NVFLARE held by a command: begun again when it dies, and ended with everything that it started.

NVFLARE's job processes have sessions of their own and outlive a killed parent; so whoever descends from the process is
remembered while it lives, and ended in any case.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from medseg.errors import InputError, OutputError
from medseg.stop import stoppable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    import psutil

    from medseg.federated.kits.kit import Kit

#: A process that dies so often within so many seconds is not begun again.
TIMES, WITHIN_S = 5, 300.0
#: Seconds before it is begun again, and those that it has to end in peace.
PAUSE_S, PEACE_S = 2.0, 5.0
_TICK_S = 0.5


def supervise(
    command: Sequence[str], kit: Kit, tell: Callable[[str], object], watch: Callable[[], object] = lambda: None
) -> None:
    """Run a process until this one is interrupted or asked to end (SIGTERM).

    Args:
        command: of the process.
        kit: where it works; its output goes to KIT/console.txt.
        tell: is told when it is begun again.
        watch: called every half second.

    Raises:
        OutputError: MS-J061 the kit is in use.
        InputError: MS-J060 it dies again and again.
        Stopped: somebody ended it, by Ctrl-C or SIGTERM; nothing of it is left then.
    """
    with _alone(kit), stoppable():
        deaths: list[float] = []
        while True:
            code = _once(command, kit, watch)
            deaths = [at for at in deaths if at > time.monotonic() - WITHIN_S] + [time.monotonic()]
            if len(deaths) >= TIMES:
                raise InputError(
                    "MS-J060", f"its process ended {TIMES} times, last with code {code}", file=kit.root,
                    mend="the reason stands at the end of console.txt and error_log.txt in the kit",
                )  # fmt: skip
            tell(f"the process ended (code {code}); it is begun again in {PAUSE_S:g} s")
            time.sleep(PAUSE_S)


def _once(command: Sequence[str], kit: Kit, watch: Callable[[], object]) -> int:
    """Run it once; its exit code, with nothing of it left."""
    import psutil

    with (kit.root / "console.txt").open("ab") as console:
        process = subprocess.Popen(
            list(command), cwd=kit.root, stdin=subprocess.DEVNULL, stdout=console, stderr=subprocess.STDOUT
        )
    family: set[psutil.Process] = set()
    try:
        while process.poll() is None:
            with suppress(psutil.Error):
                family.update(psutil.Process(process.pid).children(recursive=True))
            watch()
            with suppress(subprocess.TimeoutExpired):
                process.wait(_TICK_S)
        return process.returncode
    finally:
        with suppress(psutil.Error):
            family.update(psutil.Process(process.pid).children(recursive=True))
        end(family)
        process.terminate()
        try:
            process.wait(PEACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def end(family: set[psutil.Process]) -> None:
    """End processes: asked first, killed after a while; those that are gone already are no matter."""
    import psutil

    for one in family:
        with suppress(psutil.Error):
            one.terminate()
    _, alive = psutil.wait_procs(list(family), timeout=PEACE_S)
    for one in alive:
        with suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(alive, timeout=PEACE_S)


@contextmanager
def _alone(kit: Kit) -> Iterator[None]:
    from filelock import FileLock, Timeout

    lock = FileLock(kit.root / ".medseg.lock", timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise OutputError("MS-J061", "this kit is in use by another process", file=kit.root,
                          mend="end that one first; two sites of one name would push each other out") from None  # fmt: skip
    try:
        yield
    finally:
        lock.release()
