package plugins

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"slices"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/experimental"

	"github.com/edge-proxy/edge/plugins/meter"
)

// Binding is what an ABI package brings to Load.
type Binding struct {
	// HostModules instantiates the host modules of the ABI in rt. WASI preview 1 is there already.
	HostModules func(ctx context.Context, rt wazero.Runtime) error
	// Required are the functions that a guest must export. A memory named "memory" is required always.
	Required []Signature
	// Start names functions of no parameters and results; the first that is exported is called once in each instance.
	Start []string
}

// Signature is a function a guest must export.
type Signature struct {
	Name            string
	Params, Results []api.ValueType
}

// Load checks, rewrites and compiles a module. Its errors name the plugin and say what to change; what the module lacks
// is told all together. The caller closes the Module.
//
// Compiling takes seconds for a module of megabytes that is not in the cache. One Load compiles at a time.
func (h *Host) Load(ctx context.Context, c Config, b Binding) (*Module, error) {
	c, err := c.withDefaults()
	if err != nil {
		return nil, err
	}
	if err := c.checkSHA256(); err != nil {
		return nil, err
	}
	info, err := Inspect(c.Module)
	if err != nil {
		return nil, fmt.Errorf("plugins: %s: %w", c.Name, errors.Unwrap(err))
	}
	if err := errors.Join(checkExports(info, b), checkSizes(info, c.MemoryLimit)); err != nil {
		return nil, fmt.Errorf("plugins: %s: %w", c.Name, err)
	}
	m := &Module{host: h, config: c, info: info, instances: map[*Instance]struct{}{}}
	m.lines.init(c)
	code, err := m.prepare(c.Module, b.Start)
	if err != nil {
		return nil, fmt.Errorf("plugins: %s: %w", c.Name, err)
	}
	m.config.Module = nil

	if err := h.add(m); err != nil {
		return nil, err
	}
	if err := h.build(ctx, m, code, b); err != nil {
		h.remove(m)
		return nil, fmt.Errorf("plugins: %s: %w", c.Name, err)
	}
	h.watchdog.hurry(c.Timeout)
	return m, nil
}

// prepare returns the code to compile and sets how it is bounded and started.
func (m *Module) prepare(code []byte, starts []string) ([]byte, error) {
	code = boundTables(code, m.info, uint64(m.config.MemoryLimit)/tableSlot)
	if m.config.Deadline == DeadlineRewrite {
		rewritten, err := meter.Rewrite(code)
		switch {
		case errors.Is(err, meter.ErrMalformed):
			return nil, err
		case err != nil:
			m.config.Deadline = DeadlineContext
			m.host.logger.LogAttrs(context.Background(), slog.LevelWarn, "plugin runs slower, its module cannot be rewritten for deadlines",
				slog.String(keyPlugin, m.config.Name), slog.Any(keyError, err))
		default:
			code = rewritten.Module
		}
		if rewritten.HasStart {
			m.start = append(m.start, meter.StartExport)
		}
	}
	for _, name := range starts {
		if _, ok := m.info.Export(name); ok {
			m.start = append(m.start, name)
			break
		}
	}
	return code, nil
}

// build compiles the module with the cache on disk and, when that fails, without: then it was the cache's fault, or the
// module fails again.
func (h *Host) build(ctx context.Context, m *Module, code []byte, b Binding) error {
	h.loading.Lock()
	defer h.loading.Unlock()
	if h.disk != nil {
		err := h.buildWith(ctx, h.disk, m, code, b)
		if err == nil {
			return nil
		}
		if h.buildWith(ctx, h.memory, m, code, b) != nil {
			return err
		}
		h.noDisk(err)
		return nil
	}
	return h.buildWith(ctx, h.memory, m, code, b)
}

func (h *Host) buildWith(ctx context.Context, cache wazero.CompilationCache, m *Module, code []byte, b Binding) (err error) {
	rt := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().
		WithCompilationCache(cache).
		WithMemoryLimitPages(uint32(m.config.MemoryLimit/pageSize)).
		WithCloseOnContextDone(m.config.Deadline == DeadlineContext).
		WithDebugInfoEnabled(false))
	defer func() {
		if err != nil {
			_ = rt.Close(ctx)
		}
	}()
	if err := instantiateWASI(ctx, rt, m.info); err != nil {
		return err
	}
	if b.HostModules != nil {
		if err := b.HostModules(ctx, rt); err != nil {
			return fmt.Errorf("host modules: %w", err)
		}
	}
	if err := checkImports(m.info, rt); err != nil {
		return err
	}
	compiled, err := tried(func() (wazero.CompiledModule, error) {
		return rt.CompileModule(experimental.WithCompilationWorkers(ctx, runtime.GOMAXPROCS(0)), code)
	})
	if err != nil {
		return fmt.Errorf("compile: %w", err)
	}
	m.runtime, m.compiled = rt, compiled
	return nil
}

