#!/usr/bin/env bash
# Builds the examples' .wasm files, the same bytes on every machine that has the toolchains in TOOLCHAINS.
#
#   build.sh [EXAMPLE ...]          writes each beside its source, and the versions of its tools into TOOLCHAINS
#   build.sh verify [EXAMPLE ...]   builds elsewhere and compares with what is here
#
# Without EXAMPLE: all. verify passes over what it cannot judge, for lack of a tool or of its version, and says so;
# with EDGE_TEST_REQUIRE=all it fails then.
set -euo pipefail
cd "$(dirname "$0")"
export LC_ALL=C
GO=${GO:-go}

# tools EXAMPLE lists what builds it.
tools() {
	case $1 in
	stamp-header) echo wat2wasm ;;
	check-key) echo go ;;
	redact-json) echo clang wasm-ld ;;
	pick-model) echo node assemblyscript ;;
	token-meter) echo node assemblyscript-0.14 proxy-runtime ;;
	openai-to-anthropic) echo go ;;
	aws-sigv4) echo go ;;
	*) echo "build.sh: no example is called $1" >&2 && exit 2 ;;
	esac
}

# version TOOL prints the version that decides about the bytes; nothing and false if the tool is not here.
version() {
	case $1 in
	wat2wasm) wat2wasm --version ;;
	go) "$GO" env GOVERSION | sed 's/^go//' ;;
	clang) clang -dumpversion ;;
	wasm-ld) wasm-ld --version | sed -n 's/.*LLD \([0-9.]*\).*/\1/p' ;;
	node) node --version ;; # it runs the compiler, and has no part in what that writes
	assemblyscript) npm_version pick-model/node_modules/assemblyscript ;;
	assemblyscript-0.14) npm_version token-meter/node_modules/assemblyscript ;;
	proxy-runtime) npm_version token-meter/node_modules/@solo-io/proxy-runtime ;;
	esac 2>/dev/null
}

npm_version() { sed -n 's/^ *"version": "\(.*\)".*/\1/p' "$1/package.json"; }

# build EXAMPLE FILE
build() {
	case $1 in
	stamp-header)
		wat2wasm stamp-header/stamp-header.wat -o "$2"
		;;
	check-key | openai-to-anthropic | aws-sigv4)
		env -u GOFLAGS -u GOEXPERIMENT -u GOWASM GOOS=wasip1 GOARCH=wasm CGO_ENABLED=0 \
			"$GO" build -buildmode=c-shared -trimpath -buildvcs=false -ldflags="-s -w -buildid=" -o "$2" "./$1"
		;;
	redact-json)
		clang --target=wasm32 -std=c11 -O2 -Wall -Wextra -Werror -ffreestanding -nostdlib -mbulk-memory \
			-Wl,--no-entry,--strip-all,--stack-first,-z,stack-size=16384 \
			-o "$2" redact-json/redact-json.c redact-json/json.c
		;;
	pick-model)
		(cd pick-model && node node_modules/assemblyscript/bin/asc.js --config asconfig.json --outFile "$2")
		;;
	token-meter)
		(cd token-meter && node node_modules/assemblyscript/bin/asc assembly/index.ts -O3s --noAssert --converge \
			--use abort=abort_proc_exit --binaryFile "$2" 2>&1 | sed -n '/ERROR/,$p' >&2)
		;;
	esac
	chmod 644 "$2"
}

# missing EXAMPLE prints the first of its tools that is not here; false if there is none.
missing() {
	local tool
	for tool in $(tools "$1"); do
		version "$tool" >/dev/null || { echo "$tool" && return; }
	done
	return 1
}

# recorded TOOL prints its version in TOOLCHAINS.
recorded() { sed -n "s/^$1 //p" TOOLCHAINS; }

write() {
	local example=$1 tool
	if tool=$(missing "$example"); then
		echo "build.sh: $example: $tool is not here; make test-deps installs it (go, too, must be here)" >&2
		exit 1
	fi
	build "$example" "$PWD/$example/$example.wasm"
	for tool in $(tools "$example"); do
		test "$tool" != node || continue
		{ grep -v "^$tool " TOOLCHAINS || true; echo "$tool $(version "$tool")"; } | sort >"$scratch/TOOLCHAINS"
		cp "$scratch/TOOLCHAINS" TOOLCHAINS
	done
	echo "$example: $(wc -c <"$example/$example.wasm") bytes"
}

# unjudged EXAMPLE WHY
unjudged() {
	if test "${EDGE_TEST_REQUIRE:-}" = all; then
		echo "$1: NOT VERIFIED, and EDGE_TEST_REQUIRE is all: $2"
		failed=1
	else
		echo "$1: passed over: $2"
	fi
}

verify() {
	local example=$1 tool other=
	if tool=$(missing "$example"); then
		unjudged "$example" "$tool is not here; make test-deps installs it"
		return
	fi
	build "$example" "$scratch/$example.wasm"
	if cmp -s "$scratch/$example.wasm" "$example/$example.wasm"; then
		echo "$example: same bytes as from its source"
		return
	fi
	for tool in $(tools "$example"); do
		if test "$tool" != node && test "$(version "$tool")" != "$(recorded "$tool")"; then
			other="$other $tool here is $(version "$tool"), the file is from $(recorded "$tool");"
		fi
	done
	if test -n "$other"; then
		unjudged "$example" "other bytes, but$other make wasm rebuilds"
		return
	fi
	echo "$example: FAILED: $example.wasm is not what its source gives; make wasm rebuilds it"
	failed=1
}

action=write
if test "${1:-}" = verify; then
	action=verify
	shift
fi
test $# -gt 0 || set -- stamp-header check-key redact-json pick-model token-meter openai-to-anthropic aws-sigv4
for example; do tools "$example" >/dev/null; done
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0
for example; do "$action" "$example"; done
exit "$failed"
