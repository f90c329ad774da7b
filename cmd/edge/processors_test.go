package main

import "testing"

func TestOneProcessorWhileThereIsLittleToDo(t *testing.T) {
	var p processors
	f := func(busy float64, want bool) {
		t.Helper()
		if got := p.look(busy); got != want {
			t.Errorf("busy %v: got one %v, want %v", busy, got, want)
		}
	}
	for range processorCalm - 1 {
		f(0.3, false)
	}
	f(0.3, true)
	f(0, true)
	f(0.41, false) // at once
	f(0, false)    // and not back at once
	f(1.9, false)
	for range processorCalm - 1 {
		f(0.1, false)
	}
	f(0.1, true)
}
