"""When a round is over, and what its answers were: arithmetic of names and seconds, without NVFLARE."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from medseg.federated.exchange import Update

#: What became of a site in a round.
USED, TESTED, REFUSED, FAILED, MISSING = "used", "tested", "refused", "failed", "missing"
#: A site that has not fetched its task after so many seconds is not waited for once everybody else is done.
PICKUP_S = 15.0
#: Sites of a simulation whose process died: there the server's process sees it itself.
LOST: set[str] = set()


@dataclass(frozen=True)
class Answer:
    """What one site sent.

    Args:
        outcome: `USED`, `TESTED` (a held-out site's scores), `REFUSED` or `FAILED`.
        update: of a training, where it is used.
        metrics: of a held-out site.
        why: in one line, where it is not used.
        said: of other questions, where it is used.
    """

    outcome: str
    update: Update | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    why: str = ""
    said: Any = None


@dataclass
class Round:
    """One exchange while it goes on; NVFLARE's threads write, the controller's reads. Times are seconds of one clock.

    Args:
        targets: sites that were asked.
        began: when.
        taken: site -> when it fetched its task.
        answers: site -> what it sent.
        when: site -> when it sent that.
        closed: whether it is over: nothing is taken in any more.
    """

    targets: tuple[str, ...]
    began: float
    taken: dict[str, float] = field(default_factory=dict)
    answers: dict[str, Answer] = field(default_factory=dict)
    when: dict[str, float] = field(default_factory=dict)
    closed: bool = False
    _lock: Any = field(default_factory=threading.Lock, repr=False)

    def take(self, site: str, now: float) -> None:
        """A site has fetched its task."""
        with self._lock:
            self.taken = {site: now} | self.taken

    def answer(self, site: str, answer: Answer, now: float) -> bool:
        """A site has answered; its first answer counts, and only while the round goes on."""
        with self._lock:
            if self.closed or site not in self.targets or site in self.answers:
                return False
            self.when = {**self.when, site: now}  # new tables: whoever reads the old ones is not disturbed
            self.answers = {**self.answers, site: answer}
            return True

    def close(self) -> None:
        """It is over."""
        with self._lock:
            self.closed = True

    def outcome(self, site: str) -> str:
        """What became of a site."""
        return self.answers[site].outcome if site in self.answers else MISSING


def over(
    now: Round,
    at: float,
    *,
    quorum: int,
    deadline_s: float,
    grace_s: float,
    gone: Collection[str] = (),
    pickup_s: float = PICKUP_S,
) -> str | None:
    """Why a round is over at a time, None while it is worth waiting.

    It is over when every site has answered or is gone, at the deadline, `grace_s` after the quorum was reached, when the
    quorum is reached and only sites are missing that never fetched their task, or when it cannot be reached any more.

    Args:
        now: the round.
        at: the time.
        quorum: updates that are wanted; 0: there is no quorum, all are waited for.
        deadline_s: of the round.
        grace_s: for the others once the quorum is there.
        gone: sites of which the connection is lost.
        pickup_s: see `PICKUP_S`.
    """
    answers = now.answers
    waiting = [site for site in now.targets if site not in answers and site not in gone]
    if not waiting:
        return "all answered" if len(answers) == len(now.targets) else "the others are gone"
    if at - now.began >= deadline_s:
        return "deadline"
    used = sorted(now.when[site] for site, answer in answers.items() if answer.outcome == USED)
    if quorum and len(used) + len(waiting) < quorum:
        return "quorum out of reach"
    enough = len(used) >= quorum if quorum else bool(answers)
    if enough and quorum and at - used[quorum - 1] >= grace_s:
        return "grace"
    if enough and at - now.began >= pickup_s and not any(site in now.taken for site in waiting):
        return "the others did not come"
    return None
