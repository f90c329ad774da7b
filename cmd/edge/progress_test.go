package main

import (
	"bytes"
	"testing"
	"testing/synctest"
	"time"
)

func TestProgressIsShownOnlyWhenCompilingTakesLong(t *testing.T) {
	f := func(each time.Duration, want string) {
		t.Helper()
		synctest.Test(t, func(t *testing.T) {
			var out bytes.Buffer
			p := &progress{of: 2}
			p.begin(&out, progressAfter)
			for range 2 {
				time.Sleep(each)
				p.loaded("name", 0, 0)
			}
			p.end()
			if got := out.String(); got != want {
				t.Errorf("%v each: got %q, want %q", each, got, want)
			}
		})
	}
	f(400*time.Millisecond, "")
	f(700*time.Millisecond, "\redge: compiling plugins, 1 of 2 done\redge: compiling plugins, 2 of 2 done\n")
	f(2*time.Second, "\redge: compiling plugins, 0 of 2 done\redge: compiling plugins, 1 of 2 done\redge: compiling plugins, 2 of 2 done\n")
}

func TestProgressIsSilentWithoutATerminal(t *testing.T) {
	var out bytes.Buffer
	p := newProgress(&out, 3)
	p.loaded("name", 0, 0)
	p.end()
	if p.timer != nil || out.Len() > 0 {
		t.Errorf("got %q", out.String())
	}
}
