// Package proxy is Edge's data plane: it stands between applications and the HTTP APIs they call, and keeps
// each provider within its limits.
//
//	p, err := proxy.New(proxy.Config{
//		InitialPoolSize:    1000,
//		DropExcessRequests: true,
//		Providers: map[string]proxy.Provider{
//			"openai": {Concurrency: 50, BufferSize: 500, Keys: []proxy.Key{{Value: key}}},
//		},
//	})
//	if err != nil {
//		return err
//	}
//	defer p.Close()
//	listener, err := net.Listen("tcp", "127.0.0.1:8080")
//	if err != nil {
//		return err
//	}
//	return p.Server(false).Serve(p.Listener(listener))
//
// A request for /openai/v1/chat/completions then goes to https://api.openai.com/v1/chat/completions, byte
// for byte, with the key put in. For profiles import net/http/pprof on a listener of your own; WriteMetrics
// gives the metrics.
//
// The package reads neither environment nor files nor flags: cmd/edge does. How many may be in flight is
// decided in package limiter, memory comes from package arena, and package upstream speaks to providers.
package proxy
