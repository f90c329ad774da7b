package plugins

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"log/slog"
	"strings"
	"time"
)

// Deadline is how guest calls are bounded in time.
type Deadline string

const (
	// DeadlineRewrite puts a check into every loop and function of the module when it is loaded. It costs a plugin a few
	// per cent and a runaway guest is stopped within milliseconds. A module that cannot be rewritten gets DeadlineContext
	// and a warning. The default.
	DeadlineRewrite Deadline = "rewrite"
	// DeadlineContext uses the checks of wazero itself. A call costs more than a microsecond and three allocations, and a
	// loop up to eighty times as much.
	DeadlineContext Deadline = "context"
	// DeadlineNone lets guests run for ever. A guest in an endless loop then also stops the garbage collector and with it
	// the whole process: for trusted modules only.
	DeadlineNone Deadline = "none"
)

// Config is a plugin: a module and its limits. Zero values mean the defaults.
type Config struct {
	// Name is the plugin's name in errors and log lines.
	Name string
	// Module is the plugin as a core WebAssembly module. Load keeps no reference.
	Module []byte
	// SHA256 pins the module: the hash of Module in hexadecimal. Empty means any.
	SHA256 string
	// Settings is what the guest reads as its configuration.
	Settings []byte
	// MemoryLimit is the most bytes of linear memory of one instance, rounded down to pages of 64 KiB, up to 4 GiB.
	// memory.grow beyond it answers -1. Tables count apart, with the same limit. Default 64 MiB.
	MemoryLimit int64
	// Timeout bounds one guest call. Default 100 ms.
	Timeout time.Duration
	// StartTimeout bounds the start functions of an instance together. Default 5 s.
	StartTimeout time.Duration
	// Deadline is how the two are enforced. Default DeadlineRewrite.
	Deadline Deadline
	// LogLinesPerSecond bounds the log lines of all instances together, 1 or more. What is over is dropped, counted and
	// told once a second. Default 100.
	LogLinesPerSecond int
	// Logger gets the guests' lines. Default [slog.Default].
	Logger *slog.Logger
}

const (
	pageSize = 1 << 16
	maxPages = 1 << 16
)

// withDefaults returns c with its zero values replaced, or an error for what makes no sense.
func (c Config) withDefaults() (Config, error) {
	if c.Name == "" {
		c.Name = "unnamed"
	}
	if c.MemoryLimit == 0 {
		c.MemoryLimit = 64 << 20
	}
	if c.Timeout == 0 {
		c.Timeout = 100 * time.Millisecond
	}
	if c.StartTimeout == 0 {
		c.StartTimeout = 5 * time.Second
	}
	if c.Deadline == "" {
		c.Deadline = DeadlineRewrite
	}
	if c.LogLinesPerSecond == 0 {
		c.LogLinesPerSecond = 100
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	switch {
	case c.MemoryLimit < pageSize || c.MemoryLimit > maxPages*pageSize:
		return c, c.errorf("memory limit: got %d bytes, want 65536 to 4294967296", c.MemoryLimit)
	case c.Timeout < 0 || c.StartTimeout < 0:
		return c, c.errorf("timeouts: got %v and %v, want more than 0", c.Timeout, c.StartTimeout)
	case c.Deadline != DeadlineRewrite && c.Deadline != DeadlineContext && c.Deadline != DeadlineNone:
		return c, c.errorf("deadline: got %q, want rewrite, context or none", string(c.Deadline))
	case c.LogLinesPerSecond < 0:
		return c, c.errorf("log lines per second: got %d, want 1 or more", c.LogLinesPerSecond)
	}
	return c, nil
}

// checkSHA256 compares the module with its pin.
func (c Config) checkSHA256() error {
	if c.SHA256 == "" {
		return nil
	}
	sum := sha256.Sum256(c.Module)
	if got := hex.EncodeToString(sum[:]); !strings.EqualFold(got, c.SHA256) {
		return c.errorf("sha256 of the module is %s, want %s: not the module that was pinned", got, c.SHA256)
	}
	return nil
}

// errorf makes an error that names the package and the plugin.
func (c Config) errorf(format string, args ...any) error {
	return fmt.Errorf("plugins: %s: %w", c.Name, fmt.Errorf(format, args...))
}
