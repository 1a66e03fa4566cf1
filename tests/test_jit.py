import os
import subprocess
import sys

import pytest

from medseg.jit import in_slabs


@pytest.mark.parametrize("n", [0, 1, 5, 64])
@pytest.mark.parametrize("threads", [1, 2, 8, None])
def test_slabs_cover_everything_once(n, threads):
    hits = [0] * n

    def work(a, b):
        for i in range(a, b):
            hits[i] += 1

    in_slabs(work, n, threads)
    assert hits == [1] * n


def test_an_error_in_a_thread_is_not_lost():
    def work(a, b):
        raise RuntimeError("slab")

    with pytest.raises(RuntimeError, match="slab"):
        in_slabs(work, 10, 2)


def run(code, **env):
    done = subprocess.run([sys.executable, "-c", code], env={**os.environ, **env}, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_compiles_nothing_and_medseg_alone_does_not_load_numba():
    code = """
import sys
import medseg
assert "numba" not in sys.modules
from medseg.resample.image import _linear_rows
from medseg.resample.labels import _vote_rows
from medseg.resample.logits import _label_rows
assert not (_linear_rows.signatures or _vote_rows.signatures or _label_rows.signatures)
print("ok")
"""
    assert run(code) == "ok"


def test_works_where_no_cache_folder_can_be_written(tmp_path):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    code = """
import numpy as np
from medseg.jit import kernel

@kernel
def double(x):
    return 2 * x

print(double(21))
"""
    assert run(code, NUMBA_CACHE_DIR=str(blocked / "cache")) == "42"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
def test_a_forked_worker_may_resample_after_its_parent_did():
    code = """
import os
import numpy as np
from medseg.geometry import Grid
from medseg.resample import resample_image
a, b = Grid((8, 8, 8), np.eye(4)), Grid((11, 11, 11), np.diag([0.7, 0.7, 0.7, 1]))
x = np.ones(a.shape, np.float32)
resample_image(x, a, b, threads=2)
child = os.fork()
if child == 0:
    os._exit(0 if resample_image(x, a, b, threads=2).max() == 1 else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(code) == "0"
