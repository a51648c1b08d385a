#!/bin/sh
# Every table of quality: the bundled model on real pairs, and on chains and singers that were held out.
# usage: VOCAL_RESTYLER_DATA=FOLDER [DETERMINISTIC=MODEL] scripts/bench_quality.sh [OUT]      (OUT: out/quality)
# FOLDER holds research/pairs (the DiffVox demo page), research/gtsinger, presets/internal and MANIFEST.tsv. MODEL was
# trained to give one answer, and gets rows of its own: docs/log.md has the command. The two evaluations run beside each
# other, on a core each; the same command goes on after a stop.
set -eu
cd "$(dirname "$0")/.."
out=${1:-out/quality}
data=${VOCAL_RESTYLER_DATA:-}
if [ -z "$data" ] || [ ! -d "$data/research/pairs" ]; then
    echo "error: VOCAL_RESTYLER_DATA must name a folder with research/pairs and more: see scripts/bench_quality.sh" >&2
    exit 2
fi
presets=$data/presets/internal/decoded.csv
mkdir -p "$out"
if [ ! -f "$out/real_pairs/pairs.jsonl" ]; then  # it is written last
    rm -rf "$out/real_pairs"
    .venv/bin/python -m restyler.evaluate.medleydb "$data/research/pairs" "$out/real_pairs"
fi
.venv/bin/restyler synthesize "$data/research/gtsinger" --manifest "$data/MANIFEST.tsv" --presets "$presets" \
    --test-only --mixes-per-take 1 --shift-probability 0 --out "$out/rendered_pairs"

evaluate() {  # NAME [OPTION …], the end of the shell that calls it
    name=$1
    shift
    exec env OMP_NUM_THREADS=1 .venv/bin/restyler evaluate --set "$out/${name}_pairs" --presets "$presets" \
        --out "$out/$name" ${DETERMINISTIC:+--deterministic "$DETERMINISTIC"} "$@"
}
echo "The rendered pairs are scored beside the real ones: $out/rendered.log"
evaluate rendered --limit 12 >"$out/rendered.log" 2>&1 &
rendered=$!
evaluate real &
real=$!
trap 'kill "$rendered" "$real" 2>/dev/null || true' EXIT  # whatever ends this ends both
trap 'exit 129' HUP
trap 'exit 130' INT
trap 'exit 143' TERM
wait "$real"
wait "$rendered" || {
    status=$?
    tail -n 1 "$out/rendered.log" >&2
    exit "$status"
}
trap - EXIT
tail -n 1 "$out/rendered.log"
