#!/usr/bin/env bash
# Instructions of an operation in memory, by case. Needs valgrind. Arguments: the cases, by default all.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release --package larder-compare --bin instructions
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/instructions "$1" "$2" 2>&1 |
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
(($#)) || mapfile -t cases < <(target/release/instructions)
for case in "${@:-${cases[@]}}"; do
  few=$(count "$case" 100000)
  many=$(count "$case" 200000)
  echo "$case: $(((many - few) / 100000)) instructions"
done
