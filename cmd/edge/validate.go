package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"

	"github.com/edge-proxy/edge/proxy"
)

// validate says all that is wrong with the configuration, or in one line what it holds.
func validate(inv invocation) int {
	f, code, ok := parseFlags(inv, "validate")
	if !ok {
		return code
	}
	doc, prov, faults := configure(f, inv.environ)
	printLines(inv.stderr, "warning: ", prov.warnings)
	if len(faults) == 0 {
		_, faults = certificate(&doc, prov)
		compiling := newProgress(inv.stderr, len(doc.Plugins))
		doc.PluginLoaded = compiling.loaded
		faults = append(faults, sortFaults(prov.locate(proxy.CheckPlugins(context.Background(), doc.Config)))...)
		compiling.end()
	}
	if printFaults(inv.stderr, faults) {
		return exitFailed
	}
	if len(doc.Providers) == 0 {
		fmt.Fprint(inv.stderr, waysToBegin())
		return exitFailed
	}
	names := slices.Sorted(maps.Keys(doc.Providers))
	fmt.Fprintf(inv.stdout, "valid: %s (%s), %s, %s, %s\n", count(len(names), "provider"), strings.Join(names, ", "),
		count(len(doc.Routes), "route"), count(len(doc.Plugins), "plugin"), count(len(prov.warnings), "warning"))
	return exitOK
}

// printFaults writes the faults, one a line, and reports whether there are any.
func printFaults(w io.Writer, faults []fault) bool {
	for _, f := range faults {
		fmt.Fprintln(w, f)
	}
	return len(faults) > 0
}

func printLines(w io.Writer, prefix string, lines []string) {
	for _, line := range lines {
		fmt.Fprintln(w, prefix+line)
	}
}

func count(n int, noun string) string {
	if n != 1 {
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// certificate reads the listener's certificate. Without one it returns nil and no fault.
func certificate(doc *document, prov provenance) (*tls.Certificate, []fault) {
	if doc.TLS.CertFile == "" {
		return nil, nil
	}
	pair, err := tls.LoadX509KeyPair(doc.TLS.CertFile, doc.TLS.KeyFile)
	if err != nil {
		where := ""
		if file, ok := errors.AsType[*fs.PathError](err); ok {
			where = shownPath(file.Path)
		}
		return nil, []fault{{from: prov.of("tls.cert_file"), path: "tls", want: "want a certificate and its key: " + where + cause(err)}}
	}
	return &pair, nil
}

// waysToBegin explains what to do when no provider is configured.
func waysToBegin() string {
	openai, _ := proxy.Known("openai")
	var usual []string
	for _, name := range proxy.KnownNames() {
		if known, _ := proxy.Known(name); known.KeyVariable != "" {
			usual = append(usual, known.KeyVariable)
		}
	}
	return `no provider is configured. Four ways to begin:

  1. Set the key of a provider that Edge knows:
         ` + openai.KeyVariable + `=... edge
     It takes ` + wrap(strings.Join(usual, ", "), 100, "     ") + `.
  2. Name a provider in the environment:
         EDGE_PROVIDERS_LOCAL_BASE_URL=http://127.0.0.1:8000 edge
  3. Write a JSON file:
         edge -config edge.json
  4. Try Edge with a provider of its own, which needs no key:
         edge run -demo
`
}

// wrap breaks text at spaces, so that no line but the first is longer than width with its indent.
func wrap(text string, width int, indent string) string {
	var b strings.Builder
	column := len(indent)
	for i, word := range strings.Fields(text) {
		switch {
		case i > 0 && column+1+len(word) > width:
			b.WriteString("\n" + indent)
			column = len(indent)
		case i > 0:
			b.WriteByte(' ')
			column++
		}
		b.WriteString(word)
		column += len(word)
	}
	return b.String()
}
