#!/usr/bin/env bash
# Resolve requirements.in in a fresh environment and write every version down.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3.11 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --requirement "$here/requirements.in"
{
  echo "# Exact pins of everything, written by envs/lock.sh from requirements.in; install with plain pip."
  # torch's local version (+cpu, +cu130) depends on the machine, the pin must not
  "$folder/env/bin/pip" freeze --all --exclude pip --exclude wheel | sed 's/^\(torch==[^+]*\)+.*/\1/'
} > "$folder/lock"
mv "$folder/lock" "$here/requirements.lock"
"$here/conda.sh"
