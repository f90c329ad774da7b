//go:build mutants

package e2e

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// A mutant is a package with one fault, and the test that must see it.
type mutant struct {
	name     string
	file     string
	from, to string // from is in file exactly once
	test     string
	tags     string // build tags
	times    int    // how often the test is tried at most; 0: once
}

// Each has this long, all its tries together. A hammer ends by its watchdog if somebody sleeps for ever.
const mutantTime = time.Minute

// TestMutants demands of each mutant that it compiles and that its test fails, and of the packages as they are that the
// same tests pass.
func TestMutants(t *testing.T) {
	for _, of := range []struct {
		dir     string
		mutants []mutant
	}{{"limiter", limiterMutants}, {"arena", arenaMutants}, {"proxy", proxyMutants}} {
		t.Run(of.dir, func(t *testing.T) {
			dir, err := filepath.Abs("../" + of.dir)
			if err != nil {
				t.Fatal(err)
			}
			sound(t, dir, of.mutants)
			for _, m := range of.mutants {
				t.Run(m.name, func(t *testing.T) { m.mustFail(t, dir) })
			}
		})
	}
}

// sound demands that the package as it is passes the tests that its mutants must fail.
func sound(t *testing.T, dir string, mutants []mutant) {
	t.Helper()
	tests := map[string][]string{}
	for _, m := range mutants {
		tests[m.tags] = append(tests[m.tags], m.test)
	}
	for tags, names := range tests {
		bin := buildTests(t, dir, tags, nil)
		if out, err := runTests(t, dir, bin, strings.Join(names, "|"), 1); err != nil {
			t.Fatalf("without a mutant, tags %q: %v\n%s", tags, err, out)
		}
	}
}

func (m *mutant) mustFail(t *testing.T, dir string) {
	t.Helper()
	path := filepath.Join(dir, m.file)
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), m.from); n != 1 {
		t.Fatalf("%s has %d times\n\t%s\nwant it once", m.file, n, m.from)
	}
	changed := filepath.Join(t.TempDir(), m.file)
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), m.from, m.to, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	out, err := runTests(t, dir, buildTests(t, dir, m.tags, map[string]string{path: changed}), m.test, max(1, m.times))
	switch {
	case err == nil:
		t.Errorf("%s passes", m.test)
	case strings.Contains(out, "panic: test timed out"):
		t.Errorf("%s did not end in %v", m.test, mutantTime)
	case !strings.Contains(out, "--- FAIL: "+m.test) && !strings.Contains(out, "panic: "):
		t.Errorf("%s did not fail: %v\n%s", m.test, err, out)
	}
	t.Logf("%s, %.1f s", m.test, time.Since(began).Seconds())
}

// buildTests compiles a package's tests with some files replaced, and returns the program.
func buildTests(t *testing.T, dir, tags string, replaced map[string]string) string {
	t.Helper()
	data, err := json.Marshal(struct{ Replace map[string]string }{replaced})
	if err != nil {
		t.Fatal(err)
	}
	at := t.TempDir()
	overlay, bin := filepath.Join(at, "overlay.json"), filepath.Join(at, "tests")
	if err := os.WriteFile(overlay, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-tags", tags, "-overlay", overlay, "-o", bin, ".")
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, out)
	}
	return bin
}

func runTests(t *testing.T, dir, bin, test string, times int) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), bin, "-test.run", "^("+test+")$", "-test.failfast", "-test.cpu", "2",
		"-test.count", strconv.Itoa(times), "-test.timeout", mutantTime.String())
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}
