package plugins

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// goGuest is a plugin in plain Go, as an author would write it, but for fmt, whose compilation takes its time.
const goGuest = `package main

import (
	"math/rand/v2"
	"os"
	"runtime"
	"strconv"
	"time"
)

var started = time.Now()

func init() { os.Stdout.WriteString("hello from init\n") }

func main() {}

//go:wasmexport work
func work(n int32) int32 {
	sum, done := int32(0), make(chan int32)
	go func() {
		for i := range n {
			sum += i
			runtime.Gosched()
		}
		done <- sum
	}()
	return <-done
}

//go:wasmexport look
func look() int32 {
	os.Stderr.WriteString("args " + strconv.Itoa(len(os.Args)) + " env " + strconv.Itoa(len(os.Environ())) + "\n")
	if _, err := os.ReadFile("/etc/passwd"); err == nil {
		return 1
	}
	if time.Now().Year() < 2026 || time.Since(started) <= 0 {
		return 2
	}
	return 0
}

//go:wasmexport random
func random() int64 { return rand.Int64() }

//go:wasmexport nap
func nap(ms int32) { time.Sleep(time.Duration(ms) * time.Millisecond) }

//go:wasmexport spin
func spin() { for { runtime.Gosched() } }

//go:wasmexport fail
func fail() { panic("on purpose") }

//go:wasmexport exit
func exit() { os.Exit(4) }

//go:wasmexport hoard
func hoard() {
	var all [][]byte
	for { all = append(all, make([]byte, 1<<20)) }
}

//go:wasmexport dive
func dive(n int32) int32 { return n + dive(n+1) }
`

// buildGoGuest compiles it, once for all tests.
var buildGoGuest = sync.OnceValues(func() ([]byte, error) {
	dir, err := os.MkdirTemp("", "edge-guest")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	if err := os.WriteFile(filepath.Join(dir, "main.go"), []byte(goGuest), 0o600); err != nil {
		return nil, err
	}
	cmd := exec.Command("go", "build", "-buildmode=c-shared", "-o", "guest.wasm", "main.go")
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "GOFLAGS=", "GOWORK=off")
	cmd.Stderr = os.Stderr
	if err := cmd.Run(); err != nil {
		return nil, err
	}
	return os.ReadFile(filepath.Join(dir, "guest.wasm"))
})

func TestGoGuest(t *testing.T) {
	wasm, err := buildGoGuest()
	if err != nil {
		t.Fatal(err)
	}
	var rec recorder
	h := newHost(t)
	m := load(t, h, Config{Name: "gopher", Module: wasm, Logger: rec.logger(), MemoryLimit: 32 << 20},
		Binding{Start: []string{"_initialize", "_start"}})
	i := instantiate(t, m, nil)
	if got := mustInvoke(t, i, "work", 100); got != 4950 {
		t.Errorf("work(100) = %d, want 4950", got)
	}
	if got := mustInvoke(t, i, "look"); got != 0 {
		t.Errorf("look() = %d: a file that can be read (1), or a clock that is none (2)", got)
	}
	if other := instantiate(t, m, nil); mustInvoke(t, i, "random") == mustInvoke(t, other, "random") {
		t.Error("two instances have the same random numbers")
	} else {
		other.Close()
	}
	begin := time.Now()
	mustInvoke(t, i, "nap", 20)
	if took := time.Since(begin); took < 20*time.Millisecond {
		t.Errorf("slept %v, want 20 ms", took)
	}
	hello := `level=INFO msg="plugin log" plugin=gopher stream=stdout text="hello from init"`
	want := []string{
		hello,
		`level=ERROR msg="plugin log" plugin=gopher stream=stderr text="args 0 env 0"`,
		hello,
	}
	if got := rec.lines(); !slices.Equal(got, want) {
		t.Errorf("log is\n%s", strings.Join(got, "\n"))
	}
	f := func(reason TrapReason, name string, params ...uint64) {
		t.Helper()
		i, begin := instantiate(t, m, nil), time.Now()
		if reason == ReasonTimeout {
			i.Within(short)
		}
		wantTrap(t, i, reason, name, params...)
		if took := time.Since(begin); took > 30*time.Second {
			t.Errorf("%s took %v", name, took)
		}
	}
	f(ReasonTimeout, "spin")
	f(ReasonTimeout, "nap", 3_600_000)
	f(ReasonExit, "exit")
	f(ReasonTrap, "fail")  // Go prints the panic and traps
	f(ReasonTrap, "hoard") // memory.grow is refused: out of memory
	f(ReasonRecursion, "dive", 0)
	if got := strings.Join(rec.lines(), "\n"); !strings.Contains(got, "panic: on purpose") || !strings.Contains(got, "out of memory") {
		t.Errorf("log is\n%s", got)
	}
}
