// Command bench measures edge beside a tuned httputil.ReverseProxy ("rp") and beside no proxy at all ("direct"), on
// the same work in the same run:
//
//	go run .                      all workloads, under three minutes on 2 cores
//	go run . -quick -only W2      one workload for a second or two, to see that it runs
//	go run . -write               the whole run, and its table into ../docs/bench.md
//
// It builds ../cmd/edge and starts everything as processes of its own on loopback: the upstream, each proxy, and the
// load, so that the CPU time of a proxy process is the proxy's alone. Wherever the machine's noise goes, it goes into
// peers that take turns within seconds; so a ratio holds within one run, and figures of two runs are not compared.
//
// It reads /proc and runs on Linux only. It does not judge: it knows no bar and fails only when something does not
// work, a wrong answer included.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"slices"
	"strings"
	"syscall"
)

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// Bounds and defaults of the flags; with the defaults a run stays under three minutes.
const (
	defaultRounds, maxRounds     = 3, 20
	defaultSeconds, quickSeconds = 3.0, 0.5
	minSeconds, maxSeconds       = 0.1, 30.0
)

// options are what the flags say.
type options struct {
	rounds  int
	seconds float64 // of load, for each peer, workload and round
	only    []workload
	write   bool
	args    []string // as given
}

func main() {
	os.Exit(dispatch(os.Args[1:], os.Stdout, os.Stderr))
}

// dispatch does what the first argument names: a child's work, or the whole run.
func dispatch(args []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(args) > 0 && args[0] == upstreamCommand:
		err = serveUpstream(ctx, stdout)
	case len(args) > 1 && args[0] == rpCommand:
		err = serveRP(ctx, args[1], stdout)
	case len(args) > 1 && args[0] == loadCommand:
		err = runLoad(ctx, args[1], stdout)
	default:
		var o options
		if o, err = parseFlags(args, stdout); err == nil {
			err = run(ctx, o, stdout, stderr)
		} else if errors.Is(err, flag.ErrHelp) {
			return exitOK
		} else {
			fmt.Fprintf(stderr, "bench: %v\n", err)
			return exitUsage
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			err = errors.New("interrupted")
		}
		fmt.Fprintf(stderr, "bench: %v\n", err)
		return exitFailed
	}
	return exitOK
}

// parseFlags returns flag.ErrHelp when help was asked for and given.
func parseFlags(args []string, stdout io.Writer) (options, error) {
	o := options{args: args}
	var only string
	var quick bool
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.IntVar(&o.rounds, "rounds", defaultRounds, "`times` that each peer takes its turn, 1 to 20")
	set.Float64Var(&o.seconds, "seconds", defaultSeconds, "`seconds` of load in each turn, 0.1 to 30")
	set.StringVar(&only, "only", "", "these `workloads` only, separated by commas: "+strings.Join(names(workloads), ", "))
	set.BoolVar(&quick, "quick", false, "one round of half a second, where -rounds and -seconds do not say otherwise")
	set.BoolVar(&o.write, "write", false, "write the result into ../docs/bench.md; takes a whole run")
	set.SetOutput(io.Discard)
	err := set.Parse(args)
	given := map[string]bool{}
	set.Visit(func(f *flag.Flag) { given[f.Name] = true })
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprintln(stdout, "usage: go run . [flags]")
		set.SetOutput(stdout)
		set.PrintDefaults()
		return o, err
	case err != nil:
		return o, err
	case set.NArg() > 0:
		return o, fmt.Errorf("unexpected argument %q", set.Arg(0))
	case o.write && (quick || only != ""):
		return o, errors.New("-write takes a whole run, without -quick and -only")
	}
	if quick && !given["rounds"] {
		o.rounds = 1
	}
	if quick && !given["seconds"] {
		o.seconds = quickSeconds
	}
	if o.rounds < 1 || o.rounds > maxRounds {
		return o, fmt.Errorf("-rounds: got %d, want 1 to %d", o.rounds, maxRounds)
	}
	if !(o.seconds >= minSeconds && o.seconds <= maxSeconds) { // NaN too
		return o, fmt.Errorf("-seconds: got %v, want %v to %v", o.seconds, minSeconds, maxSeconds)
	}
	o.only, err = selected(only)
	return o, err
}

// selected returns the workloads that a list names, in the table's order; an empty list names all.
func selected(list string) ([]workload, error) {
	if list == "" {
		return workloads, nil
	}
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if _, ok := workloadNamed(name); !ok {
			return nil, fmt.Errorf("-only: got %q, want of %s", name, strings.Join(names(workloads), ", "))
		}
	}
	return slices.DeleteFunc(slices.Clone(workloads), func(w workload) bool { return !slices.Contains(wanted, w.name) }), nil
}

// run measures, prints the table and, with -write, writes the document.
func run(ctx context.Context, o options, stdout, stderr io.Writer) error {
	if runtime.GOOS != "linux" {
		return fmt.Errorf("runs on Linux only: it reads /proc; this is %s", runtime.GOOS)
	}
	if o.write {
		if _, err := replaceMeasured(documentFile, ""); err != nil {
			return err // now rather than after minutes
		}
	}
	runtime.LockOSThread() // and never unlocked: childAttributes
	m, err := beginMachine()
	if err != nil {
		return err
	}
	outcomes, err := measureAll(ctx, o, newProgress(stderr, len(o.only)*o.rounds*len(peerNames)))
	if err != nil {
		return err
	}
	if err := m.finish(); err != nil { // after the last child, so that all of them count as ours
		return err
	}
	report := report(m, o, outcomes)
	if _, err := io.WriteString(stdout, report); err != nil || !o.write {
		return err
	}
	page, err := replaceMeasured(documentFile, report)
	if err != nil {
		return err
	}
	return os.WriteFile(documentFile, page, 0o644)
}
