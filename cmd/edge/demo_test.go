package main_test

import (
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

const demoPage = "../../docs/demo.md"

func readDemoPage(t *testing.T) string {
	t.Helper()
	page, err := os.ReadFile(demoPage)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

// listenDemo starts edge demo on any free port and returns it and its address.
func listenDemo(t *testing.T, args ...string) (p *process, address string) {
	t.Helper()
	p = launch(t, nil, append([]string{"demo", "-listen", "127.0.0.1:0"}, args...)...)
	until(t, "the demo provider listens", func() bool {
		_, rest, ok := strings.Cut(p.stderr.String(), "demo provider on http://")
		address = strings.TrimSpace(rest)
		return ok && strings.HasSuffix(rest, "\n")
	})
	return p, address
}

// TestDemoPageCommands runs what docs/demo.md shows. A block begins with its provider; what a command prints follows it.
func TestDemoPageCommands(t *testing.T) {
	t.Parallel()
	shell := require(t, "sh")
	for _, program := range []string{"curl", "grep"} {
		require(t, program)
	}
	blocks := regexp.MustCompile("(?ms)^```console\n(.*?)^```$").FindAllStringSubmatch(readDemoPage(t), -1)
	if len(blocks) != 3 {
		t.Fatalf("%s: got %d blocks, want 3", demoPage, len(blocks))
	}
	for _, block := range blocks {
		parts := strings.Split("\n"+block[1], "\n$ ")[1:]
		flags, ok := strings.CutPrefix(strings.TrimSuffix(parts[0], " &"), "bin/edge demo")
		if !ok {
			t.Fatalf("%s: %q, want a provider first", demoPage, parts[0])
		}
		args := strings.Fields(strings.ReplaceAll(flags, "'", ""))
		p, address := listenDemo(t, args...)
		for _, part := range parts[1:] {
			command, want, _ := strings.Cut(part, "\n")
			cmd := exec.CommandContext(t.Context(), shell, "-c", strings.ReplaceAll(command, "127.0.0.1:9191", address))
			cmd.Env, cmd.Dir = []string{"PATH=" + os.Getenv("PATH")}, t.TempDir()
			out, err := cmd.CombinedOutput()
			got := strings.TrimSuffix(strings.ReplaceAll(string(out), "\r", ""), "\n")
			if want = strings.TrimSuffix(want, "\n"); err != nil || got != want {
				t.Errorf("$ %s\n%v\ngot:\n%s\nwant:\n%s", command, err, got, want)
			}
		}
		p.signal(syscall.SIGTERM)
		if code := p.exit(); code != 0 || !strings.Contains(p.stderr.String(), "refused by limits") {
			t.Errorf("edge demo ended with %d: %s", code, p.stderr.String())
		}
	}
}

// TestDemoPageSettings holds the page's table against the flags that edge demo has and the headers that it refuses.
func TestDemoPageSettings(t *testing.T) {
	t.Parallel()
	var flags, headers []string
	for line := range strings.Lines(readDemoPage(t)) {
		if cells := strings.Split(line, "|"); len(cells) == 5 {
			if name := strings.Trim(cells[1], " `"); strings.HasPrefix(name, "-") && !strings.HasPrefix(name, "--") {
				flags = append(flags, name)
			}
			if name := strings.Trim(cells[2], " `"); strings.HasPrefix(name, "X-Demo-") {
				headers = append(headers, name)
			}
		}
	}
	_, usage, more := whole(t, nil, "demo", "-h")
	var has []string
	for _, match := range regexp.MustCompile(`(?m)^  (-[a-z-]+)\b`).FindAllStringSubmatch(usage+more, -1) {
		has = append(has, match[1])
	}
	slices.Sort(flags)
	slices.Sort(has)
	if !slices.Equal(flags, has) || len(flags) == 0 {
		t.Errorf("%s has the flags %q, edge demo %q", demoPage, flags, has)
	}
	if len(headers) != 13 {
		t.Errorf("%s has the headers %q, want 13", demoPage, headers)
	}
	_, address := listenDemo(t)
	for _, header := range headers {
		bad := strings.Repeat("?", 200)
		if got := ask(t, client(t), http.MethodGet, "http://"+address+"/v1/models", "", header, bad); got.status != http.StatusBadRequest || !strings.Contains(got.body, header) {
			t.Errorf("%s: got %d %s, want 400", header, got.status, got.body)
		}
	}
}

// TestDemoRefusesSettings wants all faults of the flags at once.
func TestDemoRefusesSettings(t *testing.T) {
	t.Parallel()
	code, _, said := whole(t, nil, "demo", "-announce", "nobody", "-script", "503*", "-key", "=ok", "-window", "1ns")
	for _, want := range []string{"Announce", "Script", "Keys[0].Value", "Window"} {
		if code != 1 || !strings.Contains(said, "demo: "+want) {
			t.Errorf("exit code %d, %s; want 1 and a word of %s", code, said, want)
		}
	}
}
