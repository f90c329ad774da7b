package plugins

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/tetratelabs/wazero"
)

// Module is a loaded plugin. Safe for concurrent use.
type Module struct {
	host     *Host
	config   Config
	info     Info
	runtime  wazero.Runtime
	compiled wazero.CompiledModule
	start    []string // exports that are called in a new instance
	lines    lines

	traps [len(reasons)]atomic.Uint64

	mu        sync.Mutex
	instances map[*Instance]struct{}
	units     uint64 // of instances that are gone
	closing   bool
	closed    bool
}

// Name returns the plugin's name.
func (m *Module) Name() string { return m.config.Name }

// Settings returns what the guest reads as its configuration. It must not be changed.
func (m *Module) Settings() []byte { return m.config.Settings }

// Info returns what the module says about itself.
func (m *Module) Info() Info { return m.info }

// Deadline returns how its calls are bounded: what was asked for, or DeadlineContext where rewriting failed.
func (m *Module) Deadline() Deadline { return m.config.Deadline }

// Close frees the module's code as soon as its last instance is closed, at once if there is none. Idempotent.
func (m *Module) Close(context.Context) error {
	m.mu.Lock()
	m.closing = true
	m.mu.Unlock()
	m.closeIfUnused()
	return nil
}

func (m *Module) closeIfUnused() {
	m.mu.Lock()
	last := m.closing && !m.closed && len(m.instances) == 0
	m.closed = m.closed || last
	m.mu.Unlock()
	if !last {
		return
	}
	ctx := context.Background()
	// The code belongs to the cache that runtimes share; closing the runtime alone would leave it there.
	_ = m.compiled.Close(ctx)
	if err := m.runtime.Close(ctx); err != nil {
		m.host.logger.LogAttrs(ctx, slog.LevelWarn, "plugin not closed", slog.String(keyPlugin, m.config.Name), slog.Any(keyError, err))
	}
	m.lines.close()
	m.host.remove(m)
}

// add takes in an instance that is about to be made.
func (m *Module) add(i *Instance) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closing {
		return fmt.Errorf("plugins: %s: %w", m.config.Name, ErrClosed)
	}
	m.instances[i] = struct{}{}
	return nil
}

// remove takes out a closed one.
func (m *Module) remove(i *Instance) {
	m.mu.Lock()
	delete(m.instances, i)
	m.mu.Unlock()
	m.closeIfUnused()
}

// Stats is what a module uses and what it has done.
type Stats struct {
	Instances    int
	MemoryBytes  int64  // of all guest memories, as each was after its last call
	CPUUnits     uint64 // checks that guest code has passed: deterministic for an input; 0 unless DeadlineRewrite
	DroppedLines uint64 // of the log
	Traps        map[TrapReason]uint64
}

// Stats returns the numbers as they are now. CPU units of a call under way count up to its last yield.
func (m *Module) Stats() Stats {
	s := Stats{DroppedLines: m.lines.dropped.Load(), Traps: make(map[TrapReason]uint64, len(reasons))}
	for i, reason := range reasons {
		s.Traps[reason] = m.traps[i].Load()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	s.Instances, s.CPUUnits = len(m.instances), m.units
	for i := range m.instances {
		s.MemoryBytes += i.memoryBytes.Load()
		s.CPUUnits += i.meter.read()
	}
	return s
}
