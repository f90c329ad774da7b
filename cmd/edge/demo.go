package main

import (
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"reflect"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/demo"
)

// demoConfig is how the provider of run -demo behaves: slow enough to see a queue and a stream.
var demoConfig = demo.Config{Delay: 300 * time.Millisecond, TokensPerSecond: 20}

// demoExamples are the embedded examples that run -demo puts around its provider.
var demoExamples = []proxy.Plugin{
	{Name: "stamp-header", Config: "x-edge-demo: stamped"},
	{Name: "redact-json", Phases: []string{"request"}},
}

// demoPlugins adds the examples to the plugins and returns the names of the demo provider's. It returns none, and adds
// nothing, unless all are embedded and the provider is the built-in one with no plugins of its own. Somebody's own
// plugin of the same name stays as it is.
func (d *draft) demoPlugins(example func(name string) ([]byte, bool)) (names []string) {
	if example == nil || d.doc.Providers[demoProvider].BaseURL != demoBaseURL || d.origins[demoPluginsPath].rank > fromProfile {
		return nil
	}
	var added []proxy.Plugin
	for _, p := range demoExamples {
		names = append(names, p.Name)
		if slices.ContainsFunc(d.doc.Plugins, func(other proxy.Plugin) bool { return other.Name == p.Name }) {
			continue
		}
		var ok bool
		if p.Module, ok = example(p.Name); !ok {
			return nil
		}
		added = append(added, p)
	}
	for _, p := range added {
		at := element(len(d.doc.Plugins))
		set := func(key string, value any) {
			d.put(reflect.ValueOf(&d.doc).Elem(), rootShape, setting{path: []string{"plugins", at, key}, value: reflect.ValueOf(value), from: origin{rank: fromFlag, name: "-demo"}}, 0)
		}
		set("name", p.Name)
		set("config", p.Config)
		if p.Phases != nil {
			set("phases", p.Phases)
		}
		d.doc.Plugins[len(d.doc.Plugins)-1].Module = p.Module
	}
	return names
}

// demoFlags adds a flag for each setting of the demo provider to set.
func demoFlags(set *flag.FlagSet) *demo.Config {
	c := new(demo.Config)
	set.DurationVar(&c.Delay, "delay", 0, "time before the first byte of an answer")
	set.Float64Var(&c.TokensPerSecond, "tokens-per-second", 0, "pace of a stream; 0 means at once")
	set.IntVar(&c.Tokens, "tokens", 0, "length of an answer, unless the request's max_tokens is less; 0 means 32")
	set.Float64Var(&c.ErrorRate, "error-rate", 0, "share of requests that fail, 0 to 1")
	set.IntVar(&c.ErrorStatus, "error-status", 0, "what failures answer; 0 means 500")
	set.StringVar(&c.Fault, "fault", "", "what failures do in place of an answer: a `name` such as reset or stall")
	set.IntVar(&c.FaultAfter, "fault-after", 0, "body `bytes` before a fault in mid-body; 0 means 1000")
	set.DurationVar(&c.Trickle, "trickle", 0, "time between the bytes of what trickles; 0 means 10ms")
	set.StringVar(&c.RetryAfter, "retry-after", "", "retry-after of failures, or date:2s, ms:1500, x-ms:1500")
	set.StringVar(&c.Script, "script", "", "what becomes of each caller's first requests: `steps` such as 503*2,reset,ok")
	set.IntVar(&c.RequestsPerMinute, "requests-per-minute", 0, "limit of each key, enforced and announced; 0 means none")
	set.IntVar(&c.TokensPerMinute, "tokens-per-minute", 0, "limit of each key, enforced and announced; 0 means none")
	set.IntVar(&c.InputTokensPerMinute, "input-tokens-per-minute", 0, "limit of each key on prompts; 0 means none")
	set.IntVar(&c.OutputTokensPerMinute, "output-tokens-per-minute", 0, "limit of each key on answers; 0 means none")
	set.IntVar(&c.RequestsPerWindow, "requests-per-window", 0, "limit of each key in -window; 0 means none")
	set.DurationVar(&c.Window, "window", 0, "what -requests-per-window counts in; 0 means 1s")
	set.BoolVar(&c.FixedWindow, "fixed-window", false, "all of a window's requests come back at once")
	set.StringVar(&c.Announce, "announce", "", "announce limits as this `provider` does, such as groq; default as the caller's API")
	set.IntVar(&c.AnnouncedPerMinute, "announced-per-minute", 0, "announce this limit of requests and enforce only the others")
	set.StringVar(&c.APIKey, "api-key", "", "the only `key` that is accepted")
	set.Func("key", "accept this `key=script` too, with a script of its own; may be repeated", func(value string) error {
		key, script, _ := strings.Cut(value, "=")
		c.Keys = append(c.Keys, demo.Key{Value: key, Script: script})
		return nil
	})
	set.Uint64Var(&c.Seed, "seed", 0, "which requests fail")
	return c
}

