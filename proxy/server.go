package proxy

import (
	"log/slog"
	"net/http"
)

// Server returns a server for p with the configured limits, HTTP/1.1 and, under TLS, HTTP/2. With h2c it
// speaks HTTP/2 without TLS too (prior knowledge, RFC 9113, section 3.3). The caller serves and shuts it
// down.
func (p *Proxy) Server(h2c bool) *http.Server {
	c := p.current.Load().config
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(h2c)
	return &http.Server{
		Handler:           p,
		ConnContext:       ConnContext,
		Protocols:         protocols,
		ReadHeaderTimeout: c.HeaderTimeout,
		IdleTimeout:       c.IdleTimeout,
		MaxHeaderBytes:    int(c.MaxHeader),
		ErrorLog:          slog.NewLogLogger(p.log.Handler(), slog.LevelDebug), // what callers do wrong
	}
}
