"""The search finds what was planted, however it is written or packed, and the recorder misses no message."""

from __future__ import annotations

import base64
import gzip
import io
import os
import pickle
import socket
import subprocess
import sys
import tarfile
import zipfile
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import torch

from tests.federated.privacy import planted

HERE = Path(__file__).parent


@pytest.fixture
def scan(tmp_path):
    path = tmp_path / "imagesTr" / f"{planted.NAME}.nii.gz"
    path.parent.mkdir()
    nib.save(nib.Nifti1Image(np.zeros((16, 16, 16), np.float32), np.eye(4)), path)
    planted.plant(path)
    return path


def archive(data: bytes) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("a/b.bin", data)
    return out.getvalue()


def tape(data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as file:
        info = tarfile.TarInfo("b.bin")
        info.size = len(data)
        file.addfile(info, io.BytesIO(data))
    return out.getvalue()


WAYS = {
    "as it is": lambda x: b"before" + x + b"after",
    "base64": lambda x: base64.b64encode(b"ab" + x + b"xyz"),
    "hexadecimal": lambda x: x.hex().encode(),
    "gzip": gzip.compress,
    "zlib": zlib.compress,
    "zip": archive,
    "tar in gzip": lambda x: gzip.compress(tape(x)),
    "zip in zip": lambda x: archive(archive(x)),
    "pickle": pickle.dumps,
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", [np.int16, np.int32, np.float16, np.float32, np.float64])
def test_the_pattern_is_found_however_it_is_written(scan, tmp_path, way, kind):
    array = np.asarray(nib.load(scan).dataobj).astype(kind)
    place = tmp_path / "outside"
    place.mkdir()
    (place / "message").write_bytes(WAYS[way](array.tobytes(order="F")[1000:2000]))
    (place / "other").write_bytes(WAYS[way](np.random.default_rng(0).bytes(1000)))
    hits = planted.found_below(place, planted.needles())
    assert {file for file, _ in hits} == {"outside/message"}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("code", ["utf-8", "utf-16-le", "utf-16-be"])
def test_the_name_is_found_however_it_is_written(tmp_path, way, code):
    (tmp_path / "log").write_bytes(WAYS[way](f"cannot read /data/{planted.NAME}.nii.gz".encode(code)))
    assert planted.found_below(tmp_path, planted.needles())


def test_the_name_of_a_file_counts_too(tmp_path):
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "job.zip").write_bytes(archive(b"nothing"))
    assert planted.found_below(tmp_path, planted.needles()) == set()
    (tmp_path / "store" / planted.NAME.lower()).mkdir()
    assert planted.found_below(tmp_path, planted.needles())


def test_a_tensor_of_the_image_in_a_message_of_nvflare_is_found(scan):
    pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')
    from nvflare.apis.dxo import DXO, DataKind
    from nvflare.app_opt.pt.decomposers import TensorDecomposer
    from nvflare.fuel.utils import fobs

    fobs.register(TensorDecomposer)
    image = torch.from_numpy(np.asarray(nib.load(scan).dataobj).astype(np.float32).reshape(-1, order="F").copy())
    wanted = planted.needles()
    assert planted.found(bytes(fobs.dumps(DXO(DataKind.WEIGHT_DIFF, {"a": image}).to_shareable())), wanted)
    clean = DXO(DataKind.WEIGHT_DIFF, {"a": torch.randn(4096)}).to_shareable()
    assert not planted.found(bytes(fobs.dumps(clean)), wanted)


CELLS = {
    "server": """
import sys, threading
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.message import Message
cell = CoreCell("server", "tcp://localhost:{port}", False, {{}}); cell.start()
cell.register_request_cb("medseg", "update", lambda message: Message(payload=b"the server says thank you"))
print("ready", flush=True)
sys.stdin.read()
import os; os._exit(0)
""",
    "site": """
import time
from nvflare.fuel.f3.cellnet.core_cell import CoreCell
from nvflare.fuel.f3.message import Message
cell = CoreCell("site-1", "tcp://localhost:{port}", False, {{}}); cell.start()
message = {{"text": "one small update", "data": b"x" * 3_000_000}}
for _ in range(50):
    reply = cell.send_request("medseg", "update", "server", Message(payload=message), timeout=5)
    if reply.payload:
        break
    time.sleep(0.2)
assert bytes(reply.payload) == b"the server says thank you"
import os; os._exit(0)
""",
}


def test_the_recorder_keeps_every_message_of_every_process(tmp_path):
    pytest.importorskip("nvflare", reason='no NVFLARE (pip install "medseg[federated]")')
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    env = {**os.environ, "PYTHONPATH": str(HERE / "recorder"), "MEDSEG_RECORD": str(tmp_path)}
    words = {name: [sys.executable, "-c", code.format(port=port)] for name, code in CELLS.items()}
    with subprocess.Popen(
        words["server"], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as server:
        try:
            assert server.stdout.readline() == b"ready\n"
            ran = subprocess.run(words["site"], env=env, capture_output=True, text=True, timeout=120, check=False)
        finally:
            server.stdin.close()
            server.wait(30)
    assert ran.returncode == 0, ran.stderr[-2000:]
    kept = {path.name.split("-")[0]: path.read_bytes() for path in tmp_path.iterdir()}
    assert len(kept) == 2
    ours = kept.pop(str(server.pid))
    (theirs,) = kept.values()
    assert b"the server says thank you" in ours
    assert b"one small update" not in ours
    assert b"one small update" in theirs
    assert theirs.count(b"x" * 1000) >= 3000


def test_without_being_asked_nothing_is_recorded(tmp_path):
    env = {key: value for key, value in os.environ.items() if key != "MEDSEG_RECORD"}
    code = "import sitecustomize, sys; print(sitecustomize.__file__, len([f for f in sys.meta_path if type(f).__name__ == 'Finder']))"
    ran = subprocess.run(
        [sys.executable, "-c", code],
        env=env | {"PYTHONPATH": str(HERE / "recorder")},
        capture_output=True,
        text=True,
        check=True,
    )
    assert ran.stdout.split() == [str(HERE / "recorder" / "sitecustomize.py"), "0"]
