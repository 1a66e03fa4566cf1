"""How a run tells what it is doing: silently by default, on a terminal with a bar, elsewhere a line a case."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from medseg.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType
    from typing import Self

    from rich.console import Console

    from medseg.workflows.outcome import CaseReport, Failure, PredictReport


#: Off a terminal, a line says how far a case is when nothing was said for so long, s.
QUIET_S = 30.0


class Reporter(AbstractContextManager["Reporter"]):
    """Says nothing; subclasses say what they like. Used as a context manager around a run."""

    def refused(self, failures: Sequence[Failure], total: int) -> None:
        """What the headers of `total` cases refuse, all at once, before anything is loaded."""

    def plan(self, line: str) -> None:
        """One line before work begins."""

    def case(self, name: str, number: int, total: int) -> None:
        """Work on a case begins; `number` counts from 1."""

    def stage(self, name: str) -> None:
        """'reading', 'segmenting' or 'writing'."""

    def windows(self, done: int, total: int) -> None:
        """Progress within a case."""

    def done(self, report: CaseReport) -> None:
        """A case is over, well or not."""

    def finish(self, report: PredictReport) -> None:
        """The run is over."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        return None


class ConsoleReporter(Reporter):
    """Tells a rich console: a bar in windows with the time left on a terminal, a line a case elsewhere.

    Args:
        console: where to; standard error for the command line.
    """

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        self.console = console
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[unit]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.bar.add_task("", unit="", total=None)
        self.name = ""
        self.number, self.total = 0, 0
        self.since: float | None = None
        self.spoke = 0.0

    def refused(self, failures: Sequence[Failure], total: int) -> None:
        """Print them as a table."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("case", "code", "what", "file", "mend"):
            table.add_column(column, overflow="fold")
        for row in failures:
            what = "\n".join(printable(line) for line in row.what.split(" | "))
            cells = (printable(row.case), row.code, what, printable(row.file), printable(row.mend))
            table.add_row(*(Text(cell, style="red" if cell == row.code else "") for cell in cells))
        self._say(f"{len(failures)} of {total} cases are refused by their headers:")
        self.console.print(table)

    def plan(self, line: str) -> None:
        """Print the plan."""
        self._say(line)

    def case(self, name: str, number: int, total: int) -> None:
        """Begin the bar of a case."""
        self.name, self.number, self.total = name, number, total
        self.since = None
        self.stage("reading")

    def stage(self, name: str) -> None:
        """Name the stage beside the bar."""
        where = f"{self.number}/{self.total} " if self.total > 1 else ""
        self.bar.reset(self.task, description=f"{where}{printable(self.name)}: {name}", unit="", total=None)

    def windows(self, done: int, total: int) -> None:
        """Move the bar; off a terminal, say now and then how far a long case is."""
        if not self.console.is_terminal:
            self._say_how_far(done, total)
        self.bar.update(self.task, completed=done, total=total, unit=f"{done} of {total} windows")

    def _say_how_far(self, done: int, total: int) -> None:
        now = time.monotonic()
        if done <= 1 or self.since is None:  # a fallback begins again
            self.since, self.spoke = now, now
        elif now - self.spoke >= QUIET_S:
            left = duration((now - self.since) / (done - 1) * (total - done))
            where = f"[{self.number}/{self.total}] {printable(self.name)}"
            self._say(f"{where}: {done} of {total} windows, about {left} left")
            self.spoke = now

    def done(self, report: CaseReport) -> None:
        """Print a line for the case."""
        where = f"[{self.number}/{self.total}] {printable(report.name)}: "
        if report.failure:
            failure = report.failure
            what, *candidates = failure.what.split(" | ")
            self._say(f"{where}{failure.code} {printable(what)}", style="red")
            for line in candidates:
                self._say(f"     {printable(line)}")
            if failure.file:
                self._say(f"     in {printable(failure.file)}")
            self._say(f"  -> {printable(failure.mend)}")
            return
        volumes = ", ".join(
            f"{'' if m.count is None else f'{m.count} '}{printable(m.structure)} {m.volume_ml:.2f} mL"
            for m in report.measurements
        )
        marked = " | OUTSIDE TRAINING DOMAIN" if report.outside_domain else ""
        self._say(f"{where}{report.status} in {report.seconds:.1f} s | {volumes}{marked}")
        for note in report.notes:
            self._say(f"     {printable(note)}", style="yellow")

    def finish(self, report: PredictReport) -> None:
        """Print the final table."""
        from rich import box
        from rich.table import Table
        from rich.text import Text

        self.bar.stop()
        if report.plan:
            self._plans(report)
            return
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for column in ("case", "structure", "volume (mL)", "flags"):
            table.add_column(column, overflow="fold", justify="right" if column.startswith("volume") else "left")
        for case in report.cases:
            for m in case.measurements:
                flags = "; ".join([*m.flags, *(["OUTSIDE TRAINING DOMAIN"] if case.outside_domain else [])])
                table.add_row(Text(printable(case.name)), Text(m.structure), f"{m.volume_ml:.3f}", Text(flags))
            if case.failure:
                table.add_row(Text(printable(case.name)), Text("failed", style="red"), "", Text(case.failure.code))
        self.console.print(table)
        good = len(report.cases) - len(report.failures)
        self._say(f"{good} of {len(report.cases)} cases in {printable(str(report.out))}. For research use only.")

    def _plans(self, report: PredictReport) -> None:
        for case in report.plan:
            if case.failure:
                self._say(
                    f"{printable(case.name)}: would be refused: {case.failure.code} {printable(case.failure.what)}"
                )
                self._say(f"  -> {printable(case.failure.mend)}")
                continue
            if case.stays:
                self._say(f"{printable(case.name)}: stays as it is: {printable(case.stays)}")
                continue
            shape, spacing = "x".join(map(str, case.shape)), "x".join(f"{s:.3g}" for s in case.spacing_mm)
            grid = "x".join(map(str, case.network_shape))
            self._say(
                f"{printable(case.name)}: {shape}, {spacing} mm | network grid {grid} | {case.windows} window{'s' * (case.windows != 1)} | "
                f"~{duration(case.seconds)}, ~{case.memory_mb:.0f} MB | writes {', '.join(case.writes)}"
            )
        good = [case for case in report.plan if not case.failure and not case.stays]
        stay = sum(bool(case.stays) for case in report.plan)
        total = sum(case.seconds for case in good)
        peak = max((case.memory_mb for case in good), default=0.0)
        todo = f"{len(good)} of {len(report.plan)} cases" + (f" to do, {stay} stay as they are" if stay else "")
        self._say(f"{todo}, ~{duration(total)}, ~{peak:.0f} MB; nothing was written")

    def _say(self, line: str, style: str = "") -> None:
        self.console.print(line, style=style or None, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()


def duration(seconds: float) -> str:
    """Seconds in words: '0.7 s', '42 s', '18 min', '2 h 05 min'."""
    if seconds < 10:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"
