#!/usr/bin/env bash
# Builds sdist and wheel into dist/ with the locked tools: build.sh [TAG]. A tag vX.Y.Z must name the version that
# pyproject.toml and CITATION.cff state, and CHANGELOG.md must have a section of it.
set -euo pipefail
cd "$(dirname "$0")/.."
tag=${1:-}
version=$(sed -n '0,/^version = /s/^version = "\(.*\)"$/\1/p' pyproject.toml)  # the project's is the first
cited=$(sed -n 's/^version: *"\{0,1\}\([^"]*\)"\{0,1\}$/\1/p' CITATION.cff)
[ "$cited" = "$version" ] || { echo "build: CITATION.cff says version $cited, pyproject.toml $version" >&2; exit 2; }
if [[ "$tag" == v* ]]; then
  [ "$tag" = "v$version" ] || { echo "build: tag $tag is not v$version, the version in pyproject.toml" >&2; exit 2; }
  grep -qF "## $version" CHANGELOG.md || { echo "build: CHANGELOG.md has no section $version" >&2; exit 2; }
fi
tools=$(mktemp -d)
trap 'rm -rf "$tools"' EXIT
python3 -m venv "$tools"
"$tools/bin/python" -m pip install --quiet --no-deps --require-hashes --requirement locks/build.txt
rm -rf dist
"$tools/bin/uv" build --quiet --build-constraints locks/build.txt --require-hashes --out-dir dist
ls dist
