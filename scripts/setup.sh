#!/usr/bin/env bash
# Set-up of one environment: setup.sh PYTHON VENV cpu|gpu [dev]. Called by make (dev: with the tools of the tests) and by cluster/; safe to repeat.
set -euo pipefail
python=$1 venv=$2 build=$3

"$python" -c 'import sys; sys.exit(not ((3, 11) <= sys.version_info[:2] < (3, 13)))' || {
  echo "setup: Python 3.11 or 3.12 is needed, found $("$python" --version); name another with make PYTHON=/path/to/python3.11" >&2
  exit 2
}
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
"$venv/bin/python" -m pip install --quiet "uv>=0.8"

# uv reads neither pip's PIP_FIND_LINKS nor pip's configuration: hand over the folder where torch may lie.
[ -z "${PIP_FIND_LINKS:-}" ] || export UV_FIND_LINKS="${UV_FIND_LINKS:-$PIP_FIND_LINKS}"
# Compiled at once: else the first process of every kind compiles what it imports, and each one does where PYTHONDONTWRITEBYTECODE is set (20 s a start).
install=("$venv/bin/uv" pip install --compile-bytecode --python "$venv/bin/python" --editable ".[$build]" ${4:+--group "$4"})
if [ "$build" = cpu ]; then
  # The CPU build of torch: from a local folder where one is configured, else from PyTorch's public index.
  "${install[@]}" || "${install[@]}" --extra-index-url https://download.pytorch.org/whl/cpu --index-strategy unsafe-best-match
else
  "${install[@]}"
fi

"$venv/bin/python" -c 'from paft_ray.models.resolve import resolve_model; print("demo model:", resolve_model("demo", None))'
