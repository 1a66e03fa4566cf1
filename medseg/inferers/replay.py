"""Run a network again from its first stochastic point on, without computing what lies before it once more.

Monte Carlo samples differ only behind the first active dropout. While a network runs, the outermost submodules that
finish before that point are noted with what they returned; run again, they return it without computing. Plain
operations between them (addition, interpolation) are done again; of a skip connection that is concatenated and
convolved behind the point, the share in the convolution is computed once (joined.py). All runs compute alike, the
first too, so equal masks give equal bits. This works for any `nn.Module` that computes in eval mode; nothing of it is
changed when the recording is over. A call of a module's `forward`, past its hooks, is not noted; where the same module
is also called as usual the two could not be told apart, and all is computed again.
"""

from __future__ import annotations

from collections import defaultdict, deque
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass, replace
from itertools import count
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from medseg.inferers.joined import Shared, WrittenError, plain, version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence


@dataclass(frozen=True, eq=False)
class LinearHead:
    """A network that ends: point, then one 1x1x1 convolution. All samples are then one matrix product.

    Args:
        features: (n, F, *roi) what the point received.
        convolution: weight (K, F, 1, 1, 1) and bias.
    """

    features: Tensor
    convolution: nn.Conv3d


@dataclass(frozen=True, eq=False)
class Finished:
    """A module that returned before the first point was reached.

    Args:
        module: the module.
        result: what it returned.
        versions: how often each tensor of it had been written to then.
        number: the how-manieth call of the run it was.
    """

    module: nn.Module
    result: Any
    versions: list[int]
    number: int


class Recording:
    """One run of a network, and what can be left out when it is run again on the same input.

    Args:
        network: in eval mode, without gradients.
        points: the modules from which on runs differ.
        inputs: (n, C, *roi); each run gets a copy, to write into as it likes.
    """

    def __init__(self, network: nn.Module, points: Sequence[nn.Module], inputs: Tensor) -> None:
        self.network, self.points, self.inputs = network, tuple(points), inputs
        self._written: set[int] = set()  # calls into whose results somebody writes behind their backs (x += skip)
        self._joining = True
        while True:
            try:
                self.output, self._finished, self.head = self._record()
            except WrittenError:
                self._joining = False
                continue
            written = {f.number for f in self._finished if _versions(f.result) != f.versions}
            if not written:
                break
            self._written |= written  # of these, copies are handed out

    def again(self) -> Any:
        """The network's output once more, computed from the first point on."""
        waiting: dict[int, deque[Finished]] = defaultdict(deque)
        modules: dict[int, nn.Module] = {}
        for done in self._finished:
            waiting[id(done.module)].append(done)
            modules[id(done.module)] = done.module
        replaced = {point: self._reaching(point.forward, None) for point in self.points}
        replaced |= {module: self._returning(waiting[i], module) for i, module in modules.items()}
        try:
            with forward_replaced(replaced):
                return _plain(self.network(self.inputs.clone()))
        finally:
            self._shared.active = False

    @property
    def splits(self) -> int:
        """How many convolutions compute a share of theirs only once (joined.py)."""
        return self._shared.splits

    def _reaching(self, forward: Callable[..., Any], received: list[Any] | None) -> Callable[..., Any]:
        """The `forward` of a point; what it is given is noted where there is a list for it."""

        def reached(*args: Any, **kwargs: Any) -> Any:
            self._shared.active = self._joining
            if received is not None:
                received.append(_plain(args[0]) if args else None)
            return forward(*args, **kwargs)

        return reached

    def _returning(self, results: deque[Finished], module: nn.Module) -> Callable[..., Any]:
        forward = module.forward

        def returned(*args: Any, **kwargs: Any) -> Any:
            if not results:
                return forward(*args, **kwargs)
            done = results.popleft()
            return _copied(done.result, tensors=done.number in self._written)

        return returned

    def _record(self) -> tuple[Any, list[Finished], LinearHead | None]:
        finished: list[Finished] = []
        depth: list[tuple[int, list[int]]] = []  # of each open call: how many had finished, versions of its arguments
        reached: list[Any] = []  # what the points received
        behind: list[tuple[nn.Module, Any, Any]] = []  # leaf calls from the first point on
        watch = _Watch()
        self._shared = Shared()
        calls = count()

        def before(module: nn.Module, args: tuple[Any, ...]) -> None:
            watch.entered = module
            depth.append((len(finished), _versions(args)))

        def after(module: nn.Module, args: tuple[Any, ...], result: Any) -> Any:
            begun, versions = depth.pop()
            number = next(calls)
            if reached:
                if next(module.children(), None) is None:
                    behind.append((module, args[0] if args else None, result))
                return None
            if len(module._forward_hooks) > 1:  # somebody's own: they must see what it returns, each time
                return None
            del finished[begun:]  # the outermost module holds what those inside it gave
            if _versions(args) != versions:  # it writes into what it is given: it must do so each time
                return None
            copied = number in self._written
            given = _copied(result, tensors=True) if copied else self._shared.mark(result)
            kept = _copied(given, tensors=False)
            finished.append(Finished(module, kept, _versions(kept), number))
            return result if copied else given

        hooks, replaced = [], {}
        for module in self.network.modules():
            if not isinstance(module, torch.jit.ScriptModule):  # these take no hooks
                hooks += [module.register_forward_pre_hook(before), module.register_forward_hook(after)]
                point = module in self.points
                forward = self._reaching(module.forward, reached) if point else module.forward
                replaced[module] = watch.around(module, forward)
        try:
            with forward_replaced(replaced):
                output = _plain(self.network(self.inputs.clone()))
        finally:
            self._shared.active = False
            for hook in hooks:
                hook.remove()
        if any(done.module in watch.past_hooks for done in finished):
            self._joining, finished = False, []
            output = _plain(self.network(self.inputs.clone()))  # as it will be computed again
        return output, finished, None if watch.past_hooks else _linear_head(reached, behind, output)


