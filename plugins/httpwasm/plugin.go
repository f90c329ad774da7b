package httpwasm

import (
	"context"
	"errors"
	"fmt"

	"github.com/tetratelabs/wazero/api"

	"github.com/edge-proxy/edge/plugins"
)

// ErrBusy says that no instance became free in time. It wraps the cause of the context that ended.
var ErrBusy = errors.New("no plugin instance free in time")

// Options are what this ABI adds to plugins.Config.
type Options struct {
	// MaxInstances is the most instances at once, at least 1: each serves one exchange at a time.
	MaxInstances int
	// Request and Response are the phases that the guest is called in. At least one is set.
	Request, Response bool
}

// Plugin is a module that speaks http-wasm, with its settings and its instances. Safe for concurrent use.
type Plugin struct {
	module   *plugins.Module
	pool     *plugins.Pool
	settings string // what get_config reads
	options  Options
	features features // that the guest enables while it starts
}

// Load compiles c.Module and makes its first instance. What is wrong with the module, its start included, is the error.
// Nothing is left behind then. A plugin that was loaded is closed by Close.
func Load(ctx context.Context, h *plugins.Host, c plugins.Config, o Options) (*Plugin, error) {
	if o.MaxInstances < 1 {
		return nil, fmt.Errorf("httpwasm: %s: max_instances: got %d, want 1 or more", c.Name, o.MaxInstances)
	}
	if !o.Request && !o.Response {
		return nil, fmt.Errorf("httpwasm: %s: phases: got none, want request, response or both", c.Name)
	}
	m, err := h.Load(ctx, c, plugins.Binding{
		HostModules: instantiateHost,
		Required: []plugins.Signature{
			{Name: "handle_request", Results: []api.ValueType{api.ValueTypeI64}},
			{Name: "handle_response", Params: []api.ValueType{api.ValueTypeI32, api.ValueTypeI32}},
		},
		Start: []string{"_initialize", "_start"},
	})
	if err != nil {
		return nil, err
	}
	p := &Plugin{module: m, settings: string(c.Settings), options: o}
	p.pool, err = plugins.NewPool(m, plugins.PoolConfig{
		Max: o.MaxInstances, Warm: 1, Logger: c.Logger,
		New: func() any { return &guest{plugin: p} },
	})
	if err != nil {
		return nil, errors.Join(err, m.Close(ctx))
	}
	in, err := p.pool.Take(ctx)
	if err != nil {
		p.pool.Close()
		return nil, err
	}
	p.features = in.State().(*guest).features
	p.pool.Give(in)
	return p, nil
}

// Name returns plugins.Config.Name.
func (p *Plugin) Name() string { return p.module.Name() }

// Resize changes the most instances at once, at least 1. Those above it end with their exchange.
func (p *Plugin) Resize(maxInstances int) { p.pool.Resize(maxInstances) }

// Stats is what a plugin's instances use and have done.
type Stats = plugins.PoolStats

// Stats returns the numbers as they are now.
func (p *Plugin) Stats() Stats { return p.pool.Stats() }

// Close lets the exchanges that hold an instance end, and frees the module with the last one. It does not wait for them.
// Calls that come later get plugins.ErrClosed.
func (p *Plugin) Close() { p.pool.Close() }
