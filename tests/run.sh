#!/usr/bin/env bash
# The whole check: style, types, tests, in an environment of its own (.venv-test/). usage: tests/run.sh [pytest flags …]
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
. scripts/environment.sh

make_environment .venv-test requirements.txt requirements-dev.txt
ensure_fast_cpu
bin=.venv-test/bin
"$bin/ruff" check .
"$bin/ruff" format --check .
"$bin/mypy"
if library=$(openblas); then
    export LD_PRELOAD="$library${LD_PRELOAD:+:$LD_PRELOAD}"
fi
"$bin/python" -m pytest "$@"
