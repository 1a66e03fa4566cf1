"""How a run tells what it is doing: silently by default, on a terminal with a bar, elsewhere a line a case."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from medseg.errors import printable

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Self

    from rich.console import Console

    from medseg.workflows.outcome import CaseReport, PredictReport


class Reporter(AbstractContextManager["Reporter"]):
    """Says nothing; subclasses say what they like. Used as a context manager around a run."""

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

    def plan(self, line: str) -> None:
        """Print the plan."""
        self._say(line)

    def case(self, name: str, number: int, total: int) -> None:
        """Begin the bar of a case."""
        self.name, self.number, self.total = name, number, total
        self.stage("reading")

    def stage(self, name: str) -> None:
        """Name the stage beside the bar."""
        where = f"{self.number}/{self.total} " if self.total > 1 else ""
        self.bar.reset(self.task, description=f"{where}{printable(self.name)}: {name}", unit="", total=None)

    def windows(self, done: int, total: int) -> None:
        """Move the bar."""
        self.bar.update(self.task, completed=done, total=total, unit=f"{done} of {total} windows")

    def done(self, report: CaseReport) -> None:
        """Print a line for the case."""
        where = f"[{self.number}/{self.total}] {printable(report.name)}: "
        if report.failure:
            failure = report.failure
            self._say(f"{where}{failure.code} {printable(failure.what)}", style="red")
            if failure.file:
                self._say(f"     in {printable(failure.file)}")
            self._say(f"  -> {printable(failure.mend)}")
            return
        volumes = ", ".join(f"{printable(m.structure)} {m.volume_ml:.2f} mL" for m in report.measurements)
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
                f"~{case.seconds:.1f} s, ~{case.memory_mb:.0f} MB | writes {', '.join(case.writes)}"
            )
        good = [case for case in report.plan if not case.failure and not case.stays]
        stay = sum(bool(case.stays) for case in report.plan)
        total = sum(case.seconds for case in good)
        peak = max((case.memory_mb for case in good), default=0.0)
        todo = f"{len(good)} of {len(report.plan)} cases" + (f" to do, {stay} stay as they are" if stay else "")
        self._say(f"{todo}, ~{total:.0f} s, ~{peak:.0f} MB; nothing was written")

    def _say(self, line: str, style: str = "") -> None:
        self.console.print(line, style=style or None, markup=False, highlight=False, soft_wrap=True)

    def __enter__(self) -> Self:
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()
