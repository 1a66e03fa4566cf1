"""A data loader whose n-th sample of an epoch is the same, however many workers there are and wherever a run was stopped.

MONAI's DataLoader draws the order from torch's generator and lets every worker's transforms go on from a state of their
own: what a sample looks like depends on what was loaded before it, and a run cannot be gone on with in the middle of
an epoch. Here order and transforms are seeded by (seed, epoch, number of the sample), so that the state of the loader is
two numbers. (torchdata's StatefulDataLoader keeps the state of every worker instead, and MONAI's transforms have none
that it could keep.)
"""

from __future__ import annotations

import os
import random
import signal
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import ignite.distributed as idist
import numpy as np
import torch
from monai.data import DataLoader
from monai.data.utils import list_data_collate
from monai.transforms import Compose, Randomizable
from torch.utils.data import Dataset, Sampler

from medseg.errors import MedsegError
from medseg.training.case_failure import CaseFailure, failure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence, Sized

#: Epoch, number of the sample in it, index of the case.
Place = tuple[int, int, int]

#: What torch says when a worker is gone, most often killed by the system for memory.
_DEAD = ("exited unexpectedly", "killed by signal")


class CaseLoader(DataLoader):
    """MONAI's DataLoader, repeatable sample by sample.

    With several processes each gets its share of every global batch: all of them together see what one process with
    the global batch would see.

    Args:
        dataset: a dataset of cases with MONAI's transforms.
        batch_size: samples of this process at a time.
        shuffle: a new order every epoch.
        drop_last: leave out the samples that do not fill a batch.
        seed: of order and transforms.
        num_workers: processes that load; 0: this one does.
        sampler: another order of cases, such as a DistributedSampler; `shuffle` must be off then.
        collate_fn: makes a batch of samples.
        kwargs: of torch's DataLoader.

    Attributes:
        epoch: how often it was iterated over, the present time included.
        batch: batches of the present epoch that were given out.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int = 1,
        *,
        shuffle: bool = False,
        drop_last: bool = False,
        seed: int = 0,
        num_workers: int = 0,
        sampler: Sampler[int] | None = None,
        collate_fn: Callable[[list], Any] = list_data_collate,
        **kwargs: Any,
    ) -> None:
        if sampler is not None and shuffle:
            msg = "a sampler says the order: leave shuffle off"
            raise ValueError(msg)
        self.epoch = 0
        self.batch = 0
        self._resumed = False
        self._order = _Order(dataset, batch_size, seed, sampler, shuffle=shuffle, drop_last=drop_last)  # type: ignore[arg-type]
        generator = torch.Generator().manual_seed(seed)  # torch draws from it whenever a loader is iterated over
        super().__init__(
            _Seeded(dataset, seed),
            num_workers,
            batch_size=batch_size,
            sampler=self._order,
            drop_last=drop_last,
            collate_fn=_Collated(collate_fn),
            worker_init_fn=_leave_interrupts_to_main,
            generator=generator,
            **kwargs,
        )

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        """The batches of the next epoch, or the rest of the one that a run was stopped in.

        Raises:
            MedsegError: what a transform refused, with its case; MS-T160 for any other error of a case, MS-T161 where
                a worker was killed.
        """
        if not self._resumed:
            self.epoch, self.batch = self.epoch + 1, 0
        self._resumed = False
        replayed = self.batch if remembers(getattr(self._order.dataset, "transform", None)) else 0
        self._order.epoch = self.epoch
        self._order.start = 0 if replayed else self.batch * (self.batch_size or 1)
        return self._counted(super().__iter__(), replayed)

    def state_dict(self) -> dict[str, int]:
        """Where it is."""
        return {"epoch": self.epoch, "batch": self.batch}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from there: the next iteration is over the rest of that epoch, or over the next where there is none."""
        self.epoch, self.batch = int(state["epoch"]), int(state["batch"])
        self._resumed = 0 < self.batch < len(self)

    def _counted(self, batches: Iterator[Any], replayed: int) -> Iterator[Any]:
        try:
            for number, batch in enumerate(batches):
                if isinstance(batch, CaseFailure):
                    raise batch.error()
                if number < replayed:
                    continue
                self.batch += 1
                yield batch
        except RuntimeError as error:
            refusal = killed(error)
            if refusal is None:
                raise
            raise refusal from error


def killed(error: BaseException) -> MedsegError | None:
    """MS-T161 where an error of torch says that a process which loads cases is gone, else None."""
    if not isinstance(error, RuntimeError) or not any(words in str(error) for words in _DEAD):
        return None
    return MedsegError(
        "MS-T161", f"a process that loads cases was killed ({str(error).splitlines()[0]})",
        mend="most often memory ran out: lower num_workers or cache_gb in train.json, or choose a --hardware with less; then go on with --resume",
    )  # fmt: skip


def remembers(transform: Any) -> bool:
    """Whether a transform, or one inside it, makes a sample from those before it (`remembers = True`)."""
    if getattr(transform, "remembers", False):
        return True
    return isinstance(transform, Compose) and any(remembers(one) for one in transform.transforms)