// runDemo serves the demo provider alone, until a signal ends it.
func runDemo(inv invocation) int {
	set := flag.NewFlagSet("edge demo", flag.ContinueOnError)
	listen := set.String("listen", "127.0.0.1:9191", "serve on `address`")
	c := demoFlags(set)
	if code, ok := parseArgs(inv, set); !ok {
		return code
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	server, err := demo.Start(*listen, *c)
	if err != nil {
		if _, network := errors.AsType[*net.OpError](err); network {
			err = fmt.Errorf("listen on %s: %s; choose another address with -listen", *listen, cause(err))
		}
		fmt.Fprintf(inv.stderr, "edge demo: %v\n", err)
		return exitFailed
	}
	fmt.Fprintf(inv.stderr, "demo provider on %s\n", server.URL)
	<-signals
	server.Close()
	s := server.Provider.Stats()
	fmt.Fprintf(inv.stderr, "stopped after %d requests, at most %d at once; %d refused by limits, %d failed as told, %d left by their callers\n",
		s.Requests, s.MaxInFlight, s.RateLimited, s.Failures, s.Cancelled)
	return exitOK
}

// whatToTry is printed when run -demo serves.
func (s *service) whatToTry() string {
	scheme := "http"
	if s.data.tls {
		scheme = "https"
	}
	at, admin := scheme+"://"+reachable(s.data.listener.Addr()), "http://"+reachable(s.control.listener.Addr())
	header := ""
	if len(s.doc.Auth.Tokens) > 0 {
		header = " -H 'Authorization: Bearer <your token>'"
	}
	plugins := ""
	if s.prov.origins[demoPluginsPath].name == "-demo" {
		plugins = `  two plugins: one adds a header to the answer, one keeps the address from the provider, which repeats what it hears:
    curl -si ` + at + `/demo/v1/chat/completions` + header + ` -d '{"model":"demo-small","messages":[{"role":"user","content":"write to ada@example.com"}]}' | grep -iE '^x-edge-demo|"content"'

`
	}
	lines := []string{
		"", "Edge serves a provider called demo, which lets in " + fmt.Sprint(s.doc.Providers[demoProvider].Concurrency) + " requests at once. Try, in another terminal:", "",
		"  an answer:",
		`    curl -s ` + at + `/demo/v1/chat/completions` + header + ` -d '{"model":"demo-small","messages":[{"role":"user","content":"hello"}]}'`, "",
		"  a stream, by the model's prefix:",
		`    curl -sN ` + at + `/v1/chat/completions` + header + ` -d '{"model":"demo/demo-small","stream":true,"messages":[{"role":"user","content":"hello"}]}'`, "",
		plugins + "  30 at once, and the queue they stand in:",
		`    seq 30 | xargs -P 30 -I{} curl -s -o /dev/null -w '%{http_code} after %{time_total} s\n' ` + at + `/demo/v1/chat/completions` + header + ` -d '{"model":"demo-small","messages":[{"role":"user","content":"hello {}"}]}' &`,
		`    sleep 1; curl -s ` + admin + `/metrics | grep -E '^edge_(in_flight|waiting|concurrency_limit)[{]'; wait`, "",
		"", // a line's end
	}
	return strings.Join(lines, "\n")
}

// reachable is an address that a client on this machine can use.
func reachable(address net.Addr) string {
	tcp, ok := address.(*net.TCPAddr)
	if !ok || !tcp.IP.IsUnspecified() {
		return address.String()
	}
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(tcp.Port))
}
