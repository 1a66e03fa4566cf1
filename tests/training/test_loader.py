"""The loader: what a sample looks like follows from seed, epoch and its number alone."""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest
import torch
from monai.data import Dataset
from monai.transforms import Compose, OneOf, RandomizableTransform
from torch.utils.data import SequentialSampler

from medseg.errors import InputError, MedsegError
from medseg.training import CaseLoader
from medseg.training import loader as loader_module
from medseg.training.loader import remembers

CASES = 11


class Drawn(RandomizableTransform):
    """Adds one number of every generator there is."""

    def __call__(self, item):
        everything = self.R.rand(), np.random.rand(), random.random(), float(torch.rand(()))  # noqa: NPY002
        return item | {"drawn": torch.tensor([*item.get("drawn", torch.zeros(0)).tolist(), *everything])}


class Chain(RandomizableTransform):
    """Each sample holds the sum of all before it."""

    remembers = True

    def __init__(self):
        super().__init__()
        self.total = 0.0

    def set_random_state(self, seed=None, state=None):
        self.total = 0.0
        return super().set_random_state(seed, state)

    def __call__(self, item):
        self.total += self.R.rand()
        return item | {"total": self.total}


def refuse_case_3(item):
    if item["case"] == 3:
        msg = "no such anatomy"
        raise ValueError(msg)
    return item


def refuse_by_code(item):
    raise InputError("MS-F999", "not a scan", file=item["image"], mend="take it out")


def die(item):
    os.kill(os.getpid(), signal.SIGKILL)
    return item


def cases(*transforms) -> Dataset:
    data = [{"case": n, "image": f"scans/case_{n}.nii.gz"} for n in range(CASES)]
    return Dataset(data, Compose([Drawn(), OneOf([Drawn(), Drawn()]), *transforms]))


def loader(*transforms, workers: int = 0, **options) -> CaseLoader:
    options = {"batch_size": 3, "shuffle": True, "drop_last": True} | options
    return CaseLoader(cases(*transforms), num_workers=workers, **options)


def seen(batches) -> list:
    return [
        {key: value if isinstance(value, list) else value.tolist() for key, value in one.items()} for one in batches
    ]


def epochs(one: CaseLoader, n: int) -> list:
    return [seen(one) for _ in range(n)]


def test_every_epoch_has_another_order_and_other_samples_and_is_the_same_again():
    first, second = epochs(loader(), 2)
    order = [case for batch in first for case in batch["case"]]
    assert sorted(order) != order
    assert [b["case"] for b in first] != [b["case"] for b in second]
    assert first[0]["drawn"] != second[0]["drawn"]
    drawn = np.concatenate([batch["drawn"] for batch in first]).ravel()
    assert len(np.unique(drawn)) == drawn.size
    assert epochs(loader(), 2) == [first, second]
    assert epochs(loader(seed=1), 1) != [first]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(workers):
    assert epochs(loader(workers=workers), 2) == epochs(loader(), 2)


@pytest.mark.parametrize("transforms", [(), (Chain,)], ids=["plain", "remembering"])
def test_a_loader_goes_on_in_the_middle_of_an_epoch_and_at_its_end(transforms):
    whole = epochs(loader(*(kind() for kind in transforms)), 3)
    for stopped in range(1, 4):
        one = loader(*(kind() for kind in transforms))
        list(one)
        rest = iter(one)
        begun = seen([next(rest) for _ in range(stopped)])
        state = one.state_dict()
        assert state == {"epoch": 2, "batch": stopped}
        again = loader(*(kind() for kind in transforms))
        again.load_state_dict(state)
        if stopped < 3:
            assert begun + seen(again) == whole[1]
        assert seen(again) == whole[2]


def test_only_transforms_that_remember_are_replayed():
    counted = []
    plain = loader(lambda item: counted.append(item["case"]) or item)
    plain.load_state_dict({"epoch": 1, "batch": 2})
    assert len(list(plain)) == 1
    assert len(counted) == 3
    assert remembers(Compose([Drawn(), Compose([Chain()])]))
    assert not remembers(cases().transform)
    assert not remembers(None)


def test_the_generators_of_the_network_are_left_alone():
    random.seed(5)
    np.random.seed(5)  # noqa: NPY002
    torch.manual_seed(5)

    def state():
        return random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()  # noqa: NPY002

    before = state()
    epochs(loader(), 1)
    assert state() == before


@pytest.mark.parametrize("drop_last", [True, False])
def test_processes_share_the_batches_of_one(monkeypatch, drop_last):
    whole = epochs(loader(batch_size=4, drop_last=drop_last), 1)[0]
    monkeypatch.setattr(loader_module.idist, "get_world_size", lambda: 2)
    shares = []
    for rank in range(2):
        monkeypatch.setattr(loader_module.idist, "get_rank", lambda rank=rank: rank)
        shares.append(epochs(loader(batch_size=2, drop_last=drop_last), 1)[0])
    assert len(shares[0]) == len(shares[1]) == len(whole)
    for both, together in zip(zip(*shares, strict=True), whole, strict=True):
        for key, values in together.items():
            assert (both[0][key] + both[1][key])[: len(values)] == values


def test_a_sampler_says_the_order():
    one = loader(sampler=SequentialSampler(range(CASES)), shuffle=False)
    assert [batch["case"] for batch in seen(one)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8]]
    with pytest.raises(ValueError, match="leave shuffle off"):
        loader(sampler=SequentialSampler(range(CASES)))


@pytest.mark.parametrize("workers", [0, 1])
def test_what_goes_wrong_is_told_whole_with_its_case(workers, caplog):
    with pytest.raises(MedsegError, match=r"MS-T160 scans/case_3.nii.gz[\s\S]*no such anatomy"):
        epochs(loader(refuse_case_3, workers=workers), 1)
    assert "refuse_case_3" in caplog.text  # the traceback
    with pytest.raises(InputError, match=r"MS-F999 scans/case_\d+.nii.gz: not a scan"):
        epochs(loader(refuse_by_code, workers=workers), 1)


def test_a_worker_that_was_killed_is_told_with_a_mend():
    with pytest.raises(MedsegError, match=r"MS-T161[\s\S]*num_workers"):
        epochs(loader(die, workers=1), 1)
