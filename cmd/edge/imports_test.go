package main

import (
	"bytes"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// houseArrows are the packages of this module, by directory, and which of the others each may import.
var houseArrows = map[string][]string{
	"cmd/edge":            {"configs", "proxy", "proxy/admin", "proxy/demo", "proxy/takeover", "wasm-examples"},
	"proxy":               {"arena", "limiter", "plugins", "plugins/httpwasm", "plugins/proxywasm", "proxy/socket", "proxy/upstream"},
	"proxy/admin":         {"proxy"},
	"proxy/upstream":      {"arena", "proxy/socket"},
	"plugins/httpwasm":    {"plugins"},
	"plugins/proxywasm":   {"plugins"},
	"plugins":             {"plugins/meter"},
	"plugins/meter":       nil,
	"proxy/demo":          nil,
	"proxy/socket":        nil,
	"proxy/takeover":      nil,
	"limiter":             nil,
	"arena":               nil,
	"configs":             nil,
	"wasm-examples":       nil,
	"wasm-examples/guest": nil,

	"wasm-examples/proxyguest": nil,
}

// houseHomes are the dependencies, by module path without version, and the packages that may import them.
var houseHomes = map[string][]string{
	"github.com/VictoriaMetrics/metrics": {"proxy"},
	"github.com/caarlos0/env":            {"cmd/edge"},
	"github.com/json-iterator/go":        {"cmd/edge"},
	"github.com/tetratelabs/wazero":      {"plugins", "plugins/httpwasm", "plugins/proxywasm"},
	"golang.org/x/net":                   {"proxy/upstream"},
	"golang.org/x/sys":                   {"proxy"},
}

// houseOuter is how the world outside is reached: packages and functions that only cmd/edge uses.
var houseOuter = []string{
	"flag", "os/signal",
	"os.Args", "os.Environ", "os.ExpandEnv", "os.Getenv", "os.LookupEnv",
	"os.Open", "os.OpenFile", "os.ReadDir", "os.ReadFile", "os.WriteFile",
}

const (
	houseFileLines     = 500 // a file stays under this
	houseFunctionLines = 70  // and a function under this: one screen

	// houseHammerTag begins the files that only the limiter's hammer is built with: test code, which may sleep.
	houseHammerTag = "//go:build gatehammer\n"
)

// house checks the files of one module, one by one, and keeps what is wrong with them.
type house struct {
	module string
	files  int
	faults []string
}

// checkHouse reads every Go file of the module in root that is not a test, whatever it is built for, and returns its
// faults, each with file and line and with what is wanted, and the number of files read. Modules within the module,
// testdata and the sources of the wasm examples are left out; the guest package beside them is not.
func checkHouse(root string) ([]string, int, error) {
	gomod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return nil, 0, err
	}
	first, _, _ := strings.Cut(string(gomod), "\n")
	h := &house{module: strings.TrimPrefix(first, "module ")}
	tree := os.DirFS(root)
	err = fs.WalkDir(tree, ".", func(name string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if name != "." && houseSkips(tree, name) {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		source, err := fs.ReadFile(tree, name)
		if err != nil {
			return err
		}
		return h.check(name, source)
	})
	return h.faults, h.files, err
}

// houseSkips says whether the directory holds no code of this module's house.
func houseSkips(tree fs.FS, dir string) bool {
	base := path.Base(dir)
	if strings.HasPrefix(base, ".") || strings.HasPrefix(base, "_") || base == "testdata" || path.Dir(dir) == "wasm-examples" && base != "guest" && base != "proxyguest" {
		return true
	}
	_, err := fs.Stat(tree, path.Join(dir, "go.mod"))
	return !errors.Is(err, fs.ErrNotExist)
}

// check reads one file.
func (h *house) check(name string, source []byte) error {
	h.files++
	set := token.NewFileSet()
	file, err := parser.ParseFile(set, name, source, parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	dir := path.Dir(name)
	at := func(pos token.Pos, format string, args ...any) {
		h.faults = append(h.faults, set.Position(pos).String()+": "+fmt.Sprintf(format, args...))
	}

	if _, ok := houseArrows[dir]; !ok {
		at(file.Package, "the house has no package %s; give it a row in houseArrows with what it may import", dir)
	}
	for _, vague := range []string{"util", "utils", "common", "helper", "helpers", "types", "misc"} {
		if file.Name.Name == vague || path.Base(dir) == vague {
			at(file.Package, "package %s says nothing; name it for the noun it holds", vague)
		}
	}
	if lines := bytes.Count(source, []byte("\n")); lines >= houseFileLines {
		at(file.Package, "the file has %d lines, want under %d; split it by noun", lines, houseFileLines)
	}

	hammer := bytes.HasPrefix(source, []byte(houseHammerTag))
	names := map[string]string{} // what the file calls a package -> its import path
	for _, spec := range file.Imports {
		imported, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			return err
		}
		if wrong := h.wrongImport(dir, imported); wrong != "" {
			at(spec.Pos(), "%s", wrong)
		}
		called := path.Base(imported)
		if spec.Name != nil {
			called = spec.Name.Name
		}
		if called == "." {
			at(spec.Pos(), "import %q by its name: a dot hides what the file uses", imported)
		}
		names[called] = imported
	}
	ast.Inspect(file, func(node ast.Node) bool {
		switch node := node.(type) {
		case *ast.FuncDecl:
			if lines := set.Position(node.End()).Line - set.Position(node.Pos()).Line + 1; lines >= houseFunctionLines {
				at(node.Pos(), "%s has %d lines, want under %d; give its steps names", node.Name.Name, lines, houseFunctionLines)
			}
		case *ast.SelectorExpr:
			if left, ok := node.X.(*ast.Ident); ok && names[left.Name] != "" {
				use := names[left.Name] + "." + node.Sel.Name
				if wrong := wrongUse(dir, use); wrong != "" && (!hammer || use != "time.Sleep") {
					at(node.Pos(), "%s", wrong)
				}
			}
		}
		return true
	})
	return nil
}

// wrongImport says what is wrong with a package of dir importing another, or nothing.
func (h *house) wrongImport(dir, imported string) string {
	if imported == "C" {
		return "no cgo: edge is one static binary"
	}
	if target, ours := strings.CutPrefix(imported, h.module+"/"); ours {
		if slices.Contains(houseArrows[dir], target) {
			return ""
		}
		return fmt.Sprintf("%s must not import %s; of this module it may import %s", dir, target, houseList(houseArrows[dir]))
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") { // the standard library
		return wrongUse(dir, imported)
	}
	for dependency, homes := range houseHomes {
		if imported != dependency && !strings.HasPrefix(imported, dependency+"/") {
			continue
		}
		if slices.Contains(homes, dir) {
			return ""
		}
		return fmt.Sprintf("%s must not import %s; its home is %s", dir, imported, houseList(homes))
	}
	return fmt.Sprintf("%s has no home; write the reason for it into RATIONALE.md and its home into houseHomes", imported)
}

// wrongUse says what is wrong with a package of dir using a name of the standard library, or nothing.
func wrongUse(dir, name string) string {
	if slices.Contains(houseOuter, name) && dir != "cmd/edge" {
		return fmt.Sprintf("%s must not use %s; only cmd/edge reads the environment, files, flags and signals: take the value in a Config", dir, name)
	}
	if name == "time.Sleep" && (dir == "limiter" || dir == "arena") {
		return dir + " must not sleep; wait for the event"
	}
	return ""
}

func houseList(dirs []string) string {
	if len(dirs) == 0 {
		return "nothing"
	}
	return strings.Join(dirs, ", ")
}

func TestHouse(t *testing.T) {
	faults, files, err := checkHouse(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	if files == 0 {
		t.Fatal("found no Go file")
	}
	for _, fault := range faults {
		t.Error(fault)
	}
}

// TestHouseFindsFaults proves that the check can fail: one file at a time is added to a tree without fault.
func TestHouseFindsFaults(t *testing.T) {
	sound := map[string]string{
		"go.mod":                   "module example.org/edge\n\ngo 1.26\n",
		"cmd/edge/main.go":         "package main\nimport (\n\"flag\"\n\"os\"\n\"example.org/edge/proxy\"\n\"github.com/caarlos0/env/v11\"\n)\nvar _, _, _, _ = os.Args, flag.Parse, proxy.X, env.Parse\n",
		"proxy/proxy.go":           "package proxy\nimport (\n\"time\"\n\"example.org/edge/limiter\"\n\"github.com/VictoriaMetrics/metrics\"\n)\nvar X, _, _ = time.Sleep, limiter.X, metrics.NewSet\n",
		"limiter/limiter.go":       "package limiter\nimport \"time\"\nvar X time.Duration\n",
		"limiter/limiter_test.go":  "package limiter\nimport \"example.org/edge/proxy\"\n",
		"limiter/testdata/bad.go":  "not Go",
		"e2e/go.mod":               "module example.org/edge/e2e\n",
		"e2e/util/util.go":         "package util\nimport \"example.org/edge/arena\"\n",
		"wasm-examples/auth/go.go": "package main\nimport \"example.org/guest\"\n",
	}
	run := func(extra map[string]string) []string {
		t.Helper()
		root := t.TempDir()
		tree := maps.Clone(sound)
		maps.Copy(tree, extra)
		for name, source := range tree {
			file := filepath.Join(root, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(source), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		faults, files, err := checkHouse(root)
		if err != nil {
			t.Fatal(err)
		}
		if want := 3 + len(extra); files != want {
			t.Errorf("read %d files, want %d", files, want)
		}
		return faults
	}
	if faults := run(nil); len(faults) > 0 {
		t.Errorf("in a sound tree: got %q, want no fault", faults)
	}

	f := func(name, source, want string) {
		t.Helper()
		faults := run(map[string]string{name: source})
		if len(faults) != 1 || !strings.HasPrefix(faults[0], name+":") || !strings.Contains(faults[0], want) {
			t.Errorf("%s: got %q, want one fault with %q", name, faults, want)
		}
	}
	f("limiter/up.go", "package limiter\nimport _ \"example.org/edge/proxy\"\n", "limiter must not import proxy; of this module it may import nothing")
	f("proxy/demo/side.go", "package demo\nimport _ \"example.org/edge/arena\"\n", "proxy/demo must not import arena")
	f("cmd/edge/far.go", "package main\nimport _ \"example.org/edge/limiter\"\n", "may import configs, proxy, proxy/admin, proxy/demo, proxy/takeover, wasm-examples")
	f("proxy/admin/skip.go", "package admin\nimport _ \"example.org/edge/limiter\"\n", "may import proxy")
	f("proxy/windows.go", "//go:build windows\n\npackage proxy\nimport _ \"example.org/edge/configs\"\n", "proxy must not import configs")
	f("arena/dep.go", "package arena\nimport _ \"golang.org/x/sys/unix\"\n", "its home is proxy")
	f("proxy/dep.go", "package proxy\nimport _ \"github.com/json-iterator/go\"\n", "its home is cmd/edge")
	f("proxy/dep.go", "package proxy\nimport _ \"github.com/VictoriaMetrics/metricsql\"\n", "has no home")
	f("proxy/c.go", "package proxy\nimport \"C\"\n", "no cgo")
	f("proxy/signal.go", "package proxy\nimport _ \"os/signal\"\n", "must not use os/signal")
	f("proxy/admin/flag.go", "package admin\nimport \"flag\"\n", "must not use flag")
	f("proxy/env.go", "package proxy\nimport \"os\"\nvar home = os.Getenv(\"HOME\")\n", "must not use os.Getenv")
	f("arena/env.go", "package arena\nimport system \"os\"\nvar _, _ = system.LookupEnv(\"HOME\")\n", "must not use os.LookupEnv")
	f("limiter/dot.go", "package limiter\nimport . \"time\"\n", "a dot hides")
	f("limiter/sleep.go", "package limiter\nimport \"time\"\nfunc rest() { time.Sleep(1) }\n", "limiter must not sleep")
	f("proxy/long.go", "package proxy\n"+strings.Repeat("// line\n", houseFileLines-1), "the file has 500 lines")
	f("proxy/long.go", "package proxy\nfunc long() {\n"+strings.Repeat("\tprintln()\n", houseFunctionLines-2)+"}\n", "long has 70 lines")
	f("wasm-examples/guest/up.go", "//go:build wasip1\n\npackage guest\nimport _ \"example.org/edge/plugins\"\n", "wasm-examples/guest must not import plugins")
	f("proxy/common.go", "package common\n", "package common says nothing")
	f("tools/tools.go", "package tools\n", "no package tools")

	near := "package proxy\nfunc near() {\n" + strings.Repeat("\tprintln()\n", houseFunctionLines-3) + "}\n"
	if faults := run(map[string]string{
		"proxy/near.go":     near + strings.Repeat("// line\n", houseFileLines-1-strings.Count(near, "\n")),
		"limiter/hammer.go": houseHammerTag + "\npackage limiter\nimport \"time\"\nfunc rest() { time.Sleep(1) }\n",
	}); len(faults) > 0 {
		t.Errorf("499 lines, a function of 69, a hammer that sleeps: got %q, want no fault", faults)
	}
	if _, _, err := checkHouse(t.TempDir()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without go.mod: got %v, want %v", err, fs.ErrNotExist)
	}
}