// tried is what a call of wazero's returns. Where an int has 32 bits and does not hold what a malformed module says, an index
// in its code or the offset of an element, wazero panics; no module may end the process.
func tried[T any](call func() (T, error)) (_ T, err error) {
	defer func() {
		if v := recover(); v != nil {
			err = fmt.Errorf("wazero panicked: %v", v)
		}
	}()
	return call()
}

// checkExports names all exports that are missing or of the wrong type.
func checkExports(in Info, b Binding) error {
	var wrong []string
	if e, ok := in.Export("memory"); !ok || e.Kind != api.ExternTypeMemory {
		wrong = append(wrong, `memory "memory"`)
	}
	for _, want := range b.Required {
		e, ok := in.Export(want.Name)
		switch {
		case want.Name == "memory":
		case !ok || e.Kind != api.ExternTypeFunc:
			wrong = append(wrong, fmt.Sprintf("function %q %s", want.Name, signatureText(want.Params, want.Results)))
		case !slices.Equal(e.Params, want.Params) || !slices.Equal(e.Results, want.Results):
			wrong = append(wrong, fmt.Sprintf("function %q %s, not %s", want.Name,
				signatureText(want.Params, want.Results), signatureText(e.Params, e.Results)))
		}
	}
	for _, name := range b.Start {
		e, ok := in.Export(name)
		if !ok {
			continue
		}
		if e.Kind != api.ExternTypeFunc || len(e.Params)+len(e.Results) > 0 {
			wrong = append(wrong, fmt.Sprintf("function %q () -> ()", name))
		}
		break
	}
	if wrong == nil {
		return nil
	}
	return fmt.Errorf("the module must export %s", strings.Join(wrong, "; "))
}

// checkSizes refuses a module that cannot have an instance within limit.
func checkSizes(in Info, limit int64) error {
	for _, l := range in.Memories {
		switch {
		case l.Shared:
			return errors.New("the module's memory is shared; build without threads")
		case l.Wide:
			return errors.New("the module's memory is of 64 bits; build for wasm32")
		case l.Min > uint64(limit)/pageSize:
			return fmt.Errorf("the module starts with %d bytes of memory, over the limit of %d; raise memory_limit_mb", l.Min*pageSize, limit)
		}
	}
	for _, l := range in.Tables {
		if l.Min > uint64(limit)/tableSlot {
			return fmt.Errorf("the module starts with a table of %d elements, over the limit of %d bytes; raise memory_limit_mb", l.Min, limit)
		}
	}
	return nil
}

// checkImports names all imports that no host module provides.
func checkImports(in Info, rt wazero.Runtime) error {
	var missing []string
	provided := map[string]map[string]api.FunctionDefinition{}
	for _, im := range in.Imports {
		if im.Kind != api.ExternTypeFunc {
			missing = append(missing, fmt.Sprintf("%s %s.%s (define it in the module)", api.ExternTypeName(im.Kind), im.Module, im.Name))
			continue
		}
		functions, ok := provided[im.Module]
		if !ok {
			if host := rt.Module(im.Module); host != nil {
				functions = host.ExportedFunctionDefinitions()
			}
			provided[im.Module] = functions
		}
		def, ok := functions[im.Name]
		if !ok {
			missing = append(missing, fmt.Sprintf("function %s.%s %s", im.Module, im.Name, signatureText(im.Params, im.Results)))
		} else if !slices.Equal(def.ParamTypes(), im.Params) || !slices.Equal(def.ResultTypes(), im.Results) {
			missing = append(missing, fmt.Sprintf("function %s.%s %s, which here is %s", im.Module, im.Name,
				signatureText(im.Params, im.Results), signatureText(def.ParamTypes(), def.ResultTypes())))
		}
	}
	if missing == nil {
		return nil
	}
	return fmt.Errorf("the module imports what this host does not provide: %s", strings.Join(missing, "; "))
}

// signatureText writes a signature as in "(i32, i32) -> i64".
func signatureText(params, results []api.ValueType) string {
	list := func(types []api.ValueType) string {
		names := make([]string, len(types))
		for i, t := range types {
			names[i] = api.ValueTypeName(t)
		}
		return strings.Join(names, ", ")
	}
	if len(results) == 1 {
		return "(" + list(params) + ") -> " + list(results)
	}
	return "(" + list(params) + ") -> (" + list(results) + ")"
}
