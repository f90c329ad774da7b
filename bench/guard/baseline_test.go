package main

import "testing"

func TestJudge(t *testing.T) {
	base := cost{Allocations: 28, Instructions: 100_000}
	f := func(allocations, instructions, want int) {
		t.Helper()
		if got := judge("POST", base, cost{allocations, instructions}); len(got) != want {
			t.Errorf("%d, %d: got %q, want %d faults", allocations, instructions, got, want)
		}
	}
	f(28, 100_000, 0)
	f(28, 104_000, 0)
	f(28, 50_000, 0)
	f(28, 104_001, 1)
	f(29, 100_000, 1)
	f(27, 100_000, 1)
	f(29, 200_000, 2)
	if got := judge("new", cost{}, base); len(got) != 2 {
		t.Errorf("without a baseline: got %q", got)
	}
}
