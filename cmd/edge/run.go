package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/edge-proxy/edge/proxy"
	"github.com/edge-proxy/edge/proxy/admin"
	"github.com/edge-proxy/edge/proxy/demo"
	"github.com/edge-proxy/edge/proxy/takeover"
)

const (
	adminHeaderTimeout = 10 * time.Second
	adminIdleTimeout   = 2 * time.Minute
	adminMaxHeader     = 64 << 10
	adminCloseTimeout  = time.Second

	drainPoll = 10 * time.Millisecond

	accessOff = "off" // log.access
)

// Keys of log attributes.
const (
	keyNote      = "note"
	keyListen    = "listen"
	keyAdmin     = "admin"
	keyProfile   = "profile"
	keyProviders = "providers"
	keyError     = "error"
	keySignal    = "signal"
	keyEnded     = "requests_ended"
	keyAborted   = "requests_aborted"
	keyUpgraded  = "upgraded_connections"
	keyDuration  = "duration_seconds"
)

// run serves until a signal ends it.
func run(inv invocation) int {
	f, code, ok := parseFlags(inv, "run")
	if !ok {
		return code
	}
	doc, prov, faults := configure(f, inv.environ)
	if len(faults) == 0 && len(doc.Providers) == 0 {
		fmt.Fprint(inv.stderr, "edge: ", waysToBegin())
		return exitFailed
	}
	cert, unusable := certificate(&doc, prov)
	if printFaults(inv.stderr, append(faults, unusable...)) {
		return exitFailed
	}
	log := newLogger(inv.stderr, doc.Log)
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(log) // net/http's client writes to the standard logger, which this catches
	logAll(log, slog.LevelWarn, prov.warnings)
	logAll(log, slog.LevelDebug, prov.notes)
	requireToken(&doc, inv.stderr)
	tuneCollector(inv.environ, proxy.ArenaBytes(doc.InitialPoolSize))
	// Before anything listens: a signal that comes now is not lost.
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	defer signal.Stop(signals)
	compiling := newProgress(inv.stderr, len(doc.Plugins))
	doc.PluginLoaded = compiling.loaded
	if doc.Log.Access != accessOff {
		doc.AccessLog, doc.AccessFormat = inv.stderr, doc.Log.Access
	}
	s, err := open(doc, prov, cert, f.demo, log)
	compiling.end()
	if err != nil {
		if wrong, ok := errors.AsType[*proxy.ConfigError](err); ok { // a plugin that does not compile
			printFaults(inv.stderr, sortFaults(prov.locate(wrong.Faults)))
			return exitFailed
		}
		fmt.Fprintf(inv.stderr, "edge: %v\n", err)
		return exitFailed
	}
	if g := governed(inv.environ, len(doc.Plugins)); g != nil {
		s.data.server.ConnState = g.connState
		go g.govern(!doc.Takeover) // connections that were taken over have no states
		defer g.stop()
	}
	s.serve()
	if f.demo {
		fmt.Fprint(inv.stderr, s.whatToTry())
	}
	return s.wait(signals)
}

func logAll(log *slog.Logger, level slog.Level, lines []string) {
	for _, line := range lines {
		log.Log(context.Background(), level, "configuration", slog.String(keyNote, line))
	}
}

// newLogger writes to stderr as the configuration says.
func newLogger(w io.Writer, s logSettings) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(s.Level)); err != nil {
		panic("bug: log level " + s.Level)
	}
	options := &slog.HandlerOptions{Level: level}
	if s.Format == "text" {
		return slog.New(slog.NewTextHandler(w, options))
	}
	return slog.New(slog.NewJSONHandler(w, options))
}

// requireToken makes a token when provider keys would otherwise be open to the network, and shows it once. It does
// not go through the log, which others may read.
func requireToken(doc *document, stderr io.Writer) {
	keys := false
	for _, p := range doc.Providers {
		keys = keys || len(p.Keys) > 0
	}
	if !keys || doc.Auth.Open || len(doc.Auth.Tokens) > 0 || onLoopback(doc.Listen) {
		return
	}
	token := "edge-" + strings.ToLower(rand.Text())
	doc.Auth.Tokens = []proxy.Token{{Value: proxy.Secret(token)}}
	fmt.Fprintf(stderr, `edge: there are provider keys, %s is beyond loopback and no token is set, so callers must present this one:

    %s

  It is good until edge ends. Set your own with EDGE_AUTH_TOKENS, or serve everybody with EDGE_AUTH_OPEN=true.
`, doc.Listen, token)
}