def seed_transform(transform: Any, seeds: Iterator[int], *, forget: bool) -> None:
    """Give every random transform its own seed, those in a Compose too.

    Args:
        transform: MONAI's, or anything.
        seeds: one is taken for each.
        forget: those that remember earlier samples forget them.
    """
    if isinstance(transform, Compose):
        Randomizable.set_random_state(
            transform, next(seeds)
        )  # of OneOf and its like; Compose's own would seed all alike
        for one in transform.transforms:
            seed_transform(one, seeds, forget=forget)
    elif isinstance(transform, Randomizable):
        if forget or not remembers(transform):
            transform.set_random_state(next(seeds))
        else:
            Randomizable.set_random_state(transform, next(seeds))


class _Order(Sampler[Place]):
    """Which case stands at which place of which epoch.

    `epoch` and `start` are set by the loader before each iteration.
    """

    def __init__(
        self,
        dataset: Sized,
        batch_size: int,
        seed: int,
        sampler: Sampler[int] | None,
        *,
        shuffle: bool,
        drop_last: bool,
    ) -> None:
        self.dataset = dataset
        self.batch_size = batch_size
        self.seed = seed
        self.sampler = sampler
        self.shuffle = shuffle
        self.drop_last = drop_last
        self.epoch = 1
        self.start = 0

    def __len__(self) -> int:
        """Samples of this process in an epoch."""
        if self.sampler is not None:
            return len(self.sampler)  # type: ignore[arg-type]
        world = idist.get_world_size()
        if world == 1:
            return len(self.dataset)
        whole = self.batch_size * world
        batches = len(self.dataset) // whole if self.drop_last else -(-len(self.dataset) // whole)
        return batches * self.batch_size

    def __iter__(self) -> Iterator[Place]:
        epoch, start = self.epoch, self.start
        for number, index in self._numbered()[start:]:
            yield epoch, number, index

    def _numbered(self) -> list[tuple[int, int]]:
        """(number in the epoch among all processes, index of the case) of this process."""
        world, rank = idist.get_world_size(), idist.get_rank()
        if self.sampler is not None:
            set_epoch = getattr(self.sampler, "set_epoch", None)
            if set_epoch is not None:
                set_epoch(self.epoch)
            return [(n * world + rank, index) for n, index in enumerate(self.sampler)]
        order: Sequence[int] = range(len(self.dataset))
        if self.shuffle:
            order = np.random.default_rng([self.seed, self.epoch]).permutation(len(self.dataset)).tolist()
        own = len(self)
        places = [(n // self.batch_size * world + rank) * self.batch_size + n % self.batch_size for n in range(own)]
        return [(place, order[place % len(order)]) for place in places]


class _Seeded(Dataset):
    """The cases of a dataset, each with randomness of its own; what goes wrong is given back instead of raised."""

    def __init__(self, dataset: Dataset, seed: int) -> None:
        self.inner = dataset
        self.seed = seed
        self._epoch = 0

    def __len__(self) -> int:
        return len(self.inner)  # type: ignore[arg-type]

    def __getitem__(self, place: Place) -> Any:
        epoch, number, index = place
        seeds = _seeds(np.random.default_rng([self.seed, epoch, number]))
        forget = epoch != self._epoch
        self._epoch = epoch
        with _seeded_globals(next(seeds)):
            seed_transform(getattr(self.inner, "transform", None), seeds, forget=forget)
            try:
                return self.inner[index]
            except Exception as error:  # noqa: BLE001  raised again in the main process
                return failure_of(error, self.inner, index)


class _Collated:
    """A collate function that lets a failure through alone."""

    def __init__(self, collate: Callable[[list], Any]) -> None:
        self.collate = collate

    def __call__(self, samples: list) -> Any:
        failed = [one for one in samples if isinstance(one, CaseFailure)]
        return failed[0] if failed else self.collate(samples)


def _seeds(generator: np.random.Generator) -> Iterator[int]:
    while True:
        yield int(generator.integers(2**32))  # what RandomState takes


@contextmanager
def _seeded_globals(seed: int) -> Iterator[None]:
    """Python's, numpy's and torch's own generators for transforms that use them, and as they were afterwards."""
    kept = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002  transforms use it
    random.seed(seed)
    np.random.seed(seed)  # noqa: NPY002
    torch.default_generator.manual_seed(seed)
    try:
        yield
    finally:
        random.setstate(kept[0])
        np.random.set_state(kept[1])  # noqa: NPY002
        torch.set_rng_state(kept[2])


def _leave_interrupts_to_main(worker: int) -> None:
    """Ctrl-C and SIGTERM reach every process of a terminal or a job; the main one ends the workers after its step is saved."""
    del worker
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):  # Linux; elsewhere a worker that is asked to end does
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_for, args=(os.getppid(),), daemon=True).start()


def _end_for(parent: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != parent:
        pass
    os._exit(0)
