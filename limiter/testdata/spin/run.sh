#!/usr/bin/env bash
# Checks queue.pml and aside.pml with spin, and that each of their mutants is found. Needs spin, gcc and 2 GB of memory;
# README.md has the rest. Arguments go to spin, as -DCANCELLERS=2; with any, queue.pml is checked so, and nothing else.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
for tool in spin gcc; do
	command -v "$tool" >/dev/null || { echo "spin: $tool is not here; the Debian package has the same name" >&2; exit 1; }
done
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# check model [argument ...] prints what pan found. It fails when pan did, or did not search everything.
check() {
	local model=$1
	shift
	spin -a "$@" "$here/$model" >spin.log || { cat spin.log >&2; return 2; }
	gcc -O2 -DSAFETY -DCOLLAPSE -DMEMLIM=8000 -o pan pan.c
	./pan -m100000 >pan.log
	grep -E '^pan:|errors:|states, stored|total actual|elapsed' pan.log
	! grep -qE 'max search depth too small|out of memory|reached -DMEMLIM|wrote|errors: [^0]' pan.log
}

# found model mutant ... fails unless each mutant of the model yields a counterexample.
found() {
	local model=$1 mutant
	shift
	for mutant; do
		echo "== $model, mutant $mutant"
		if check "$model" "-D$mutant"; then
			echo "spin: the mutant $mutant was not found" >&2
			exit 1
		fi
		grep -qE 'assertion violated|invalid end state' pan.log || { echo "spin: pan itself failed" >&2; exit 1; }
	done
}

echo "== queue.pml $*"
check queue.pml "$@"
test $# = 0 || exit 0
echo "== aside.pml"
check aside.pml
echo "== aside.pml -DCLOSES=1"
check aside.pml -DCLOSES=1
found queue.pml CELL_BEFORE_COUNT SIGNAL_KEPT TAIL_AFTER_TICKET
found aside.pml NO_SECOND_LOOK UNCOUNT_LOOKS_ONCE NOT_SETTLED NOBODY_WAITS_FOR_SETTLERS
