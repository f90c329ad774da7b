package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/tetratelabs/wazero"
)

// HostConfig is what the plugins of a process share.
type HostConfig struct {
	// CacheDir is a folder for compiled modules, made if it is missing. It holds native code that is run as it is found: it
	// must belong to this process alone. A folder that cannot be used costs a warning. Empty means memory only.
	CacheDir string
	// Logger gets the host's own lines. Default [slog.Default].
	Logger *slog.Logger
}

// Host is what the plugins of one process share: compiled code and the watchdog over guest calls. Safe for concurrent
// use.
type Host struct {
	logger   *slog.Logger
	watchdog *watchdog
	memory   wazero.CompilationCache // compiled code, in memory only

	loading sync.Mutex // one compilation at a time, as wazero asks for; guards disk
	disk    wazero.CompilationCache
	dir     string

	mu      sync.Mutex
	modules []*Module
	closed  bool
}

// NewHost returns a host. Close it when its modules are closed.
func NewHost(c HostConfig) (*Host, error) {
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	h := &Host{logger: c.Logger, memory: wazero.NewCompilationCache(), dir: c.CacheDir}
	if c.CacheDir != "" {
		disk, err := wazero.NewCompilationCacheWithDir(c.CacheDir)
		if err != nil {
			h.noDisk(err)
		} else {
			h.disk = disk
		}
	}
	h.watchdog = newWatchdog()
	return h, nil
}

// noDisk goes on without the cache on disk.
func (h *Host) noDisk(err error) {
	h.disk = nil
	h.logger.LogAttrs(context.Background(), slog.LevelWarn, "cache of compiled plugins not usable, every start compiles anew",
		slog.String(keyDir, h.dir), slog.Any(keyError, err))
}

// Close ends the watchdog and frees what was compiled. While modules are open it does nothing but name them in an error.
func (h *Host) Close() error {
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		return nil
	}
	if len(h.modules) > 0 {
		var names []string
		for _, m := range h.modules {
			names = append(names, m.config.Name)
		}
		h.mu.Unlock()
		return fmt.Errorf("plugins: host closed with modules still open: %s", strings.Join(names, ", "))
	}
	h.closed = true
	h.mu.Unlock()
	h.watchdog.close()
	h.loading.Lock()
	defer h.loading.Unlock()
	err := h.memory.Close(context.Background())
	if h.disk != nil {
		err = errors.Join(err, h.disk.Close(context.Background()))
	}
	return err
}

// add takes a module in; it fails on a closed host.
func (h *Host) add(m *Module) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return fmt.Errorf("plugins: %s: host: %w", m.config.Name, ErrClosed)
	}
	h.modules = append(h.modules, m)
	return nil
}

func (h *Host) remove(m *Module) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.modules, m); i >= 0 {
		h.modules = slices.Delete(h.modules, i, i+1)
	}
}
