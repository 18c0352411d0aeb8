#!/usr/bin/env bash
# One command from a fresh clone to a trained adapter: environment → checks → confirm → train → what comes next.
# usage: ./run_v3_training.sh [--demo] [--yes] [any flag of train_v3_precision.py …]
# --demo trains the small base model of the repository below demo_run/, then evaluates and fuses it there too.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
. scripts/environment.sh

demo=no
for argument in "$@"; do
    [ "$argument" = --demo ] && demo=yes
done

printf '🎯 V3精准度强化训练\n\n🔧 环境\n'
make_environment venv requirements.txt
ensure_fast_cpu
python=venv/bin/python
printf '   %s\n' "$($python --version)"

# A closed lid or an idle hour must not stop a run of several hours.
awake=()
command -v caffeinate >/dev/null && awake=(caffeinate -i)

${awake[@]+"${awake[@]}"} "$python" train_v3_precision.py "$@"

# These end without training, so nothing follows them.
for argument in "$@"; do
    case $argument in
    --check-data | --preflight | --preview | --preview=* | --help | -h) exit 0 ;;
    esac
done

# A simulation leaves nothing to evaluate or to fuse, and has said so.
grep -qs '"simulated": true' demo_run/adapters_v3_precision/adapter_config.json && demo=no

if [ "$demo" = yes ]; then
    printf '\n📊 评估: V2与V3对照\n'
    # Exit code 3 is a finding about the answers, which the table shows; the demo goes on to fuse all the same.
    status=0
    "$python" evaluate_v3_model.py --demo || status=$?
    [ "$status" -eq 0 ] || [ "$status" -eq 3 ] || exit "$status"
    printf '\n🔄 融合\n'
    "$python" fuse_v3_model.py --demo --force
    printf '\n'
    cat demo_run/evaluation_v3/summary.txt
fi
