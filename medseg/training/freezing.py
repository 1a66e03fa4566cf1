"""Keep parts of a network as they are while the others learn, for good or until these have learnt something.

A new head on a trained encoder begins with noise, and its first gradients would shake what the encoder knows. So the
heads learn first; then all learn, at a lower rate (Kumar et al., ICLR 2022). A frozen part computes as in validation:
no dropout, and norm layers with statistics keep theirs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ignite.engine import Events
from torch import nn

from medseg.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ignite.engine import Engine
    from torch.optim import Optimizer
    from torch.utils.hooks import RemovableHandle


def frozen(network: nn.Module, parts: Sequence[str] = ("encoder",)) -> nn.Module:
    """Freeze parts of a network for good.

    Args:
        network: changed in place, before it is given to an optimizer or replicated over ranks.
        parts: names of modules, such as 'encoder' or 'stages.0'.

    Returns:
        The network, so that a bundle's config can name it.

    Raises:
        UsageError: MS-T171 no such part, or nothing would be left to learn.
    """
    _freeze(network, parts)
    return network


class Unfrozen(list):
    """The weights that learn: `params` of an optimizer, which then keeps no moments of the others.

    Args:
        network: some of it frozen.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(weight for weight in network.parameters() if weight.requires_grad)


class Thaw:
    """A MONAI handler: parts stay frozen for a share of the budget, then everything learns at a lower rate.

    With several ranks the network must look for unused weights (`find_unused_parameters`).

    Args:
        network: or its replica.
        optimizer: of all weights; those without a gradient it leaves alone.
        schedule: says how much of the budget is spent (`BudgetedSchedule`).
        parts: names of modules.
        share: of the budget after which the parts learn too, in (0, 1).
        factor: of every rate from then on.

    Raises:
        UsageError: MS-T171 no such part, or nothing would be left to learn; MS-T172 no share.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Optimizer,
        schedule: Any,
        parts: Sequence[str] = ("encoder",),
        share: float = 0.3,
        factor: float = 0.1,
    ) -> None:
        if not 0 < share < 1 or not 0 < factor <= 1:
            what = f"--thaw {share:g}: a share of the budget between 0 and 1, with a rate of {factor:g} in (0, 1]"
            raise UsageError("MS-T172", what, mend="give --thaw 0.3, or leave it out to keep the parts frozen")
        self.schedule, self.share, self.factor = schedule, share, factor
        inner = network.module if isinstance(network, nn.parallel.DistributedDataParallel) else network
        self.weights, self._hooks = _freeze(inner, parts)
        self.thawed = False
        self._rates: list[Any] = []
        optimizer.register_step_pre_hook(self._slower)
        optimizer.register_step_post_hook(self._back)

    def attach(self, engine: Engine) -> None:
        """Register with a trainer."""
        engine.add_event_handler(Events.ITERATION_STARTED, self._thaw_in_time)

    def _thaw_in_time(self, engine: Engine) -> None:
        if self.thawed or self.schedule.fraction(engine) < self.share:
            return
        self.thawed = True
        for weight in self.weights:
            weight.requires_grad_(True)
        for hook in self._hooks:
            hook.remove()

    # The schedule sets rates anew at every iteration, wherever it stands among the handlers: so the rate is lowered
    # for the length of the step alone.
    def _slower(self, optimizer: Optimizer, *_: Any) -> None:
        self._rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups if self.thawed else ():
            group["lr"] *= self.factor

    def _back(self, optimizer: Optimizer, *_: Any) -> None:
        for group, rate in zip(optimizer.param_groups, self._rates, strict=True):
            group["lr"] = rate


def _freeze(network: nn.Module, parts: Sequence[str]) -> tuple[list[nn.Parameter], list[RemovableHandle]]:
    """Freeze parts; returns their weights that learnt before, and the hooks that keep the parts in evaluation mode."""
    modules = dict(network.named_modules())
    unknown = [part for part in parts if part not in modules or not part]
    if unknown or not parts:
        known = ", ".join(name for name, _ in network.named_children())
        what = f"this network has no part {unknown[0]!r}" if unknown else "no part to freeze was named"
        raise UsageError("MS-T171", what, mend=f"choose among: {known}, or parts of these such as encoder.levels.0")
    weights = list({id(w): w for part in parts for w in modules[part].parameters() if w.requires_grad}.values())
    if len(weights) == sum(w.requires_grad for w in network.parameters()):
        what = f"with {', '.join(parts)} frozen nothing would be left to learn"
        raise UsageError("MS-T171", what, mend="freeze fewer parts")
    for weight in weights:
        weight.requires_grad_(False)
    inside = {
        id(module): module for part in parts for module in modules[part].modules()
    }  # a list of modules is not called
    return weights, [module.register_forward_pre_hook(_as_in_validation) for module in inside.values()]


def _as_in_validation(module: nn.Module, _: Any) -> None:
    """A trainer puts the whole network into training mode at every step; this module computes without."""
    module.training = False
