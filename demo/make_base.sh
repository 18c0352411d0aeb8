#!/usr/bin/env bash
# Make demo/base anew: corpus, tokenizer, pretraining, export. Stopped at any moment, a second call goes on.
#   demo/make_base.sh [WORK_FOLDER] [STEPS]
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:-demo_run/make_base}
steps=${2:-1600}
python=${PYTHON:-python3}
mkdir -p "$work"

rows() { # STYLE ROWS SEED
    [ -f "$work/$1.jsonl" ] || "$python" data_mlx/build.py --style "$1" --rows "$2" --seed "$3" --out "$work/$1.jsonl"
}

rows vague 40000 101
rows exact 30000 102
[ -f "$work/textbook.jsonl" ] || "$python" demo/textbook.py --rows 16000 --seed 103 --out "$work/textbook.jsonl"
[ -f "$work/casebook.jsonl" ] || "$python" demo/casebook.py --exact "$work/exact.jsonl" \
    --held-out data_mlx/valid.jsonl data_mlx/test.jsonl --out "$work/casebook.jsonl"
[ -f "$work/tokenizer/tokenizer.json" ] || "$python" demo/make_tokenizer.py \
    --data "$work"/{vague,textbook,casebook}.jsonl --out "$work/tokenizer"
cp demo/base/chat_template.jinja "$work/tokenizer/"
# Many threads waiting for each other would take the cores from everybody else.
OMP_WAIT_POLICY=PASSIVE "$python" demo/pretrain.py --data "$work"/{vague,textbook,casebook}.jsonl \
    --tokenizer "$work/tokenizer" --run "$work/run" --steps "$steps"
cp "$work"/tokenizer/tokenizer*.json demo/base/
"$python" demo/export.py --state "$work/run/state.pt" --out demo/base
