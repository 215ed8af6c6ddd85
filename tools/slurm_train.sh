#!/usr/bin/env bash
# Train under SLURM, one task per GPU; arguments as those of mmdet's script.
#
#   [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=…] tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments]
set -euo pipefail

if [ $# -lt 4 ]; then
    echo "usage: [GPUS=8 GPUS_PER_NODE=8 CPUS_PER_TASK=5 SRUN_ARGS=…] $0 PARTITION JOB_NAME CONFIG WORK_DIR [arguments]" >&2
    exit 2
fi
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
# SRUN_ARGS may hold several words
# shellcheck disable=SC2086
exec srun --partition "$1" \
    --job-name "$2" \
    --gres "gpu:$per_node" \
    --ntasks "$gpus" \
    --ntasks-per-node "$per_node" \
    --cpus-per-task "${CPUS_PER_TASK:-5}" \
    --kill-on-bad-exit=1 \
    ${SRUN_ARGS:-} \
    "${PYTHON:-python}" -u "$(dirname "$0")/train.py" "$3" --work-dir "$4" --launcher slurm "${@:5}"
