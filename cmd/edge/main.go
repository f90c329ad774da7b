// Command edge is a proxy between applications and the HTTP APIs they call, LLM providers first.
//
//	OPENAI_API_KEY=sk-... edge                  serve OpenAI on :8080
//	edge run -demo                              serve a built-in provider, to try things
//	edge validate -config edge.json             say all that is wrong with a configuration
//	edge config                                 show the effective configuration, each value with its source
//
// The configuration is docs/config.md. This package reads the environment, files, flags and signals, and joins the
// others; what a request meets is package proxy.
package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
)

// invocation is one call of a command.
type invocation struct {
	args           []string // behind the command's name
	environ        []string // as os.Environ
	stdout, stderr io.Writer
}

// Exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// command is one of edge's commands; it returns the exit code.
type command struct {
	name, does string
	do         func(inv invocation) int
}

func commands() []command {
	return []command{
		{"run", "serve (also without a command)", run},
		{"demo", "serve only the built-in demo provider", runDemo},
		{"validate", "say all that is wrong with the configuration", validate},
		{"config", "show the effective configuration as JSON, each value with its source", showConfig},
		{"healthcheck", "ask the admin listener whether edge is ready", healthcheck},
		{"version", "show the versions of edge and of what it is built from", showVersion},
	}
}

func main() {
	os.Exit(dispatch(invocation{os.Args[1:], os.Environ(), os.Stdout, os.Stderr}))
}

// dispatch does the command that the first argument names.
func dispatch(inv invocation) int {
	name := "run"
	if len(inv.args) > 0 {
		switch first := inv.args[0]; {
		case first == "-h" || first == "-help" || first == "--help" || first == "help":
			usage(inv.stdout)
			return exitOK
		case !strings.HasPrefix(first, "-"):
			name, inv.args = first, inv.args[1:]
		}
	}
	for _, c := range commands() {
		if c.name == name {
			return c.do(inv)
		}
	}
	fmt.Fprintf(inv.stderr, "edge: unknown command %s\n\n", quoted(name))
	usage(inv.stderr)
	return exitUsage
}

func usage(w io.Writer) {
	fmt.Fprint(w, "usage: edge [command] [flags]\n\n")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-12s %s\n", c.name, c.does)
	}
	fmt.Fprint(w, "\nedge <command> -h lists a command's flags.\n")
}

// flags are those of run, validate, config and healthcheck.
type flags struct {
	config string
	listen string
	admin  string
	demo   bool
	given  map[string]bool // by name
}

// parseFlags reads the flags of the command called name. When ok is false, the command ends with code: the arguments
// were wrong, or asked for help.
func parseFlags(inv invocation, name string) (f flags, code int, ok bool) {
	set := flag.NewFlagSet("edge "+name, flag.ContinueOnError)
	set.StringVar(&f.config, "config", "", "read the JSON `file`; before EDGE_CONFIG")
	set.StringVar(&f.listen, "listen", "", "serve callers on `address`, as :8080; before EDGE_LISTEN")
	set.StringVar(&f.admin, "admin", "", "serve operators on `address`, as 127.0.0.1:9090; before EDGE_ADMIN_LISTEN")
	set.BoolVar(&f.demo, "demo", false, "add a built-in provider called demo, which needs no key")
	if code, ok := parseArgs(inv, set); !ok {
		return f, code, false
	}
	f.given = map[string]bool{}
	set.Visit(func(given *flag.Flag) { f.given[given.Name] = true })
	return f, exitOK, true
}

// parseArgs parses the arguments of a command that takes flags only.
func parseArgs(inv invocation, set *flag.FlagSet) (code int, ok bool) {
	help := func(w io.Writer) {
		fmt.Fprintf(w, "usage: %s [flags]\n", set.Name())
		set.SetOutput(w)
		set.PrintDefaults()
	}
	set.SetOutput(io.Discard)
	set.Usage = func() {}
	err := set.Parse(inv.args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		help(inv.stdout)
		return exitOK, false
	case err == nil && set.NArg() > 0:
		err = fmt.Errorf("unexpected argument %s", quoted(set.Arg(0)))
	}
	if err != nil {
		fmt.Fprintf(inv.stderr, "%s: %v\n", set.Name(), err)
		help(inv.stderr)
		return exitUsage, false
	}
	return exitOK, true
}

// settings returns what the flags say of the document.
func (f flags) settings() (all []setting) {
	add := func(flag, value string, path ...string) {
		if f.given[flag] {
			all = append(all, setting{path: path, value: reflect.ValueOf(value), from: origin{rank: fromFlag, name: "-" + flag}})
		}
	}
	add("listen", f.listen, "listen")
	add("admin", f.admin, "admin", "listen")
	return all
}
