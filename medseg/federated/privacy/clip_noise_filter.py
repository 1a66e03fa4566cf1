"""The filter that clips and noises every update of a site, and stops the site before it gives away more than it may."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nvflare.apis.dxo import DataKind
from nvflare.apis.filter import Filter
from nvflare.apis.fl_constant import FLContextKey, ReturnCode

from medseg.federated.privacy.accountant import spent
from medseg.federated.privacy.allow_list import OutgoingError
from medseg.federated.privacy.clip_noise import ClipError, clipped, fresh_generator, noised
from medseg.federated.privacy.ledger import LEDGER, multipliers_of, unreadable
from medseg.federated.privacy.manifest import append_row

if TYPE_CHECKING:
    from nvflare.apis.fl_context import FLContext
    from nvflare.apis.shareable import Shareable


class ClipNoiseFilter(Filter):
    """Stands first among a site's filters on results.

    Args:
        clip_norm: the largest L2 norm of an update.
        noise_multiplier: standard deviation of the noise, in units of `clip_norm`; 0: no noise.
        delta: at which epsilon is counted.
        max_epsilon: nothing is sent that would exceed it; None: no limit.
        ledger: the file of what was spent.
    """

    def __init__(
        self,
        clip_norm: float,
        noise_multiplier: float = 0.0,
        delta: float = 1e-5,
        max_epsilon: float | None = None,
        ledger: str = LEDGER,
    ) -> None:
        super().__init__()
        if not clip_norm > 0 or noise_multiplier < 0:
            msg = f"clip_norm {clip_norm} must be above 0, noise_multiplier {noise_multiplier} not below"
            raise ValueError(msg)
        self.clip_norm = float(clip_norm)
        self.noise_multiplier = float(noise_multiplier)
        self.delta = float(delta)
        self.max_epsilon = max_epsilon
        self.ledger = ledger
        self._lock = threading.Lock()

    def process(self, shareable: Shareable, fl_ctx: FLContext) -> Shareable:
        """Clip and noise an update; scores, statistics and errors pass, for the audit to judge.

        Raises:
            ClipError: MS-J120 whole weights, which clipping does not protect, or an update that is not finite.
            OutgoingError: MS-J121 the budget is spent, MS-J122 the ledger cannot be read, MS-J119 not written.
        """
        message = shareable.get("DXO")
        if shareable.get_return_code() != ReturnCode.OK or not isinstance(message, dict):
            return shareable
        if message.get("kind") == DataKind.WEIGHTS:
            what = "the job sends whole weights, which clipping does not protect"
            raise ClipError("MS-J120", f"{what}; nothing was sent", mend="use a job of medseg, which sends differences")
        if message.get("kind") == DataKind.WEIGHT_DIFF:
            with self._lock:
                message["data"] = self._protected(message.get("data"), fl_ctx)
        return shareable

    def _protected(self, update: Any, fl_ctx: FLContext) -> dict[str, Any]:
        import torch

        plain = isinstance(update, dict) and all(
            isinstance(value, torch.Tensor) and value.is_floating_point() for value in update.values()
        )
        if not plain:
            what = "the update is no table of floating-point tensors; nothing was sent"
            raise ClipError("MS-J120", what, mend="use a job of medseg")
        found, before = clipped(update, self.clip_norm)
        if self.noise_multiplier > 0:
            self._spend(fl_ctx)
            found = noised(found, self.noise_multiplier * self.clip_norm, fresh_generator())
        self.log_info(fl_ctx, f"update of norm {before:.4g} clipped to at most {self.clip_norm:g}")
        return found

    def _spend(self, fl_ctx: FLContext) -> None:
        """Write the release down before it is made, and refuse it where it would be one too many."""
        workspace = fl_ctx.get_prop(FLContextKey.WORKSPACE_OBJECT)
        if workspace is None:
            raise unreadable(None, "the folder of this site is not known")
        path = Path(workspace.get_root_dir()) / self.ledger
        after = spent([*multipliers_of(path), self.noise_multiplier], self.delta)
        if self.max_epsilon is not None and after.epsilon > self.max_epsilon:
            raise OutgoingError(
                "MS-J121",
                f"update {after.updates} would make it epsilon {after.epsilon:.4g}, this site allows "
                f"{self.max_epsilon:g}; nothing was sent",
                file=path,
                mend="the site has given what it allows; more noise or a larger max_epsilon is its own decision",
            )
        append_row(path, {"job": fl_ctx.get_job_id(), "clip": self.clip_norm, "multiplier": self.noise_multiplier})
        self.log_info(fl_ctx, f"privacy spent: {after}")
