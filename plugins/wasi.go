package plugins

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"slices"
	"time"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
)

// wasiNames are the names under which modules import WASI preview 1. Modules older than 2019 use the second; the
// functions they share with us have the same form.
var wasiNames = []string{wasi_snapshot_preview1.ModuleName, "wasi_unstable"}

// instantiateWASI provides WASI to a module that imports it.
func instantiateWASI(ctx context.Context, rt wazero.Runtime, in Info) error {
	for _, name := range wasiNames {
		if !slices.ContainsFunc(in.Imports, func(im Import) bool { return im.Module == name }) {
			continue
		}
		b := rt.NewHostModuleBuilder(name)
		wasi_snapshot_preview1.NewFunctionExporter().ExportFunctions(b)
		if _, err := b.Instantiate(ctx); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// wasiConfig is what a guest sees of the machine: clocks, random numbers and two streams into the log.
func (i *Instance) wasiConfig() wazero.ModuleConfig {
	return wazero.NewModuleConfig().
		WithName("").
		WithStartFunctions(). // Instantiate calls them, under a deadline
		WithStdout(&i.stdout).
		WithStderr(&i.stderr).
		WithSysWalltime().
		WithSysNanotime().
		WithRandSource(rand.Reader).
		WithNanosleep(i.sleep).
		WithOsyield(runtime.Gosched)
}

// sleep is the guest's: it counts as its time and ends with it.
func (i *Instance) sleep(nanos int64) {
	if nanos <= 0 || i.watch.over() {
		return
	}
	timer := time.NewTimer(time.Duration(nanos))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-i.watch.alarm:
	}
}

// lineWriter writes a guest's stream to the log, line by line.
type lineWriter struct {
	instance *Instance
	level    slog.Level
	stream   string
	partial  []byte // of a line whose end is still to come, at most lineMax+1
}

// Write drops what is over the limits, and counts it. It fails only to end a call of fd_write that has millions of
// vectors when the guest's time is up.
func (w *lineWriter) Write(p []byte) (int, error) {
	if w.instance.watch.over() {
		return 0, fs.ErrClosed
	}
	n := len(p)
	for {
		if len(w.partial) == 0 {
			p = bytes.TrimLeft(p, "\r\n") // a guest may write megabytes of empty lines
		}
		end := bytes.IndexByte(p, '\n')
		if end < 0 {
			w.hold(p)
			return n, nil
		}
		line := p[:end]
		if len(w.partial) > 0 {
			w.hold(line)
			line = w.partial
		}
		p = p[end+1:]
		ok := w.emit(line)
		w.partial = w.partial[:0]
		if !ok { // the rest would be dropped line by line; a guest may write megabytes of them
			w.instance.module.lines.drop(uint64(bytes.Count(p, []byte{'\n'})))
			p = p[bytes.LastIndexByte(p, '\n')+1:]
		}
	}
}

// hold keeps the beginning of a line.
func (w *lineWriter) hold(p []byte) {
	w.partial = append(w.partial, p[:min(len(p), lineMax+1-len(w.partial))]...)
}

// flush writes a line that has no end.
func (w *lineWriter) flush() {
	if len(w.partial) > 0 {
		w.emit(w.partial)
		w.partial = w.partial[:0]
	}
}

func (w *lineWriter) emit(line []byte) (ok bool) {
	line = bytes.TrimSuffix(line, []byte{'\r'})
	if len(line) == 0 {
		return true
	}
	return w.instance.log(w.level, line, slog.String(keyStream, w.stream))
}
