"""The arithmetic of the server: shares of the sites, their mean change, and what an optimiser makes of it.

With changes d_i = w_i - w of n sites and shares s_i (sum 1): d = sum_i s_i d_i, and

    average    w + lr d
    momentum   m = beta1 m + d,                    w + lr m
    adam       m = beta1 m + (1 - beta1) d,        v = beta2 v + (1 - beta2) d^2,                  w + lr m / (sqrt(v) + eps)
    yogi       m as adam,                          v = v - (1 - beta2) d^2 sign(v - d^2),          w + lr m / (sqrt(v) + eps)

(Reddi et al., Adaptive Federated Optimization, ICLR 2021, algorithm 2, without bias correction, v = eps^2 at first).
Buffers of the network, such as running means and variances, have no gradient: they are averaged in any case.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from medseg.federated.exchange import added

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from torch import Tensor

    from medseg.federated.algorithm import ServerOptimiser

#: Moments of the server's optimiser: "first/NAME" and "second/NAME".
FIRST, SECOND = "first/", "second/"


def shares(cases: Mapping[str, int], cap: float = 1.0) -> dict[str, float]:
    """Each site's share of the average: by its cases, none above `cap`; what is cut goes to the others by their cases.

    Three sites with 80, 10 and 10 cases and a cap of 0.5 get 0.5, 0.25 and 0.25. Where the cap times the number of sites
    is no more than 1, all get the same.

    Args:
        cases: site -> training cases.
        cap: in (0, 1].

    Returns:
        Site -> share; they add up to 1.
    """
    per_case, most = weighing(cases, cap)
    return {site: min(most, per_case * number) for site, number in cases.items()}


def weighing(cases: Mapping[str, int], cap: float = 1.0) -> tuple[float, float]:
    """What `shares` comes to: so much for each case, and no site more than so much.

    With it a site can weigh its own update before it encrypts it, without hearing how many cases each of the others has.
    """
    if cap * len(cases) <= 1.0:
        return 1.0, 1.0 / len(cases)
    capped: set[str] = set()
    while True:
        free = {site: number for site, number in cases.items() if site not in capped}
        per_case = (1.0 - cap * len(capped)) / sum(free.values())
        above = {site for site, number in free.items() if per_case * number > cap}
        if not above:
            return per_case, cap
        capped |= above


def mean_change(changes: Sequence[Mapping[str, Tensor]], weights: Sequence[float]) -> dict[str, Tensor]:
    """`sum_i weight_i change_i`, entry by entry, added up in float64."""
    return {
        name: sum(
            (weight * change[name].double() for change, weight in zip(changes, weights, strict=True)),
            torch.zeros((), dtype=torch.float64),
        ).float()
        for name in changes[0]
    }


def server_step(
    state: Mapping[str, Tensor],
    change: Mapping[str, Tensor],
    optimiser: ServerOptimiser,
    moments: Mapping[str, Tensor],
    buffers: Collection[str] = (),
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """One step of the server's optimiser.

    Args:
        state: the global state.
        change: the mean change.
        optimiser: which.
        moments: of the step before; {} at first.
        buffers: names of entries that are averaged in any case.

    Returns:
        The next global state and moments.
    """
    if optimiser.kind == "average":
        weights = {name: value for name, value in change.items() if name not in buffers}
        means = {name: value for name, value in change.items() if name in buffers}
        return added(added(state, weights, optimiser.learning_rate), means), {}
    step: dict[str, Tensor] = {}
    kept: dict[str, Tensor] = {}
    for name, d in change.items():
        if name in buffers:
            step[name] = d
            continue
        first = moments.get(FIRST + name, torch.zeros_like(d))
        if optimiser.kind == "momentum":
            kept[FIRST + name] = optimiser.momentum * first + d
            step[name] = optimiser.learning_rate * kept[FIRST + name]
            continue
        second = moments.get(SECOND + name, torch.full_like(d, optimiser.epsilon**2))
        first = optimiser.momentum * first + (1.0 - optimiser.momentum) * d
        if optimiser.kind == "adam":
            second = optimiser.beta2 * second + (1.0 - optimiser.beta2) * d**2
        else:
            second = second - (1.0 - optimiser.beta2) * d**2 * torch.sign(second - d**2)
        kept |= {FIRST + name: first, SECOND + name: second}
        step[name] = optimiser.learning_rate * first / (second.sqrt() + optimiser.epsilon)
    return added(state, step), kept


def moments_of(weights: Mapping[str, Tensor], optimiser: ServerOptimiser) -> dict[str, Tensor]:
    """What `server_step` keeps, by name, each like the weights that it belongs to."""
    kinds = {"average": (), "momentum": (FIRST,)}.get(optimiser.kind, (FIRST, SECOND))
    return {kind + name: value for kind in kinds for name, value in weights.items()}


def control_step(
    control: Mapping[str, Tensor], changes: Sequence[Mapping[str, Tensor]], sites: int
) -> dict[str, Tensor]:
    """SCAFFOLD's server variate after a round: `c + 1 / N sum_i (c_i' - c_i)` (Karimireddy et al., ICML 2020).

    Args:
        control: c.
        changes: of the sites' own variates, of those that answered.
        sites: N, all sites that train.
    """
    return {name: value + sum((one[name] for one in changes), 0.0) / sites for name, value in control.items()}
