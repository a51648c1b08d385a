#!/bin/sh
# Every table of quality: the bundled model on real pairs, and on chains and singers that were held out.
# usage: VOCAL_RESTYLER_DATA=FOLDER scripts/bench_quality.sh [OUT]      (OUT: out/quality)
# FOLDER holds research/pairs (the DiffVox demo page), research/gtsinger, presets/internal and MANIFEST.tsv. About an hour
# on two cores; the same command goes on after a stop.
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
.venv/bin/restyler evaluate --set "$out/real_pairs" --presets "$presets" --out "$out/real"
.venv/bin/restyler evaluate --set "$out/rendered_pairs" --presets "$presets" --limit 12 --out "$out/rendered"
