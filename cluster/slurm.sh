#!/usr/bin/env bash
# One run on SLURM nodes that share this checkout, its .venv (`make setup` on a node like them) and the home folder with the token
# (`ray get-auth-token --generate`, once). From the root of the checkout: sbatch cluster/slurm.sh run jobs/configs/llama3-8b-hellaswag.yaml
# The run's folder is its identity: submitted again after a failure or the time limit, it resumes where it stopped.
#SBATCH --job-name=paft
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem=64G
#SBATCH --time=24:00:00
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --open-mode=append
set -euo pipefail
export PATH="$PWD/.venv/bin:$PATH" RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0
export HF_HOME="${HF_HOME:-/mnt/shared/huggingface}" RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300
# This script runs on the first node. Its address is the one with which it reaches the last node: its own name may stand for 127.0.1.1 here.
last=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | tail -n 1)
route=$(ip -4 route get "$(getent ahostsv4 "$last" | awk 'NR == 1 {print $1}')")
[[ $route =~ src\ ([0-9.]+) ]] || { echo "slurm.sh: no IPv4 route to $last: $route" >&2; exit 2; }
address="${BASH_REMATCH[1]}:6379"

# Starts Ray on every node, `paft` on the first one, and ends Ray everywhere when it is done. The dashboard listens on the loopback only.
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" ray symmetric-run --address "$address" \
  --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" --dashboard-host=127.0.0.1 -- \
  paft "$@" --address "$address"
