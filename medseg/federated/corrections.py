"""What keeps a site's training near the others': hooks between the backward pass and the optimiser's step.

They stand behind `medseg.training.GradientGuard`: it clips what the data say, and where it skips a step there are no
gradients, so nothing is corrected either. Where gradients of several batches are added up, their sum is corrected once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from monai.engines.utils import IterationEvents

from medseg.training.gradients import steps_now

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ignite.engine import Engine
    from torch import Tensor, nn


class ProximalPull:
    """FedProx: the gradient of `mu / 2 |w - w_global|^2`, which is `mu (w - w_global)` (Li et al., MLSys 2020).

    Args:
        network: that trains.
        mu: strength; 0: nothing is done.
    """

    def __init__(self, network: nn.Module, mu: float) -> None:
        self.network = network
        self.mu = mu
        self._centre: dict[str, Tensor] = {}

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, behind its other handlers."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def begin(self) -> None:
        """A round begins: the present weights are the global ones."""
        self._centre = {name: value.detach().clone() for name, value in _learning(self.network)} if self.mu else {}

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Pull."""
        if not self._centre or not steps_now(engine):
            return
        for name, value in _learning(self.network):
            if value.grad is not None and name in self._centre:
                value.grad.add_(value - self._centre[name], alpha=self.mu)


class ControlVariates:
    """SCAFFOLD: the gradient gets `c - c_i`, and c_i becomes the mean gradient of the round (Karimireddy et al., ICML 2020).

    The paper's option II, `c_i' = c_i - c + (w_global - w_i) / (K lr)`, is for plain SGD the mean of the uncorrected
    gradients along the way: `w_global - w_i = lr sum_k (g_k - c_i + c)`. That mean is taken here, so that it does not
    depend on the optimiser.

    Args:
        network: that trains.
    """

    def __init__(self, network: nn.Module) -> None:
        self.network = network
        self.own: dict[str, Tensor] = {name: torch.zeros_like(value) for name, value in network.named_parameters()}
        self._of_all: dict[str, Tensor] = {}
        self._sum: dict[str, Tensor] = {}
        self._steps = 0

    def attach(self, engine: Engine) -> None:
        """Register with a trainer, behind its other handlers."""
        engine.add_event_handler(IterationEvents.BACKWARD_COMPLETED, self)

    def state_dict(self) -> dict[str, Tensor]:
        """What a checkpoint keeps: c_i."""
        return dict(self.own)

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Go on from a checkpoint."""
        self.own = {name: state[name].to(value) for name, value in self.own.items()}

    def begin(self, of_all: Mapping[str, Tensor]) -> None:
        """A round begins with the server's c."""
        self._of_all = {name: value.to(self.own[name]) for name, value in of_all.items() if name in self.own}
        self._sum = {name: torch.zeros_like(value) for name, value in self.own.items()}
        self._steps = 0

    @torch.no_grad()
    def __call__(self, engine: Engine) -> None:
        """Note the gradient, and correct it."""
        if not steps_now(engine):
            return
        seen = False
        for name, value in _learning(self.network):
            if value.grad is None or name not in self.own:
                continue
            seen = True
            self._sum[name] += value.grad
            if name in self._of_all:
                value.grad.add_(self._of_all[name] - self.own[name])
        self._steps += seen

    def end(self) -> dict[str, Tensor]:
        """The round is over: what c_i changed by, for those entries of which the server has a c."""
        if not self._steps:
            return {name: torch.zeros_like(self.own[name]).cpu() for name in self._of_all}
        after = {name: value / self._steps for name, value in self._sum.items()}
        change = {name: (after[name] - self.own[name]).float().cpu() for name in self._of_all}
        self.own = after
        return change


def _learning(network: nn.Module) -> list[tuple[str, nn.Parameter]]:
    return [(name, value) for name, value in network.named_parameters() if value.requires_grad]
