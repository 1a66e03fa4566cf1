"""Monte Carlo dropout (Gal and Ghahramani, ICML 2016): each sample drops other channels.

Only dropout modules become stochastic; normalisation stays in eval mode and no weight is touched. A sample drops whole
channels, the same ones in every window, so it is one consistent network over the whole volume: masks of single voxels
would blend many networks in the overlap of windows and shrink the variance. Elementwise `nn.Dropout` is treated so too;
among the tokens of a transformer, where channels come last, it drops features, not places.

The mask of a module in sample t depends on seed, t, the module's place and, where a network calls it several times, the
number of the call: one seed gives one set of samples and the first 5 of 10 are the samples of 5. What lies before the first active point is computed once (replay.py).
"""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from medseg.errors import UsageError
from medseg.inferers.outputs import full_resolution
from medseg.inferers.replay import LinearHead, Recording, forward_replaced
from medseg.inferers.sampler import Sampler
from medseg.networks.dropout import ChannelDropout

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

KINDS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout, ChannelDropout)
ALPHA = (nn.AlphaDropout, nn.FeatureAlphaDropout)
SELU_FLOOR = -1.7580993408473766  # - scale x alpha of SELU


def dropout_points(network: nn.Module) -> dict[str, float]:
    """Names of a network's dropout modules, in the order in which they were registered, and their probabilities."""
    return {name: float(module.p) for name, module in network.named_modules() if isinstance(module, KINDS)}


class McDropout(Sampler):
    """T samples of one network with dropout at some or all of its points.

    Args:
        network: in eval mode.
        count: samples T, at least 2.
        seed: of the masks.
        points: module name or prefix of names -> probability in [0, 1), None for the module's own; None: every dropout
            module with its own probability.

    Raises:
        UsageError: MS-U146 the network has no dropout (try tta or ensemble), or none at a named point; MS-U147 a
            number of samples below 2 or a probability outside [0, 1).
    """

    def __init__(
        self, network: nn.Module, count: int, *, seed: int = 0, points: Mapping[str, float | None] | None = None
    ) -> None:
        if count < 2:
            what = f"{count} sample{'s' * (count != 1)} of Monte Carlo dropout"
            raise UsageError("MS-U147", what, mend="ask for 2 or more, such as --uncertainty mc:20")
        self.networks = (network,)
        self.count = count
        self.seed = seed
        self.points = _active(network, points)
        self._memory: Recording | None = None

    def on(self, networks: Sequence[nn.Module]) -> McDropout:
        """See `Sampler.on`."""
        return McDropout(networks[0], self.count, seed=self.seed, points=self.points)

    def samples(self, windows: Tensor, which: range, *, same: bool = False) -> Iterator[Tensor]:
        """See `Sampler.samples`."""
        for output in self.outputs(windows, which, same=same):
            yield full_resolution(output, windows)

    def outputs(self, windows: Tensor, which: range, *, same: bool = False) -> Iterator[Any]:
        """As `samples`, whatever the network returns: instances, for example."""
        with self._masked() as drawn:
            for t in which:
                drawn.sample = t
                yield self._run(windows, same=same or t != which.start)

    def linear_head(self, windows: Tensor) -> LinearHead | None:
        """See `Sampler.linear_head`: the head where it alone has dropout."""
        if len(self.points) != 1:
            return None
        (name,) = self.points
        if self._linear(name) or isinstance(self.networks[0].get_submodule(name), ALPHA):
            return None
        with self._masked():
            self._memory = None  # before the next one is made
            self._memory = Recording(self.networks[0], self._modules(), windows)
        return self._memory.head

    def masks(self, features: int) -> Tensor:
        """See `Sampler.masks`."""
        ((_name, p),) = self.points.items()
        return torch.stack([channel_mask(self.seed, t, 0, features, p) for t in range(self.count)])

    def _run(self, windows: Tensor, *, same: bool) -> Any:
        if same and self._memory is not None:
            return self._memory.again()
        self._memory = None  # before the next one is made
        self._memory = Recording(self.networks[0], self._modules(), windows)
        return self._memory.output

    def _modules(self) -> list[nn.Module]:
        return [self.networks[0].get_submodule(name) for name in self.points]

    def _linear(self, name: str) -> bool:
        """Whether linear layers stand beside a point."""
        beside = self.networks[0].get_submodule(name.rpartition(".")[0]).children()
        return any(isinstance(module, nn.Linear) for module in beside)

    @contextmanager
    def _masked(self) -> Iterator[_Drawn]:
        """Multiply what the points return, also where a network calls their `forward`, past their hooks; for a while."""
        drawn = _Drawn(self.seed)
        hook = self.networks[0].register_forward_pre_hook(lambda *_: drawn.calls.clear())
        masked = {}
        for place, (name, p) in enumerate(self.points.items()):
            module = self.networks[0].get_submodule(name)
            masked[module] = drawn.masking(module, place, p, linear=self._linear(name))
        try:
            with forward_replaced(masked):
                yield drawn
        finally:
            hook.remove()


