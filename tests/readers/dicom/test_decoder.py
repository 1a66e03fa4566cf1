"""Compressed pixels decode in one child: the same bits as in this process; a bad decoder is one file's error, no more."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from pydicom.pixels import get_decoder
from pydicom.uid import JPEG2000, JPEG2000Lossless, JPEGLSLossless, RLELossless

from medseg.errors import InputError, MedsegError, MemoryLimitError
from medseg.readers.dicom import decoder, read_one
from medseg.readers.dicom.decoder import decoded, limits, stop_decoder
from medseg.readers.dicom.headers import read_header

PLANTED = Path(__file__).with_name("planted_decoder.py")
SYNTAXES = [RLELossless, JPEGLSLossless, JPEG2000Lossless, JPEG2000]


@pytest.fixture(autouse=True)
def _own_child():
    stop_decoder()
    yield
    stop_decoder()


@pytest.fixture
def series(tmp_path, phantom):
    """`series(syntax, n)`: the files of a compressed series of n slices, 40 x 36."""

    def make(syntax=JPEG2000Lossless, n=4, folder="scan"):
        stack = phantom.stack(n=n)
        stack.shape = (40, 36)
        given = {"j2k_psnr": [60]} if syntax == JPEG2000 else {}
        place = phantom.write_stack(tmp_path / folder, stack, edit=lambda ds, k: ds.compress(syntax, **given))
        return sorted(place.iterdir())

    return make


def plant(monkeypatch, kind: str, at: str) -> None:
    monkeypatch.setattr(decoder, "COMMAND", (sys.executable, "-W", "ignore", str(PLANTED), kind, at))


def frames(files):
    return list(decoded([(read_header(file), 0) for file in files]))


def children() -> set[int]:
    import psutil

    return {child.pid for child in psutil.Process().children(recursive=True)}


@pytest.mark.parametrize("syntax", SYNTAXES, ids=lambda syntax: syntax.keyword)
def test_the_same_bits_as_in_this_process(series, syntax):
    files = series(syntax)
    here = [get_decoder(syntax).as_array(pydicom.dcmread(file), index=0, raw=True)[0] for file in files]
    there = frames(files)
    assert [a.dtype for a in there] == [a.dtype for a in here]
    assert all(np.array_equal(a, b) for a, b in zip(there, here, strict=True))
    assert all(a.flags.writeable for a in there)


def test_one_child_for_all_slices_of_all_series(series):
    before = children()
    for n, syntax in enumerate(SYNTAXES):
        frames(series(syntax, folder=f"scan{n}"))
        assert len(children() - before) == 1
    stop_decoder()
    assert children() == before


def test_the_child_knows_nothing_of_medseg_or_torch(tmp_path):
    code = (
        f"import sys; sys.path.insert(0, {str(Path(decoder.__file__).parent)!r}); import decode_child; "
        "print(sorted({name.split('.')[0] for name in sys.modules} & {'torch', 'monai', 'medseg', 'scipy', 'nibabel'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("kind", "code", "said"),
    [
        ("crash", "MS-D141", r"crashed \(SIGSEGV\)"),
        ("abort", "MS-D141", r"crashed \(SIGABRT\)"),
        ("leave", "MS-D141", r"crashed \(exit code 0\)"),
        ("hang", "MS-D142", "not decoded within 5 s"),
        ("eat", "MS-D143", "more than 40 x 36 pixels can need"),
        ("lie", "MS-D111", r"\(39, 36\) pixels instead of \(40, 36\)"),
    ],
)
@pytest.mark.skipif(sys.platform == "win32", reason="signals and limits as on POSIX")
def test_a_decoder_that_misbehaves_is_the_error_of_its_file(series, monkeypatch, kind, code, said):
    files = series()
    plant(monkeypatch, kind, files[2].name)
    if kind == "hang":
        monkeypatch.setattr(decoder, "FRAME_S", 5.0)
    start = time.monotonic()
    with pytest.raises(MedsegError, match=said) as caught:
        frames(files)
    assert time.monotonic() - start < 60
    assert caught.value.code == code
    assert isinstance(caught.value, MemoryLimitError if kind == "eat" else InputError)
    assert caught.value.file == str(files[2])
    assert len(caught.value.mend.split()) > 3
    assert len(frames(files[:2] + files[3:])) == 3, "the next case gets a child of its own"


def test_what_a_library_prints_gets_nowhere(series, monkeypatch):
    files = series()
    sound = frames(files)
    stop_decoder()
    plant(monkeypatch, "print", files[2].name)
    assert all(np.array_equal(a, b) for a, b in zip(frames(files), sound, strict=True))


@pytest.mark.skipif(sys.platform == "win32", reason="limits as on POSIX")
def test_the_child_writes_no_files(series, monkeypatch):
    files = series()
    plant(monkeypatch, "write", files[2].name)
    with pytest.raises(InputError, match=r"MS-D111 .*File too large"):
        frames(files)
    written = files[0].with_name("written")
    assert not written.exists() or written.stat().st_size == 0


def test_a_child_that_was_killed_between_cases_is_replaced(series):
    files = series()
    sound = frames(files)
    first = decoder._child
    first.process.kill()
    first.process.wait()
    assert all(np.array_equal(a, b) for a, b in zip(frames(files), sound, strict=True))
    assert decoder._child is not first


def test_frames_that_nobody_wants_any_more_are_not_taken_for_others(series):
    files = series()
    sound = frames(files)
    few = decoded([(read_header(file), 0) for file in files])
    assert np.array_equal(next(few), sound[0])
    few.close()
    assert np.array_equal(frames(files[3:])[0], sound[3])


def test_a_file_that_was_replaced_is_read_again(series):
    first, second = series(n=1), series(n=2, folder="other")[1:]
    sound = frames(second)[0]
    assert not np.array_equal(frames(first)[0], sound)
    first[0].write_bytes(second[0].read_bytes())
    assert np.array_equal(frames(first)[0], sound)


def test_an_interrupt_while_asking_leaves_no_answer_behind(series, monkeypatch):
    files = series()
    sound = frames(files)
    ask = decoder._Child.ask

    def interrupted(self, header, frame):
        ask(self, header, frame)
        raise KeyboardInterrupt

    monkeypatch.setattr(decoder._Child, "ask", interrupted)
    with pytest.raises(KeyboardInterrupt):
        frames(files[:1])
    monkeypatch.setattr(decoder._Child, "ask", ask)
    assert np.array_equal(frames(files[3:])[0], sound[3])


def test_a_codestream_that_promises_a_giant_image(series):
    """JPEG 2000 of 40 x 36 whose SIZ marker says 60000 x 60000: 14 GB as its decoder keeps numbers."""
    files = series()
    data = bytearray(files[1].read_bytes())
    size = data.index(b"\xff\x51") + 6  # marker, its length, capabilities
    for at in (size, size + 4, size + 16, size + 20):  # the image and its only tile
        data[at : at + 4] = (60000).to_bytes(4, "big")
    files[1].write_bytes(data)
    with pytest.raises(MedsegError) as caught:
        frames(files)
    assert caught.value.code in ("MS-D111", "MS-D141", "MS-D143")
    assert caught.value.file == str(files[1])


def test_limits_come_from_the_header(series):
    (file,) = series(n=1)
    memory, seconds = limits(read_header(file))
    assert memory < decoder.SPARE + 1e6
    assert decoder.FRAME_S < seconds < decoder.FRAME_S + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork as on POSIX")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_process_gets_a_child_of_its_own(series):
    files = series()
    sound = frames(files)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            same = all(np.array_equal(a, b) for a, b in zip(frames(files), sound, strict=True))
            stop_decoder()
            os.write(writer, b"same" if same else b"other")
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        assert file.read() == b"same"
    os.waitpid(pid, 0)
    assert all(np.array_equal(a, b) for a, b in zip(frames(files), sound, strict=True))


def test_the_other_series_is_read_when_one_crashes(series, monkeypatch):
    good, bad = series(folder="good"), series(folder="bad", n=3)
    plant(monkeypatch, "crash", f"bad/{bad[0].name}")
    with pytest.raises(InputError, match="MS-D141"):
        read_one(bad[0].parent)
    assert read_one(good[0].parent).array.shape == (36, 40, 4)
