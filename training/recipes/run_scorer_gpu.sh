#!/usr/bin/env bash
# The scorer on one GPU, in 25 minutes: first on scenes that leave the public test sets' questions alone, then on
# those that ask them too. Both adapters, with words, card and curves, are what `--model local:<adapter.gguf>` takes.
#
#   training/recipes/run_scorer_gpu.sh [--smoke] [OUT]
#
# OUT: where the two stages go (default out/scorer). Killed, or out of time, it goes on when it is started again.
# PYTHON names the interpreter. --smoke: a few steps of each stage on a CPU, to see that everything is in place.
set -euo pipefail

smoke=false
if [ "${1:-}" = --smoke ]; then
  smoke=true
  shift
fi
out=${1:-out/scorer}
train=("${PYTHON:-python}" -m cluster_r1 train scorer)
strict=(smollm2-135m/scorer "out=$out/strict" steps=4000 minutes=14)
usual=(smollm2-135m/scorer-usual "model.base=$out/strict" "out=$out/usual" steps=2000 minutes=8)
if $smoke; then
  strict+=(steps=2 batch=2 'hold_out=[tax]' evaluate_every=0)
  usual+=(steps=2 batch=2 'hold_out=[tax]' evaluate_every=0)
fi

"${train[@]}" "${strict[@]}"
"${train[@]}" "${usual[@]}"
echo "adapters: $out/strict/adapter.gguf $out/usual/adapter.gguf"