class _Watch:
    """Sees which modules a network calls as they are meant to be, and of which it calls `forward`, past the hooks.

    Attributes:
        entered: whose hooks have run, and whose `forward` is about to.
        past_hooks: modules whose `forward` was called without them.
    """

    def __init__(self) -> None:
        self.entered: nn.Module | None = None
        self.past_hooks: set[nn.Module] = set()

    def around(self, module: nn.Module, forward: Callable[..., Any]) -> Callable[..., Any]:
        """The same `forward`, watched."""

        def called(*args: Any, **kwargs: Any) -> Any:
            if self.entered is not module:
                self.past_hooks.add(module)
            self.entered = None
            return forward(*args, **kwargs)

        return called


def _linear_head(reached: list[Any], behind: list[tuple[nn.Module, Any, Any]], output: Any) -> LinearHead | None:
    """The head if, from the only point on, there is nothing but one 1x1x1 convolution that gives the output."""
    if len(reached) != 1 or len(behind) != 2:
        return None
    (_, _, dropped), (last, received, result) = behind
    if not isinstance(last, nn.Conv3d) or received is not dropped or result is not output or reached[0] is None:
        return None
    plain = set(last.kernel_size) == set(last.stride) == {1} and last.groups == 1 and set(last.padding) == {0}
    return LinearHead(reached[0], last) if plain else None


@contextmanager
def forward_replaced(replacements: dict[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Modules with another `forward` for a while; it is found by whoever calls the module or its `forward`."""
    own = {module: module.__dict__.get("forward") for module in replacements}
    for module, forward in replacements.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, before in own.items():
            if before is None:
                del module.forward  # the class's own is seen again
            else:
                module.forward = before


def _copied(result: Any, *, tensors: bool) -> Any:
    """Containers of their own, so that nobody's `pop` is felt twice; tensors are copied only where they must be."""
    if isinstance(result, Tensor):
        return result.clone() if tensors else result
    if isinstance(result, dict):
        return {key: _copied(value, tensors=tensors) for key, value in result.items()}
    if isinstance(result, list | tuple):
        parts = [_copied(value, tensors=tensors) for value in result]
        return type(result)(*parts) if hasattr(result, "_fields") else type(result)(parts)
    return result


def _plain(result: Any) -> Any:
    """Ordinary tensors for whoever did not record."""
    if _fields(result):
        return replace(result, **{f: _plain(getattr(result, f)) for f in _fields(result)})
    if type(result) in (list, tuple):
        return type(result)(_plain(value) for value in result)
    return tree_map_only(Tensor, plain, result)


def _fields(result: Any) -> list[str]:
    """The fields of a dataclass' instance, else none."""
    return [f.name for f in fields(result)] if is_dataclass(result) and not isinstance(result, type) else []


def _versions(result: Any) -> list[int]:
    """How often each tensor was written to in place."""
    if isinstance(result, Tensor):
        return [version(result)]
    if isinstance(result, dict):
        return [v for value in result.values() for v in _versions(value)]
    if isinstance(result, list | tuple):
        return [v for value in result for v in _versions(value)]
    return [v for f in _fields(result) for v in _versions(getattr(result, f))]