@dataclass
class _Drawn:
    """The masks of one sample at a time, drawn where they are needed."""

    seed: int
    sample: int = 0
    kept: dict[tuple[int, int, int, int], Tensor] = field(default_factory=dict)
    calls: Counter[int] = field(default_factory=Counter)  # of each place in this run of the network

    def masking(self, module: nn.Module, place: int, p: float, *, linear: bool) -> Callable[..., Tensor]:
        """The module's `forward`, its result masked; `linear`: it stands beside linear layers."""
        forward = module.forward

        def masked(*args: Any, **kwargs: Any) -> Tensor:
            output = forward(*args, **kwargs)
            axis = channel_axis(module, output, linear=linear)
            call = 0 if getattr(module, "one_mask", False) else self.calls[place]
            key = (self.sample, place, output.shape[axis], call)
            self.calls[place] += 1
            if key not in self.kept:
                sample, _, channels, call = key
                self.kept[key] = channel_mask(self.seed, sample, place, channels, p, call)
            mask = self.kept[key].to(output.device, output.dtype)
            mask = mask.reshape(*[-1 if i == axis else 1 for i in range(output.ndim)])
            return _alpha_masked(output, mask, p) if isinstance(module, ALPHA) else output * mask

        return masked


def _alpha_masked(output: Tensor, mask: Tensor, p: float) -> Tensor:
    """As alpha dropout does (Klambauer et al., NeurIPS 2017): dropped is the lowest value of SELU, moments stay."""
    scale = ((1 - p) * (1 + p * SELU_FLOOR**2)) ** -0.5
    return torch.where(mask > 0, output, SELU_FLOOR).mul_(scale).sub_(scale * p * SELU_FLOOR)


def channel_axis(module: nn.Module, output: Tensor, *, linear: bool) -> int:
    """Which axis holds the channels: 1 as in convolutions; the last of (B, N, C), and behind linear layers of volumes.

    Args:
        module: the dropout.
        output: what it returned.
        linear: linear layers stand beside it, such as in a transformer's MLP.
    """
    tokens = output.ndim == 3 or (output.ndim == 5 and linear)
    return output.ndim - 1 if isinstance(module, nn.Dropout) and tokens else 1


def channel_mask(seed: int, sample: int, place: int, channels: int, p: float, call: int = 0) -> Tensor:
    """(channels,) float32 factors: 0 with probability p, else 1 / (1 - p); the same for the same arguments."""
    draw = np.random.Generator(np.random.Philox(np.random.SeedSequence((seed, sample, place, call))))
    kept = draw.random(channels) >= p
    return torch.from_numpy(kept.astype(np.float32) / np.float32(1.0 - p))


def _active(network: nn.Module, points: Mapping[str, float | None] | None) -> dict[str, float]:
    """Module name -> probability, in the network's own order."""
    there = dropout_points(network)
    wanted = {name: there[name] for name in there} if points is None else {}
    for prefix, p in (points or {}).items():
        found = [name for name in there if name == prefix or name.startswith(prefix + ".")]
        if not found:
            known = ", ".join(there) or "none"
            what = f"the network has no dropout at {prefix!r} (it has: {known})"
            raise UsageError("MS-U146", what, mend="name a dropout module, or use --uncertainty tta or ensemble")
        wanted |= {name: there[name] if p is None else float(p) for name in found}
    if not there or (points is None and not any(there.values())):
        what = "the network has no dropout" if not there else "the network's dropout probabilities are all 0"
        mend = "use --uncertainty tta (test-time augmentation) or ensemble (several weight files)"
        raise UsageError("MS-U146", f"{what}, so its Monte Carlo samples would all be the same", mend=mend)
    for name, p in wanted.items():
        if not 0.0 <= p < 1.0:
            what = f"the dropout probability at {name!r} is {p:g}"
            raise UsageError("MS-U147", what, mend="give a probability of at least 0 and less than 1")
    return {name: wanted[name] for name in there if name in wanted}
