package proxy

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/plugins"
	"github.com/edge-proxy/edge/plugins/httpwasm"
	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// routeInstances is how many instances, for each processor, a plugin of a route may have unless max_instances says so.
// Its guest holds one while it reads a request, not while the request waits or is answered.
const routeInstances = 8

// startTimeout bounds what a guest does once, when its instance is made.
const startTimeout = 5 * time.Second

// loadedPlugin is a plugin that can be called. Several generations may use it, one after the other.
type loadedPlugin struct {
	config Plugin
	guest  *httpwasm.Plugin  // one of these
	filter *proxywasm.Plugin // is there
	wants  proxywasm.Wants   // of filter
	redis  *redis            // of filter; nil without redis_url
	stats  *pluginStats

	requests, answers bool          // its phases
	users             atomic.Int64  // generations
	warned            atomic.Uint64 // when a failure was logged last, as now tells it
}

// release ends a generation's use of the plugin; the last one closes it, which lets the calls under way end.
func (l *loadedPlugin) release() {
	switch {
	case l.users.Add(-1) > 0:
	case l.filter != nil:
		l.filter.Close()
		if l.redis != nil {
			l.redis.close()
		}
	default:
		l.guest.Close()
	}
}

// sameGuest reports whether a plugin that is loaded can go on as c wants it. max_instances of an http-wasm plugin is
// resized in place.
func (l *loadedPlugin) sameGuest(c Plugin) bool {
	a, b := l.config, c
	return bytes.Equal(a.Module, b.Module) && a.Config == b.Config && slices.Equal(a.Phases, b.Phases) && a.ABI == b.ABI &&
		a.MemoryLimit == b.MemoryLimit && a.Timeout == b.Timeout && a.Deadline == b.Deadline && a.OnError == b.OnError &&
		a.MaxBody == b.MaxBody && a.LogLinesPerSecond == b.LogLinesPerSecond && a.SHA256 == b.SHA256 && (l.filter == nil || sameFilter(a, b))
}

// sameFilter reports whether what only Proxy-Wasm has is the same.
func sameFilter(a, b Plugin) bool {
	return a.MaxInstances == b.MaxInstances && a.PauseTimeout == b.PauseTimeout && a.MaxCallouts == b.MaxCallouts &&
		a.RootID == b.RootID && a.VMID == b.VMID && a.VMConfig == b.VMConfig && a.RedisURL == b.RedisURL
}

// loadPlugins makes every plugin of c callable, all at the same time: those of before that can go on, the others anew.
// Each that is returned has one user more. On an error nothing is kept, and the faults name every plugin that failed.
func (p *Proxy) loadPlugins(ctx context.Context, c Config, before map[string]*loadedPlugin) (map[string]*loadedPlugin, error) {
	if len(c.Plugins) == 0 {
		return nil, nil
	}
	if p.host == nil {
		host, err := plugins.NewHost(plugins.HostConfig{CacheDir: c.CacheDir, Logger: p.log})
		if err != nil {
			return nil, err
		}
		p.host, p.store = host, proxywasm.NewStore(0)
	}
	loaded := make([]*loadedPlugin, len(c.Plugins))
	failures := make([]error, len(c.Plugins))
	var done atomic.Int32
	var all sync.WaitGroup
	for i := range c.Plugins {
		config := c.Plugins[i]
		if old := before[config.Name]; old != nil && old.sameGuest(config) {
			loaded[i] = old
			continue
		}
		all.Go(func() {
			loaded[i], failures[i] = p.loadPlugin(ctx, c, config)
			if c.PluginLoaded != nil {
				c.PluginLoaded(config.Name, int(done.Add(1)), len(c.Plugins))
			}
		})
	}
	all.Wait()
	byName := make(map[string]*loadedPlugin, len(loaded))
	var faults []Fault
	for i, l := range loaded {
		if failures[i] != nil {
			faults = append(faults, Fault{Path: fmt.Sprintf("plugins[%d].path", i), Want: failures[i].Error()})
			continue
		}
		l.users.Add(1)
		byName[l.config.Name] = l
	}
	if len(faults) > 0 {
		for _, l := range byName {
			l.release()
		}
		return nil, &ConfigError{faults}
	}
	for name, l := range byName {
		if l.guest != nil {
			l.guest.Resize(instancesOf(c, name))
		}
	}
	return byName, nil
}

