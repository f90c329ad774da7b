package main

import (
	"bytes"
	"os"
	"slices"
	"strings"
	"testing"
)

// TestMain lets the tests start this program's children: they are this binary.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && slices.Contains([]string{upstreamCommand, rpCommand, loadCommand}, os.Args[1]) {
		os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestFlags(t *testing.T) {
	f := func(args string, rounds int, seconds float64, workloads, wrong string) {
		t.Helper()
		o, err := parseFlags(strings.Fields(args), new(bytes.Buffer))
		if err != nil {
			if wrong == "" || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: got error %q, want %q", args, err, wrong)
			}
			return
		}
		if got := strings.Join(names(o.only), " "); o.rounds != rounds || o.seconds != seconds || got != workloads || wrong != "" {
			t.Errorf("%s: got %d rounds of %v s of %s; want %d, %v, %s, error %q", args, o.rounds, o.seconds, got, rounds, seconds, workloads, wrong)
		}
	}
	f("", 3, 3, "W1 W2 W3 W4a", "")
	f("-write -rounds 5", 5, 3, "W1 W2 W3 W4a", "")
	f("-only W4a,W1 -seconds 0.1", 3, .1, "W1 W4a", "")
	f("-quick", 1, .5, "W1 W2 W3 W4a", "")
	f("-seconds 2 -quick", 1, 2, "W1 W2 W3 W4a", "")
	f("-quick -rounds 2", 2, .5, "W1 W2 W3 W4a", "")
	f("-only w2", 0, 0, "", `got "w2", want of W1, W2, W3, W4a`)
	f("-rounds 0", 0, 0, "", "got 0, want 1 to 20")
	f("-seconds NaN", 0, 0, "", "got NaN, want 0.1 to 30")
	f("-write -quick", 0, 0, "", "whole run")
	f("-write -only W1", 0, 0, "", "whole run")
	f("W1", 0, 0, "", `unexpected argument "W1"`)
	f("-fast", 0, 0, "", "not defined")
}

func TestWrongUseAndHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := dispatch([]string{"-rounds", "x"}, &stdout, &stderr); code != exitUsage || stdout.Len() > 0 || stderr.Len() == 0 {
		t.Errorf("wrong use: got code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
	stderr.Reset()
	if code := dispatch([]string{"-h"}, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "-only") || stderr.Len() > 0 {
		t.Errorf("help: got code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
}
