#!/usr/bin/env bash
# Checks queue.pml with spin, and that each of its mutants is found. Needs spin, gcc and 1 GB of memory; README.md has
# the rest. Arguments go to spin, as -DCANCELLERS=2; with any, the model is checked so and the mutants are left out.
set -euo pipefail
model=$(cd "$(dirname "$0")" && pwd)/queue.pml
for tool in spin gcc; do
	command -v "$tool" >/dev/null || { echo "spin: $tool is not here; the Debian package has the same name" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# check prints what pan found. It fails when pan did, or did not search everything.
check() {
	spin -a "$@" "$model" >spin.log || { cat spin.log >&2; return 2; }
	gcc -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=8000 -o pan pan.c
	./pan -m10000 >pan.log
	grep -E '^pan:|errors:|states, stored|total actual|elapsed' pan.log
	! grep -qE 'max search depth too small|out of memory|reached -DMEMLIM|wrote|errors: [^0]' pan.log
}

echo "== queue.pml $*"
check "$@"
test $# = 0 || exit 0
for mutant in CELL_BEFORE_COUNT SIGNAL_KEPT TAIL_AFTER_TICKET; do
	echo "== queue.pml, mutant $mutant"
	if check -D$mutant; then
		echo "spin: the mutant $mutant was not found" >&2
		exit 1
	fi
	grep -qE 'assertion violated|invalid end state' pan.log || { echo "spin: pan itself failed" >&2; exit 1; }
done