// service is a running edge.
type service struct {
	doc     document
	log     *slog.Logger
	proxy   *proxy.Proxy
	demo    *demo.Server // nil without -demo
	data    listening
	control listening
	failed  chan error // a listener that ended by itself
	leaving atomic.Bool
	prov    provenance
}

// listening is a server with the listener it serves.
type listening struct {
	server   *http.Server
	listener net.Listener
	tls      bool
	taken    *takeover.Takeover // nil unless client.takeover
}

// takeOver makes the server hand its connections over.
func (l *listening) takeOver() {
	l.taken = takeover.New(takeover.Config{
		Handler: l.server.Handler, MaxHeaderBytes: l.server.MaxHeaderBytes, ReadHeaderTimeout: l.server.ReadHeaderTimeout,
		IdleTimeout: l.server.IdleTimeout, ErrorLog: l.server.ErrorLog,
	})
	l.server.Handler = l.taken
}

// lastAnswers closes idle connections, and the others after their answer, which says Connection: close.
func (l *listening) lastAnswers() {
	l.server.SetKeepAlivesEnabled(false)
	if l.taken != nil {
		l.taken.Drain()
	}
}

// shutdown waits until no connection is left or ctx ends.
func (l *listening) shutdown(ctx context.Context) {
	_ = l.server.Shutdown(ctx) // its error is that ctx ended
	if l.taken != nil {
		_ = l.taken.Shutdown(ctx) // as above
	}
}

// close cuts all connections off.
func (l *listening) close() {
	switch {
	case l.server != nil:
		l.server.Close()
	case l.listener != nil:
		l.listener.Close()
	}
	if l.taken != nil {
		l.taken.Close()
	}
}

// open makes everything that serving needs; on an error nothing is left open.
func open(doc document, prov provenance, cert *tls.Certificate, withDemo bool, log *slog.Logger) (s *service, err error) {
	s = &service{doc: doc, prov: prov, log: log, failed: make(chan error, 2)}
	opened := s
	defer func() {
		if err != nil {
			opened.close() // s is nil by now
		}
	}()
	if p, ok := doc.Providers[demoProvider]; withDemo && ok && p.BaseURL == demoBaseURL {
		if s.demo, err = demo.Start("", demoConfig); err != nil {
			return nil, fmt.Errorf("demo provider: %w", err)
		}
		p.BaseURL = s.demo.URL
		s.doc.Providers = maps.Clone(doc.Providers)
		s.doc.Providers[demoProvider] = p
	}
	config := s.doc.Config
	config.Logger, config.Version, config.ForwardProxy = log, edgeVersion(buildInfo()), http.ProxyFromEnvironment
	if s.proxy, err = proxy.New(config); err != nil {
		return nil, err
	}
	handler, err := admin.New(doc.Admin, s, log)
	if err != nil {
		return nil, err
	}
	if s.control.listener, err = listen(doc.Admin.Listen, "-admin or EDGE_ADMIN_LISTEN"); err != nil {
		return nil, err
	}
	s.control.server = &http.Server{
		Handler: handler, ReadHeaderTimeout: adminHeaderTimeout, IdleTimeout: adminIdleTimeout, MaxHeaderBytes: adminMaxHeader,
		ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	if s.data.listener, err = listen(doc.Listen, "-listen or EDGE_LISTEN"); err != nil {
		return nil, err
	}
	s.data.server = s.proxy.Server(doc.H2C)
	if doc.Takeover {
		s.data.takeOver()
	}
	if cert != nil {
		s.data.tls = true
		s.data.listener = proxy.UnderTLS(s.data.listener)
		s.data.server.TLSConfig = &tls.Config{Certificates: []tls.Certificate{*cert}, MinVersion: tls.VersionTLS12}
	} else {
		s.data.listener = s.proxy.Listener(s.data.listener)
	}
	return s, nil
}

// listen says, when it cannot, how another address is chosen.
func listen(address, how string) (net.Listener, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %s; choose another address with %s", address, cause(err), how)
	}
	return listener, nil
}

