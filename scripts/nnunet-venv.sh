#!/bin/sh
# Makes .venv-nnunet: nnU-Net (about 1.5 GB with its own torch), with which the tests train a model that is imported.
# Usage: scripts/nnunet-venv.sh     Needs Python 3.11 to 3.13 (PYTHON=... picks one) and a package index.
# A venv of its own because nnU-Net asks for torchvision by way of timm, which neither the U-Nets nor medseg need: so
# its architectures come without their dependencies, and the rest as nnU-Net lists it. A second run returns at once.
set -eu
cd "$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)"
python=.venv-nnunet/bin/python

if [ ! -e .venv-nnunet/complete ]; then
    base=
    for candidate in ${PYTHON:-} python3.11 python3.12 python3.13 python3; do
        if "$candidate" -c 'import ensurepip, venv' 2>/dev/null; then
            base=$candidate
            break
        fi
    done
    [ -n "$base" ] || { echo "error: no Python with its venv module was found (Debian: apt-get install python3-venv)" >&2; exit 1; }
    echo "Installing nnU-Net into .venv-nnunet (once; about 1.5 GB) ..." >&2
    rm -rf .venv-nnunet
    "$base" -m venv .venv-nnunet
    install() { "$python" -m pip install -qq --disable-pip-version-check "$@"; }
    install torch==2.13.0
    install acvl-utils==0.2.6 batchgenerators==0.25.1 batchgeneratorsv2==0.3.6 "numpy>=2" scipy scikit-learn scikit-image \
        SimpleITK nibabel pandas matplotlib seaborn tqdm requests graphviz tifffile imagecodecs yacs einops "blosc2>=3.3.2"
    install --no-deps nnunetv2==2.8.1 dynamic-network-architectures==0.4.4
    : >.venv-nnunet/complete
fi

"$python" -c "from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor" >/dev/null
