#!/usr/bin/env bash
# Set-up of one environment from locks/: setup.sh PYTHON VENV cpu|gpu [dev]. Called by make (dev: with the tools of the
# tests) and by cluster/; safe to repeat. What is installed is what the locks name, by version and SHA-256.
set -euo pipefail
python=$1 venv=$2 build=$3 dev=${4:-} bin=$2/bin

"$python" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 13)))' || {
  echo "setup: Python 3.11 or 3.12 is needed, found $("$python" --version); name another with make PYTHON=/path/to/python3.11" >&2
  exit 2
}
[ -x "$bin/python" ] || "$python" -m venv "$venv"
"$bin/python" -m pip install --quiet --no-deps --require-hashes --requirement locks/build.txt

# Compiled at once: else the first process of every kind compiles what it imports, and each one does where
# PYTHONDONTWRITEBYTECODE is set (20 s a start).
sync() {
  "$bin/uv" pip sync --compile-bytecode --python "$bin/python" --require-hashes --build-constraints locks/build.txt \
    "$@" locks/build.txt "locks/$build.txt" ${dev:+"locks/$dev.txt"}
}
if [ "$build" = gpu ]; then
  sync
else
  # The CPU build of torch: from a local folder where pip has one, else from its page in PyTorch's public index. No other
  # package can come from there.
  { [ -n "${PIP_FIND_LINKS:-}" ] && sync --find-links "$PIP_FIND_LINKS"; } \
    || sync --find-links https://download.pytorch.org/whl/cpu/torch/
fi
"$bin/uv" pip install --quiet --python "$bin/python" --no-deps --no-build-isolation --editable .

"$bin/python" -c 'from paft_ray.models.resolve import resolve_model; print("demo model:", resolve_model("demo", None))'
