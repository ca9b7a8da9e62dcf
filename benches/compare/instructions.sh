#!/usr/bin/env bash
# Instructions of a memory hit, by case. Needs valgrind.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo build --quiet --release --package larder-compare --bin instructions
count() {
  valgrind --tool=callgrind --callgrind-out-file=/dev/null target/release/instructions "$1" "$2" 2>&1 |
    sed -n 's/.*Collected : \([0-9]*\).*/\1/p'
}
for case in moka plain ttl all; do
  few=$(count "$case" 100000)
  many=$(count "$case" 300000)
  echo "$case: $(((many - few) / 200000)) instructions a hit"
done
