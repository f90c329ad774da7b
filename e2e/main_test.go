// Package e2e holds the end-to-end tests: OpenAI's and Anthropic's own Go SDKs talk through a running edge, a process
// of its own that is configured from outside, to the demo provider in the test's process.
//
//	p := provide(t, demo.Config{APIKey: openaiKey})
//	e := start(t, openaiEnv(p))
//	client := openaiClient(t, e.url+"/openai/v1")
//
// What edge does on the wire, byte for byte and under load, is tested in package proxy; the demo provider in
// proxy/demo.
package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// binary is the edge that the tests start.
var binary string

func TestMain(m *testing.M) { os.Exit(runAll(m)) }

// runAll builds edge and runs the tests.
func runAll(m *testing.M) int {
	// The SDKs would take base URLs, keys and headers from here.
	for _, entry := range os.Environ() {
		name, _, _ := strings.Cut(entry, "=")
		if strings.HasPrefix(name, "OPENAI_") || strings.HasPrefix(name, "ANTHROPIC_") {
			os.Unsetenv(name)
		}
	}
	dir, err := os.MkdirTemp("", "edge-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "edge")
	build := exec.CommandContext(context.Background(), "go", "build", "-buildvcs=false", "-o", binary, "./cmd/edge")
	build.Dir = ".." // with the versions of edge's go.mod, not of this one
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "e2e: %s: %v\n%s", build, err, out)
		return 1
	}
	return m.Run()
}
