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
		os.Exit(dispatch(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(m.Run())
}

func TestFlags(t *testing.T) {
	f := func(args string, rounds int, seconds float64, wanted, wrong string) {
		t.Helper()
		o, err := parseFlags(strings.Fields(args), new(bytes.Buffer))
		if err != nil {
			if wrong == "" || !strings.Contains(err.Error(), wrong) {
				t.Errorf("%s: got error %q, want %q", args, err, wrong)
			}
			return
		}
		got := strings.Join(names(o.only), " ")
		if o.starts {
			got += " starts"
		}
		if o.scale {
			got += " scale"
		}
		if o.rounds != rounds || o.seconds != seconds || got != wanted || wrong != "" {
			t.Errorf("%s: got %d rounds of %v s of %s; want %d, %v, %s, error %q", args, o.rounds, o.seconds, got, rounds, seconds, wanted, wrong)
		}
		if whole := wanted == everything; o.whole() != whole {
			t.Errorf("%s: got whole %v", args, o.whole())
		}
	}
	f("", 3, 2, everything, "")
	f("-write -rounds 5", 5, 2, everything, "")
	f("-only W4a,W1 -seconds 0.1", 3, .1, "W1 W4a", "")
	f("-only scale,W9,starts", 3, 2, "W9 starts scale", "")
	f("-quick", 1, .5, everything, "")
	f("-seconds 2 -quick", 1, 2, everything, "")
	f("-quick -rounds 2", 2, .5, everything, "")
	f("-only w2", 0, 0, "", `-only: got "w2", want of W1, W2, W2f, W3, W4a, W4b`)
	f("-rounds 0", 0, 0, "", "got 0, want 1 to 20")
	f("-seconds NaN", 0, 0, "", "got NaN, want 0.1 to 30")
	f("-write -quick", 0, 0, "", "whole run")
	f("-write -only W1", 0, 0, "", "whole run")
	f("-write -peers nginx", 0, 0, "", "whole run")
	f("-peers squid", 0, 0, "", `-peers: got "squid", want of nginx, haproxy, caddy`)
	f("W1", 0, 0, "", `unexpected argument "W1"`)
	f("-fast", 0, 0, "", "not defined")
}

const everything = "W1 W2 W2f W3 W4a W4b W5 W6 W7 W8 W9 starts scale"

func TestPeersFlag(t *testing.T) {
	f := func(args []string, want string) {
		t.Helper()
		o, err := parseFlags(args, new(bytes.Buffer))
		if got := strings.Join(o.peers, " "); got != want || err != nil {
			t.Errorf("%s: got %q, %v; want %q", args, got, err, want)
		}
	}
	f(nil, "nginx haproxy caddy vmauth traefik traefik-fast")
	f([]string{"-peers", "haproxy"}, "haproxy")
	f([]string{"-peers="}, "")
}

// TestTurns: progress knows beforehand how long a run is.
func TestTurns(t *testing.T) {
	onLinux(t)
	f := func(args string, want int) {
		t.Helper()
		o, err := parseFlags(strings.Fields(args+" -peers="), new(bytes.Buffer))
		if err != nil {
			t.Fatal(err)
		}
		b := prepare(t.Context(), o, 1<<20)
		if got := b.turns(); got != want {
			t.Errorf("%s: got %d turns, want %d", args, got, want)
		}
	}
	f("-only W2", 3*4)
	f("-only W9 -rounds 2", 2*4*5)
	f("-only starts", 3*3+1)
	f("-only scale", 3*(4*2+3+9)+3*2)
	f("", 3*4*10+3*4*5+10+66)
}

func TestWrongUseAndHelp(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := dispatch([]string{"-rounds", "x"}, nil, &stdout, &stderr); code != exitUsage || stdout.Len() > 0 || stderr.Len() == 0 {
		t.Errorf("wrong use: got code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
	stderr.Reset()
	if code := dispatch([]string{"-h"}, nil, &stdout, &stderr); code != exitOK || !strings.Contains(stdout.String(), "-only") || stderr.Len() > 0 {
		t.Errorf("help: got code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
}
