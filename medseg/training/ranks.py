"""More than one process: which of them this is, what one does alone, and what all do together.

`torchrun` starts the processes and tells each its number in the environment. A bundle's multi_gpu_train.json names the
pieces here; `medseg train` and `medseg predict` find the same environment. Rank 0 is the one that writes.

Every rank trains on batches of its own; gradients are averaged over ranks, and so are losses that are a mean over
samples: N ranks with batches of B do what one process does with a batch of N B. A loss that sums over the batch before
it divides (`batch: true` of a Dice loss) sees the batch of its rank alone.
"""

from __future__ import annotations

import atexit
import os
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import nn

from medseg.errors import MedsegError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

#: MONAI's and ignite's handlers that write files or the screen, by name: some need packages that may not be there.
WRITERS = frozenset({"CheckpointSaver", "StatsHandler", "TensorBoardHandler", "MLFlowHandler", "ClearMLHandler"})
#: How long one rank may wait for another. One that died ends all of them at once, by torchrun.
PATIENCE = timedelta(hours=6)


def launched() -> tuple[int, int]:
    """(number of this process, number of processes) as torchrun says; (0, 1) without it."""
    try:
        rank, count = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    except (KeyError, ValueError):
        return 0, 1
    # Queues and containers set the first two as well; where the others are, torchrun says.
    return (rank, count) if 0 <= rank < count and "MASTER_ADDR" in os.environ else (0, 1)


def local_device() -> torch.device:
    """This process's own GPU, or the CPU where there is none."""
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


@contextmanager
def joined(backend: str | None = None, timeout: timedelta = PATIENCE) -> Iterator[tuple[int, int]]:
    """Join the other processes that torchrun started, for the length of a `with`; nothing to join without it.

    Args:
        backend: None: NCCL on GPUs and gloo on CPUs.
        timeout: how long one waits for another.

    Yields:
        As `launched`.
    """
    rank, count = launched()
    if count == 1 or dist.is_initialized():
        yield rank, count
        return
    _join(backend, timeout)
    try:
        yield rank, count
    except BaseException:
        _leave(together=False)  # the others may never come to this point: torchrun ends them
        raise
    _leave(together=True)


def first_alone(action: Callable[[], Any]) -> Any:
    """Rank 0 does something while the others wait; all get what it returned (it must be possible to pickle).

    Raises:
        Whatever `action` raises, on rank 0; the others end quietly, with the exit code that rank 0 will have.
    """
    if not dist.is_initialized():
        return action()
    told: list[Any] = [None, None]
    if dist.get_rank() == 0:
        try:
            told = [None, action()]
        except BaseException as error:
            dist.broadcast_object_list([error.exit_code if isinstance(error, MedsegError) else 1, None])
            raise
    dist.broadcast_object_list(told)
    code, result = told
    if code is not None:
        raise SystemExit(code)
    return result


def gathered(mine: Any) -> list[Any]:
    """What every rank gives (it must be possible to pickle), in the order of ranks, on every rank."""
    if not dist.is_initialized():
        return [mine]
    found: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(found, mine)
    return found


class Rank:
    """This process among those of torchrun, as a component of a bundle: who builds it has joined the others.

        "rank": {"_target_": "medseg.training.Rank"},
        "device": "$@rank.device",
        "finalize": ["$@rank.leave()"]

    Attributes:
        index: number of this process, 0 for the one that writes.
        count: how many there are.
        device: where it computes.
    """

    def __init__(self) -> None:
        self.index, self.count = launched()
        self.device = local_device()
        self._joined = self.count > 1 and not dist.is_initialized()
        if self._joined:
            _join(None, PATIENCE)
            atexit.register(_leave, together=False)

    def leave(self) -> None:
        """Wait for the others and part, if this object has joined them: who leaves first breaks what others still do."""
        if self._joined:
            _leave(together=True)


class Replicated(nn.parallel.DistributedDataParallel):
    """A network whose gradients are averaged over the ranks (torch's DistributedDataParallel, on any device).

    Args:
        module: on the rank's device; rank 0's weights are copied to all.
        find_unused_parameters: some weights have no gradient in some steps, as the heads of a network that found nothing.
    """

    def __init__(self, module: nn.Module, find_unused_parameters: bool = False) -> None:
        device = next(module.parameters()).device
        super().__init__(
            module,
            device_ids=[device] if device.type == "cuda" else None,
            find_unused_parameters=find_unused_parameters,
        )


class RankHandlers(list):
    """The handlers of this rank: all of them on rank 0, elsewhere those that neither write nor print.

    What writes is known by name (`WRITERS`), or says so itself by an attribute `first_rank_only`. Metrics are no
    handlers: they are computed together, so that every rank knows the best epoch and the time to stop.

    Args:
        handlers: of rank 0.
    """

    def __init__(self, handlers: Sequence[Any]) -> None:
        elsewhere = launched()[0] > 0
        super().__init__(one for one in handlers if not (elsewhere and writes(one)))


def writes(handler: Any) -> bool:
    """Whether a handler is for one rank alone because it writes files or the screen."""
    names = {kind.__name__ for kind in type(handler).__mro__}
    return bool(getattr(handler, "first_rank_only", False)) or not WRITERS.isdisjoint(names)


def _join(backend: str | None, timeout: timedelta) -> None:
    device = local_device()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(backend or ("nccl" if device.type == "cuda" else "gloo"), timeout=timeout)


def _leave(*, together: bool) -> None:
    if not dist.is_initialized():
        return
    if together:
        dist.barrier()
    dist.destroy_process_group()
