"""Signals stop what may be stopped, at once or at the end of what must stay whole, and tell which they were."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from medseg.stop import Stopped, go_on, stoppable, stopped_by, uncut

pytestmark = pytest.mark.skipif(os.name != "posix", reason="machine: signals as POSIX has them")


@pytest.fixture(autouse=True)
def usual():
    """The handlers of a process that nobody touched, before and after."""
    before = {one: signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    for one, handler in before.items():
        signal.signal(one, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_and_says_which_it_was(number, code):
    with stoppable():
        with pytest.raises(Stopped) as stopped:
            signal.raise_signal(number)
        assert (stopped.value.signal, stopped.value.exit_code) == (number, code)
        assert stopped_by() is stopped.value
        with pytest.raises(Stopped):  # it was swallowed here
            go_on()
    assert stopped_by() is None
    go_on()


def test_every_command_that_knows_ctrl_c_knows_both():
    with stoppable(), pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGTERM)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_what_must_stay_whole_does(number):
    done = []

    @uncut()
    def both_halves():
        signal.raise_signal(number)
        done.append("first half")
        with uncut():
            signal.raise_signal(number)
        done.append("second half")

    with stoppable():
        with pytest.raises(Stopped):
            both_halves()
        with pytest.raises(Stopped):
            signal.raise_signal(number)  # heard at once again
    assert done == ["first half", "second half"]


def test_nothing_that_came_is_nothing_that_is_raised():
    with stoppable(), uncut():
        pass
    with uncut():
        pass


def test_an_error_in_what_must_stay_whole_is_told_where_nothing_came():
    with pytest.raises(FileNotFoundError), stoppable(), uncut():
        open("no such file", encoding="utf-8")  # noqa: PTH123, SIM115


def test_outside_of_a_command_ctrl_c_is_pythons_own():
    with pytest.raises(KeyboardInterrupt) as stopped, uncut():
        signal.raise_signal(signal.SIGINT)
    assert not isinstance(stopped.value, Stopped)
    error = Stopped(signal.SIGTERM)  # such as training raises
    assert error.exit_code == 143
    go_on()
    assert stopped_by() is None


def test_whoever_hears_signals_already_goes_on_hearing_them():
    heard = []
    signal.signal(signal.SIGTERM, lambda number, _frame: heard.append(number))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with stoppable():
        with uncut():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)
            assert heard == []
        signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    assert heard == [signal.SIGTERM]
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def test_the_second_process_of_torchrun_ends_at_once(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with stoppable():
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
        with pytest.raises(Stopped):
            signal.raise_signal(signal.SIGINT)


def test_other_threads_hear_nothing_and_are_not_in_the_way():
    passed = []

    def work():
        with stoppable(), uncut():
            passed.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert passed == [signal.SIG_DFL]


def test_sigterm_after_an_uncut_block_ends_a_program_that_did_not_ask_for_more():
    program = """
import signal, sys
from medseg.stop import uncut
with uncut():
    signal.raise_signal(signal.SIGTERM)
    print("whole", flush=True)
print("never", flush=True)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (-signal.SIGTERM, "whole\n")


def test_200_signals_at_any_moment_leave_no_half_and_no_handler():
    """Blocks of two halves are done until a signal comes, which a thread sends once in every round."""
    halves, rounds = [0, 0], 200
    armed, delays = threading.Event(), random.Random(0)

    def send():
        for _ in range(rounds):
            armed.wait()
            armed.clear()
            time.sleep(delays.random() * 0.005)
            os.kill(os.getpid(), signal.SIGTERM)

    sender = threading.Thread(target=send)
    sender.start()
    with stoppable():
        for n in range(rounds):
            try:
                armed.set()
                while True:
                    with uncut():
                        halves[0] += 1
                        time.sleep(0.0005)
                        halves[1] += 1
            except Stopped:
                assert halves[0] == halves[1], n
    sender.join()
    assert halves[0] > 200
