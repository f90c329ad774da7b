// Command bench measures edge beside what it could be replaced with, and beside no proxy at all ("direct"), on the
// same work in the same run: a tuned httputil.ReverseProxy ("rp"), and nginx, HAProxy and Caddy where they are installed.
//
//	go run .                            all of it, under twelve minutes on 2 cores
//	go run . -quick -only W2 -peers=    one workload for seconds, without the programs of others, to see that it runs
//	go run . -write                     the whole run, and its tables into ../docs/bench.md
//
// It builds ../cmd/edge and starts everything as processes of its own on loopback: the upstream, each proxy, and the
// load, so that the CPU time of a proxy process is the proxy's alone. Wherever the machine's noise goes, it goes into
// peers that take turns within seconds; so a ratio holds within one run, and figures of two runs are not compared.
//
// It reads /proc and runs on Linux only. It prints each bar beside what was measured and says whether that holds, but
// it fails only when something does not work, a wrong answer of edge, rp or the upstream included.
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

// Bounds and defaults of the flags; with the defaults a run stays under twelve minutes.
const (
	defaultRounds, maxRounds     = 3, 20
	defaultSeconds, quickSeconds = 2.0, 0.5
	minSeconds, maxSeconds       = 0.1, 30.0
)

// options are what the flags say.
type options struct {
	rounds  int
	seconds float64 // of load, for each peer, workload and round
	only    []workload
	starts  bool
	scale   bool
	peers   []string // programs of others that take part when they are installed
	write   bool
	args    []string // as given
}

// whole reports whether all parts are wanted.
func (o options) whole() bool { return len(o.only) == len(workloads) && o.starts && o.scale }

func main() {
	os.Exit(dispatch(os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// dispatch does what the first argument names: a child's work, or the whole run.
func dispatch(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var err error
	switch {
	case len(args) > 0 && args[0] == upstreamCommand:
		err = runUpstream(ctx, stdout)
	case len(args) > 1 && args[0] == rpCommand:
		err = serveRP(ctx, args[1], stdout)
	case len(args) > 1 && args[0] == loadCommand:
		err = runLoad(ctx, args[1], stdin, stdout)
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
	var only, peers string
	var quick bool
	set := flag.NewFlagSet("bench", flag.ContinueOnError)
	set.IntVar(&o.rounds, "rounds", defaultRounds, "`times` that each peer takes its turn, 1 to 20")
	set.Float64Var(&o.seconds, "seconds", defaultSeconds, "`seconds` of load in each turn, 0.1 to 30; W8 and the scale have a least")
	set.StringVar(&only, "only", "", "these `parts` only, separated by commas: "+strings.Join(parts(), ", "))
	set.StringVar(&peers, "peers", strings.Join(programNames(), ","), "of the `programs` of others that are installed, these only; direct, rp and edge always take part")
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
	case o.write && (quick || only != "" || given["peers"]):
		return o, errors.New("-write takes a whole run, without -quick, -only and -peers")
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
	if o.peers, err = named("-peers", peers, programNames()); err != nil {
		return o, err
	}
	wanted, err := named("-only", only, parts())
	if err != nil {
		return o, err
	}
	if only == "" {
		wanted = parts()
	}
	for _, w := range workloads {
		if slices.Contains(wanted, w.name) {
			o.only = append(o.only, w)
		}
	}
	o.starts, o.scale = slices.Contains(wanted, startsPart), slices.Contains(wanted, scalePart)
	return o, nil
}

// What a run has beside the workloads.
const (
	startsPart = "starts"
	scalePart  = "scale"
)

// parts are all that a run has.
func parts() []string { return append(names(workloads), startsPart, scalePart) }

// named returns the elements of a list, each of which must be one of all.
func named(option, list string, all []string) ([]string, error) {
	if list == "" {
		return nil, nil
	}
	wanted := strings.Split(list, ",")
	for _, name := range wanted {
		if !slices.Contains(all, name) {
			return nil, fmt.Errorf("%s: got %q, want of %s", option, name, strings.Join(all, ", "))
		}
	}
	return wanted, nil
}

// run measures, prints the report and, with -write, writes the document.
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
	files, err := openFilesLimit()
	if err != nil {
		return err
	}
	b := prepare(ctx, o, files)
	m, err := beginMachine()
	if err != nil {
		return err
	}
	b.shown = newProgress(stderr, b.turns())
	if err := b.measure(ctx); err != nil {
		return err
	}
	if err := m.finish(); err != nil { // after the last child, so that all of them count as ours
		return err
	}
	b.result.machine = m
	text := b.result.report()
	if _, err := io.WriteString(stdout, text); err != nil {
		return err
	}
	if failed, _ := b.result.failures(); len(failed) > 0 {
		return fmt.Errorf("did not work: %s", strings.Join(failed, "; "))
	}
	if !o.write {
		return nil
	}
	page, err := replaceMeasured(documentFile, text)
	if err != nil {
		return err
	}
	return os.WriteFile(documentFile, page, 0o644)
}
