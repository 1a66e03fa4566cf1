"""What can be promised about a federation, in the words that `prepare` and `status` print. No more than is true."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from medseg.federated.privacy.settings import Privacy

#: Below so many sites a sum of updates is as good as the partner's own update.
ENOUGH = 3


def promises(sites: int, privacy: Privacy) -> tuple[str, ...]:
    """What holds for so many training sites under this setting, one sentence a line, the warning first.

    Args:
        sites: that train.
        privacy: at each of them.
    """
    lines = []
    if sites < ENOUGH:
        who = "no partner to hide among" if sites < 2 else "one partner, who can subtract its own update from the sum"
        count = "1 site" if sites == 1 else f"{sites} sites"
        lines.append(f"warning: with {count}, secure aggregation hides nothing: each site has {who}")
    lines.append(
        "no image, label map, mask or file name is sent: each site's audit lets out known weights and numbers alone"
    )
    if privacy.encrypted:
        lines.append(
            "updates leave encrypted: the server adds them and reads neither one nor the model; whoever has the sites' key "
            "can: every site, and the coordinator, who made it and must not run the server"
        )
    else:
        lines.append("the server sees each site's update, and images can partly be rebuilt from updates")
    if privacy.noisy:
        lines.append(
            f"updates are clipped to norm {privacy.clip_norm:g} and noised with {privacy.noise_multiplier:g} times that; "
            "medseg federate audit prints the epsilon of each site"
        )
    elif privacy.clip_norm is not None:
        lines.append(f"updates are clipped to norm {privacy.clip_norm:g}; without noise that promises no privacy")
    else:
        lines.append("updates carry no noise: there is no differential privacy")
    lines.append("case counts and scores leave each site as they are")
    return tuple(lines)
