#!/bin/sh
# vitdet gpu-check on a machine with PyTorch and Triton that has no network and none of OpenMMLab's packages.
#
#   tools/gpu_check_bare.sh prepare WHEELS [3.12]   with a network: download the missing packages for a Python version
#   tools/gpu_check_bare.sh WHEELS [ARGUMENTS]      on that machine: unpack them into a temporary folder, run gpu-check
#
# Without WHEELS ("none") it checks the operators only and reports what it leaves out.
set -eu

PYTHON=${PYTHON:-python3}
# mmengine is enough for the backbones; mmcv and mmdet with the others for training
PACKAGES='onedl-mmengine addict termcolor yapf platformdirs rich pygments markdown-it-py mdurl
onedl-mmcv onedl-mmdetection onedl-mmpretrain pycocotools faster-coco-eval terminaltables shapely defusedxml modelindex model-index
mat4py ordered-set click imaug scikit-image lazy-loader imageio tifffile'

if [ $# -eq 0 ]; then
    sed -n '2,7s/^# \{0,1\}//p' "$0"
    exit 2
fi

if [ "$1" = prepare ]; then
    folder=${2:?'give a folder for the wheels'} version=${3:-3.12}
    mkdir -p "$folder"
    for package in $PACKAGES; do
        platforms=
        for number in 17 24 27 28 31 34 35; do
            platforms="$platforms --platform manylinux_2_${number}_x86_64"
        done
        # shellcheck disable=SC2086
        "$PYTHON" -m pip download -q --disable-pip-version-check --no-deps --only-binary=:all: -d "$folder" \
            --python-version "$version" --implementation cp $platforms --platform manylinux2014_x86_64 "$package" ||
            # pure Python packages that are published as sources only
            MMCV_WITH_OPS=0 "$PYTHON" -m pip wheel -q --disable-pip-version-check --no-deps --no-build-isolation \
                -w "$folder" "$package" || echo "$package: left out" >&2
    done
    du -sh "$folder"
    exit 0
fi

wheels=$1
shift
checkout=$(cd "$(dirname "$0")/.." && pwd)
site=$(mktemp -d)
trap 'rm -rf "$site"' EXIT
if [ "$wheels" != none ]; then
    for wheel in "$wheels"/*.whl; do  # a package of the machine itself comes after these
        "$PYTHON" -m zipfile -e "$wheel" "$site"
    done
fi
cd "$checkout"
PYTHONPATH="$site:$checkout" "$PYTHON" -m vitdet_plugin gpu-check "$@"