// serve starts both servers.
func (s *service) serve() {
	for _, l := range []listening{s.control, s.data} {
		go func() {
			var err error
			if l.tls {
				err = l.server.ServeTLS(l.listener, "", "")
			} else {
				err = l.server.Serve(l.listener)
			}
			if !s.leaving.Load() {
				s.failed <- err
			}
		}()
	}
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "serving",
		slog.String(keyListen, s.data.listener.Addr().String()), slog.String(keyAdmin, s.control.listener.Addr().String()),
		slog.String(keyProfile, s.doc.Profile), slog.String(keyProviders, strings.Join(slices.Sorted(maps.Keys(s.doc.Providers)), ",")))
}

// wait serves until a signal has come and everything has ended, and returns the exit code.
func (s *service) wait(signals <-chan os.Signal) int {
	select {
	case err := <-s.failed:
		s.log.LogAttrs(context.Background(), slog.LevelError, "listener failed", slog.String(keyError, err.Error()))
		s.close()
		return exitFailed
	case got := <-signals:
		s.log.LogAttrs(context.Background(), slog.LevelInfo, "draining", slog.String(keySignal, got.String()))
	}
	s.drain(signals)
	return exitOK
}

// drain ends the service: not ready at once, serving on for drain_delay, then no new requests and up to
// drain_timeout for those inside. A second signal cuts it short.
func (s *service) drain(signals <-chan os.Signal) {
	began := time.Now()
	s.leaving.Store(true)
	now := func(after time.Duration) bool {
		select {
		case <-signals:
			return true
		case <-time.After(after):
			return false
		}
	}
	cut := s.doc.DrainDelay > 0 && now(s.doc.DrainDelay)
	before := s.proxy.Status()
	s.proxy.Drain()
	ctx, cancel := context.WithTimeout(context.Background(), s.doc.DrainTimeout)
	defer cancel()
	// Not Shutdown yet: it would close a connection whose request has just been read, unanswered, and does not see
	// upgraded connections, which the proxy counts among its requests.
	s.data.listener.Close()
	s.data.lastAnswers()
	for !cut && ctx.Err() == nil && s.proxy.Status().Requests > 0 {
		cut = now(drainPoll)
	}
	left := s.proxy.Status().Requests
	if left > 0 {
		s.proxy.Abort()
	}
	shut := make(chan struct{})
	go func() {
		defer close(shut)
		s.data.shutdown(ctx)
	}()
	if left == 0 && !cut {
		select { // net/http sends the end of an answer after its handler has returned
		case <-shut:
		case <-signals:
		}
	}
	cancel()
	<-shut
	s.close()
	s.log.LogAttrs(context.Background(), slog.LevelInfo, "stopped",
		slog.Int64(keyEnded, max(0, before.Requests-left)), slog.Int64(keyAborted, left),
		slog.Int64(keyUpgraded, before.Upgraded), slog.Float64(keyDuration, time.Since(began).Seconds()))
}

// close ends what is still there, the admin listener last.
func (s *service) close() {
	s.data.close()
	if s.proxy != nil {
		s.proxy.Abort()
		if err := s.proxy.Close(); err != nil {
			s.log.LogAttrs(context.Background(), slog.LevelWarn, "close", slog.String(keyError, err.Error()))
		}
	}
	if s.demo != nil {
		s.demo.Close()
	}
	if s.control.server != nil {
		ctx, cancel := context.WithTimeout(context.Background(), adminCloseTimeout)
		defer cancel()
		_ = s.control.server.Shutdown(ctx) // whoever still reads from it is cut off below
		s.control.server.Close()
	}
	if s.control.listener != nil {
		s.control.listener.Close()
	}
}

// Ready, WriteMetrics, Status and EffectiveConfig are what the admin plane shows.
func (s *service) Ready() error {
	if s.leaving.Load() {
		return errors.New("draining")
	}
	return s.proxy.Ready()
}

func (s *service) WriteMetrics(w io.Writer) { s.proxy.WriteMetrics(w) }
func (s *service) Status() any              { return s.proxy.Status() }
func (s *service) EffectiveConfig() []byte  { return effectiveJSON(s.doc, s.prov) }
