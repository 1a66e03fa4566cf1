#!/bin/sh
# Makes .venv-slicer: 3D Slicer's own libraries (about 1 GB), with which the tests load and draw scenes.
# Usage: scripts/slicer-venv.sh     Needs Python 3.11 to 3.13 (PYTHON=... picks one) and a package index.
# A venv of its own because slicer-core pins vtk. A second run returns at once.
set -eu
cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)"
python=.venv-slicer/bin/python

draws() { # VTK draws without a screen through EGL
    "$python" -c 'import os; os.environ["VTK_DEFAULT_OPENGL_WINDOW"] = "vtkEGLRenderWindow"
import slicer, vtk
window = vtk.vtkRenderWindow()
window.SetOffScreenRendering(1)
window.Render()
raise SystemExit(0 if window.SupportsOpenGL() else 1)' >/dev/null 2>&1
}

if [ ! -e .venv-slicer/complete ]; then
    base=
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            base=$candidate
            break
        fi
    done
    [ -n "$base" ] || { echo "error: no Python with its venv module was found (Debian: apt-get install python3-venv)" >&2; exit 1; }
    echo "Installing 3D Slicer's libraries into .venv-slicer (once; about 1 GB) ..." >&2
    rm -rf .venv-slicer
    "$base" -m venv .venv-slicer
    "$python" -m pip install -qq --disable-pip-version-check "slicer-core==5.11.0.6"
    : >.venv-slicer/complete
fi

if ! draws && command -v apt-get >/dev/null && [ "$(id -u)" = 0 ]; then
    export DEBIAN_FRONTEND=noninteractive
    { apt-get update -qq && apt-get install -qq -y --no-install-recommends libegl1 libgl1-mesa-dri libgl1; } >/dev/null || true
fi
draws || { echo "error: 3D Slicer's libraries cannot draw here (Debian: apt-get install libegl1 libgl1-mesa-dri libgl1)" >&2; exit 1; }
