// Command guard compares what a request costs with what it cost when baseline.json was written: allocations, exactly, and
// instructions, within a tolerance. It knows no wall time, so a busy machine does not make it fail:
//
//	cd bench && go run ./guard            fails when a request costs more, and says what
//	cd bench && go run ./guard -update    writes baseline.json anew
//
// Instructions are callgrind's (https://valgrind.org/docs/manual/cl-manual.html), of BenchmarkGuard in ../proxy: the
// difference between two runs with many and with few requests, so that what a process does once cancels out. They depend
// on Go's version and the architecture, which the baseline names. Allocations are counted without valgrind. Where perf stat
// works, its count is printed too, and judged by nobody.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"syscall"
)

const (
	baselineFile = "guard/baseline.json" // as seen from bench/
	few, many    = 200, 1200             // requests of the two runs
	heapRequests = 2000
)

var scenarios = []string{"GET", "POST", "download", "http-wasm", "proxy-wasm"}

func main() {
	update := flag.Bool("update", false, "write guard/baseline.json anew")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *update, os.Stdout); err != nil {
		fmt.Fprintf(os.Stderr, "guard: %v\n", err)
		os.Exit(1) //nolint:gocritic // the signals' handler ends with the process
	}
}

func run(ctx context.Context, update bool, stdout io.Writer) error {
	if _, err := exec.LookPath("valgrind"); err != nil {
		return errors.New("valgrind is not here; make test-deps installs it")
	}
	base := baseline{Go: runtime.Version(), Arch: runtime.GOARCH, Scenarios: map[string]cost{}}
	if !update {
		text, err := os.ReadFile(baselineFile)
		if err == nil {
			err = json.Unmarshal(text, &base)
		}
		if err != nil {
			return fmt.Errorf("%s: %w; make guard-update writes it", baselineFile, err)
		}
		if base.Go != runtime.Version() || base.Arch != runtime.GOARCH {
			return fmt.Errorf("%s is of %s on %s, this is %s on %s; make guard-update writes it anew", baselineFile, base.Go, base.Arch, runtime.Version(), runtime.GOARCH)
		}
	}
	dir, err := os.MkdirTemp("", "edge-guard-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	binary := filepath.Join(dir, "proxy.test")
	build := exec.CommandContext(ctx, "go", "test", "-c", "-o", binary, "./proxy")
	build.Dir = ".."
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("build: %w\n%s", err, text)
	}
	var faults []string
	for _, name := range scenarios {
		got, err := least(ctx, binary, name, base.Scenarios[name], update)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		fmt.Fprintf(stdout, "%-10s allocations %d, instructions %d; perf stat: %s\n", name, got.Allocations, got.Instructions, perf(ctx, binary, name))
		if update {
			base.Scenarios[name] = got
		} else {
			faults = append(faults, judge(name, base.Scenarios[name], got)...)
		}
	}
	if update {
		text, err := json.MarshalIndent(base, "", "  ")
		if err != nil {
			return err
		}
		return os.WriteFile(baselineFile, append(text, '\n'), 0o644)
	}
	if len(faults) > 0 {
		return fmt.Errorf("%s\nwhere that is meant: make guard-update writes a new baseline; commit it with the reason", strings.Join(faults, "\n"))
	}
	return nil
}

// tries is how often a scenario is measured before it is said to cost more: what else the process does meanwhile, by the
// clock, can only add. A new baseline is the least of so many, too.
const tries = 3

func least(ctx context.Context, binary, name string, base cost, update bool) (best cost, err error) {
	for i := range tries {
		got, err := measure(ctx, binary, name)
		if err != nil {
			return best, err
		}
		if i == 0 {
			best = got
		}
		best = cost{min(best.Allocations, got.Allocations), min(best.Instructions, got.Instructions)}
		if !update && len(judge(name, base, best)) == 0 {
			break
		}
	}
	return best, nil
}

// measure counts what one request of a scenario costs.
func measure(ctx context.Context, binary, name string) (c cost, err error) {
	text, err := bench(ctx, name, heapRequests, binary)
	if err != nil {
		return c, err
	}
	mallocs, err := number(text, `([0-9.]+) mallocs/op`)
	if err != nil {
		return c, err
	}
	c.Allocations = int(math.Round(mallocs)) // what else the process allocates is spread over all requests
	var counted [2]float64
	for i, requests := range [2]int{few, many} {
		text, err := bench(ctx, name, requests, "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", binary)
		if err != nil {
			return c, err
		}
		if counted[i], err = number(text, `Collected : ([0-9]+)`); err != nil {
			return c, err
		}
	}
	c.Instructions = int((counted[1] - counted[0]) / (many - few))
	return c, nil
}

// bench runs BenchmarkGuard's scenario and returns what it and its runner say. With one processor, no collections and no
// preemption by signals, runs differ little.
func bench(ctx context.Context, name string, requests int, command ...string) (string, error) {
	command = append(command, "-test.run=^$", "-test.bench=^BenchmarkGuard$/^"+name+"$", "-test.benchtime="+strconv.Itoa(requests)+"x")
	cmd := exec.CommandContext(ctx, command[0], command[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS=1", "GOGC=off", "GODEBUG=asyncpreemptoff=1")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, text)
	}
	return string(text), nil
}

// perf is what perf stat counts, or that it cannot.
func perf(ctx context.Context, binary, name string) string {
	var counted [2]float64
	for i, requests := range [2]int{few, many} {
		text, err := bench(ctx, name, requests, "perf", "stat", "-x", ";", "-e", "instructions:u", binary)
		if err == nil {
			counted[i], err = number(text, `(?m)^([0-9]+);[^;]*;instructions`)
		}
		if err != nil {
			return "not available"
		}
	}
	return strconv.Itoa(int((counted[1] - counted[0]) / (many - few)))
}

func number(text, pattern string) (float64, error) {
	found := regexp.MustCompile(pattern).FindStringSubmatch(text)
	if found == nil {
		return 0, fmt.Errorf("found no %s in:\n%s", pattern, text)
	}
	return strconv.ParseFloat(found[1], 64)
}
