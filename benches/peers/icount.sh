#!/usr/bin/env bash
# Instructions per call: (I(2N) - I(N)) / N under callgrind, one process per case.
# usage: ./icount.sh [profile-dir: release|lto] [N]
set -euo pipefail
cd "$(dirname "$0")"
prof=${1:-release}; N=${2:-2000}; bin=target/$prof/icount
mkdir -p results
out=results/$prof-icount.tsv
one() { # index n
  valgrind --tool=callgrind --callgrind-out-file=/dev/null --toggle-collect=peers_measured \
    "$bin" "$1" "$2" 2>&1 | awk '/Collected/ {print $NF}'
}
export -f one; export bin
printf 'group\tcrate\tvariant\tinstr\n' > "$out"
"$bin" --list > results/icount.list
run() { IFS=$'\t' read -r i g c v <<< "$1"
  a=$(one "$i" "$2"); b=$(one "$i" $((2*$2)))
  printf '%s\t%s\t%s\t%s\t%s\n' "$i" "$g" "$c" "$v" "$(awk -v a="$a" -v b="$b" -v n="$2" 'BEGIN{printf "%.1f",(b-a)/n}')"; }
export -f run
xargs -a results/icount.list -d '\n' -P 2 -I{} bash -c 'run "$1" "$2"' _ {} "$N" | sort -n | cut -f2- >> "$out"
column -t -s$'\t' "$out"