func (p *Proxy) loadPlugin(ctx context.Context, all Config, c Plugin) (*loadedPlugin, error) {
	l := &loadedPlugin{
		config: c, stats: p.statsOf(c.Name),
		requests: slices.Contains(c.Phases, phaseRequest), answers: slices.Contains(c.Phases, phaseResponse),
	}
	config := plugins.Config{
		Name: c.Name, Module: c.Module, SHA256: c.SHA256, Settings: []byte(c.Config.Reveal()),
		MemoryLimit: int64(c.MemoryLimit), Timeout: c.Timeout, StartTimeout: max(c.Timeout, startTimeout),
		Deadline: plugins.Deadline(c.Deadline), LogLinesPerSecond: c.LogLinesPerSecond, Logger: p.log,
	}
	abi, err := abiOf(c)
	if err != nil {
		return l, err
	}
	if abi == plugins.HTTPWasm {
		l.guest, err = httpwasm.Load(ctx, p.host, config,
			httpwasm.Options{MaxInstances: instancesOf(all, c.Name), Request: l.requests, Response: l.answers})
		return l, err
	}
	if c.RedisURL != "" {
		if l.redis, err = newRedis(c, p.log); err != nil {
			return l, err
		}
		if p.checking {
			l.redis.close()
		}
	}
	l.filter, err = proxywasm.Load(ctx, p.host, config, proxywasm.Options{
		Instances: c.MaxInstances, RootID: c.RootID, VMID: c.VMID, VMConfig: []byte(c.VMConfig.Reveal()),
		MaxBody: int64(c.MaxBody), MaxCalloutsPerStream: c.MaxCallouts, PauseTimeout: c.PauseTimeout,
		Store: p.store, Services: &services{p, l.redis},
	})
	if err == nil {
		l.wants = l.filter.Wants()
	} else if l.redis != nil {
		l.redis.close()
	}
	return l, err
}

// abiOf is the ABI that a plugin's module is called by.
func abiOf(c Plugin) (plugins.ABI, error) {
	switch c.ABI {
	case "http-wasm":
		return plugins.HTTPWasm, nil
	case "proxy-wasm":
		return plugins.ProxyWasm, nil
	}
	info, err := plugins.Inspect(c.Module)
	if err == nil && info.ABI == plugins.Unknown {
		err = errors.New("the module exports neither http-wasm's handle_request nor Proxy-Wasm's proxy_abi_version")
	}
	return info.ABI, err
}

// instancesOf is how many instances a plugin may have.
func instancesOf(c Config, name string) int {
	for i := range c.Plugins {
		if c.Plugins[i].Name == name && c.Plugins[i].MaxInstances > 0 {
			return c.Plugins[i].MaxInstances
		}
	}
	n := 0
	for _, provider := range c.Providers {
		if slices.Contains(provider.Plugins, name) {
			n += provider.Concurrency
		}
	}
	if slices.ContainsFunc(c.Routes, func(r Route) bool { return slices.Contains(r.Plugins, name) }) {
		n += routeInstances * runtime.GOMAXPROCS(0)
	}
	return min(max(n, 1), maxInstances)
}

const maxInstances = 65536

// CheckPlugins loads every plugin of c and closes it again. The faults say which cannot be loaded, and why; ctx bounds
// the work.
func CheckPlugins(ctx context.Context, c Config) []Fault {
	c, err := complete(c)
	if err == nil {
		p := &Proxy{log: c.Logger, sets: newHistogramSets(), checking: true}
		var loaded map[string]*loadedPlugin
		loaded, err = p.loadPlugins(ctx, c, nil)
		for _, l := range loaded {
			l.release()
		}
		p.closeHost()
	}
	if wrong, ok := errors.AsType[*ConfigError](err); ok {
		return wrong.Faults
	}
	return nil
}

// closeHost ends what plugins share. They are closed before.
func (p *Proxy) closeHost() {
	if p.host == nil {
		return
	}
	if err := p.host.Close(); err != nil {
		p.log.LogAttrs(context.Background(), slog.LevelWarn, "plugins not closed", slog.String(keyError, err.Error()))
	}
}

// chain returns the plugins that a route or a provider names, in order.
func chain(loaded map[string]*loadedPlugin, names []string) []*loadedPlugin {
	var out []*loadedPlugin
	for _, name := range names {
		out = append(out, loaded[name])
	}
	return out
}
