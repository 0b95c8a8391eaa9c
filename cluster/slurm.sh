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
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
address="$(getent ahostsv4 "$first" | awk 'NR == 1 {print $1}'):6379"

# Starts Ray on every node, `paft` on the first one, and ends Ray everywhere when it is done. The dashboard listens on the loopback only.
srun --cpus-per-task "$SLURM_CPUS_PER_TASK" ray symmetric-run --address "$address" \
  --min-nodes "$SLURM_JOB_NUM_NODES" --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "$SLURM_GPUS_ON_NODE" --dashboard-host=127.0.0.1 -- \
  paft "$@" --address "$address"
