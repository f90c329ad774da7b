package main

import (
	"runtime/debug"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

func TestCollectorLetsLittleGarbagePileUp(t *testing.T) {
	f := func(objects, want int) {
		t.Helper()
		if got := collectorPercent(proxy.ArenaBytes(objects)); got != want {
			t.Errorf("initial_pool_size %d: got GOGC %d, want %d", objects, got, want)
		}
	}
	f(1, 100)
	f(100, 100)
	f(1000, 31)
	f(5000, 6)
	f(100_000, 5)
}

func TestGOGCOfTheEnvironmentIsKept(t *testing.T) {
	before := debug.SetGCPercent(77)
	defer debug.SetGCPercent(before)
	tuneCollector([]string{"GOGC=50"}, 1<<30)
	if got := debug.SetGCPercent(77); got != 77 {
		t.Errorf("with GOGC set: got %d, want it untouched", got)
	}
	tuneCollector([]string{"GOGC="}, 1<<30)
	if got := debug.SetGCPercent(77); got != 5 {
		t.Errorf("with GOGC empty: got %d, want 5", got)
	}
}
