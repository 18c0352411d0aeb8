#!/usr/bin/env bash
# Make demo/base anew: corpus, tokenizer, pretraining, export. Stopped at any moment, a second call goes on.
#   demo/make_base.sh [WORK_FOLDER] [STEPS]
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-demo_run/make_base}
steps=${2:-2400}
python=${PYTHON:-python3}
mkdir -p "$work"
[ -f "$work/vague.jsonl" ] || "$python" data_mlx/build.py --style vague --rows 40000 --seed 101 --out "$work/vague.jsonl"
[ -f "$work/exact.jsonl" ] || "$python" data_mlx/build.py --style exact --rows 8000 --seed 102 --out "$work/exact.jsonl"
[ -f "$work/textbook.jsonl" ] || "$python" demo/textbook.py --rows 30000 --seed 103 --out "$work/textbook.jsonl"
# The exact answers give the tokenizer their words; the model does not read them.
[ -f "$work/tokenizer/tokenizer.json" ] || "$python" demo/make_tokenizer.py \
    --data "$work"/{vague,exact,textbook}.jsonl --out "$work/tokenizer"
cp demo/base/chat_template.jinja "$work/tokenizer/"
"$python" demo/pretrain.py --data "$work"/{vague,textbook}.jsonl \
    --tokenizer "$work/tokenizer" --run "$work/run" --steps "$steps"
cp "$work"/tokenizer/tokenizer*.json demo/base/
"$python" demo/export.py --state "$work/run/state.pt" --out demo/base
