// Package plugins runs WebAssembly guests on wazero: it loads modules, keeps their instances and bounds what they
// may use of time, memory and log. What a guest and its host say to each other is the business of an ABI package,
// which brings its host functions in a [Binding]; see plugins/httpwasm.
//
//	host, _ := plugins.NewHost(plugins.HostConfig{CacheDir: "/var/cache/edge"})
//	defer host.Close()
//	module, err := host.Load(ctx, plugins.Config{Name: "redact", Module: wasm, Timeout: 100 * time.Millisecond}, binding)
//	if err != nil {
//		return err // says what the module lacks
//	}
//	pool, err := plugins.NewPool(module, plugins.PoolConfig{Max: 50, New: func() any { return new(state) }})
//	if err != nil {
//		return err
//	}
//	defer pool.Close()
//	instance, err := pool.Take(ctx)
//	if err != nil {
//		return err
//	}
//	defer pool.Give(instance)
//	err = instance.Call(instance.Function("handle_request"), stack)
//
// A guest has no files, sockets, environment or arguments. It has WASI preview 1 with real clocks, real random numbers
// and a stdout and stderr that end in the log.
//
// Not here: ABIs, HTTP, fetching modules.
package plugins
