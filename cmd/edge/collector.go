package main

import (
	"runtime/debug"
	"slices"
	"strings"
)

// garbageBytes is how much garbage about lies around before the collector runs.
const garbageBytes = 8 << 20

// collectorPercent is GOGC for an arena of so many bytes, 5 to 100. The arena counts as memory in use although the
// collector need not look into it. So with Go's own 100 a high-throughput arena of 128 MB lets as much garbage pile up:
// W2 peaked at 101 MB, with 30 at 54 MB and with 20 at 43 MB, for no more CPU time; docs/bench.md.
func collectorPercent(arena int64) int {
	return int(min(100, max(5, garbageBytes*100/max(arena, 1))))
}

// tuneCollector sets that, unless the environment has GOGC.
func tuneCollector(environ []string, arena int64) {
	if !inEnvironment(environ, "GOGC") {
		debug.SetGCPercent(collectorPercent(arena))
	}
}

// inEnvironment reports whether name is set there, and not to nothing.
func inEnvironment(environ []string, name string) bool {
	return slices.ContainsFunc(environ, func(v string) bool {
		value, ok := strings.CutPrefix(v, name+"=")
		return ok && value != ""
	})
}
