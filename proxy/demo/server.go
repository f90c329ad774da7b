package demo

import (
	"context"
	"net"
	"net/http"
	"sync"
	"time"
)

// Server is a Provider that listens.
type Server struct {
	// URL is where it is reached, such as http://127.0.0.1:41567, without a path.
	URL string

	// Provider is what answers.
	Provider *Provider

	http  *http.Server
	cut   context.CancelFunc // ends the exchanges that wait
	conns sync.WaitGroup
	done  chan struct{} // closed when the listener's goroutine has ended
	once  sync.Once
}

// Start listens on addr, "127.0.0.1:0" if it is empty, and serves a provider that behaves as c says until
// Close. It returns c.Validate's error, or that of listening. Beyond loopback, whoever reaches addr is served.
func Start(addr string, c Config) (*Server, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if addr == "" {
		addr = "127.0.0.1:0"
	}
	ctx, cut := context.WithCancel(context.Background())
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", addr)
	if err != nil {
		cut()
		return nil, err
	}
	s := &Server{URL: "http://" + reachable(ln.Addr()), Provider: New(c), cut: cut, done: make(chan struct{})}
	s.http = &http.Server{
		Handler:           s.Provider,
		ReadHeaderTimeout: 10 * time.Second,
		IdleTimeout:       5 * time.Minute,
		BaseContext:       func(net.Listener) context.Context { return ctx },
		ConnContext: func(ctx context.Context, _ net.Conn) context.Context {
			return context.WithValue(ctx, closedKey{}, s.conns.Done)
		},
		ConnState: s.count,
	}
	go func() {
		defer close(s.done)
		_ = s.http.Serve(ln) // ends by Close
	}()
	return s, nil
}

// Close stops at once: it closes the listener and every connection, and waits for what they were doing to end.
// Requests in flight count as cancelled. It is safe for concurrent use and may be repeated.
func (s *Server) Close() {
	s.once.Do(func() {
		s.cut()
		_ = s.http.Close()
		<-s.done
		_ = s.http.Close() // a connection that was being accepted the first time
		s.conns.Wait()
	})
}

// closedKey names the function, in a request's context, that is called once its hijacked connection is closed.
type closedKey struct{}

// count follows the connections. StateNew comes from the goroutine that accepts, so that none is added once
// that has ended; the closing state is the last thing a connection's goroutine does.
func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.conns.Add(1)
	case http.StateClosed: // or closedKey's function, for a connection that a fault has taken over
		s.conns.Done()
	}
}

// reachable returns the address to call for a listener on addr.
func reachable(addr net.Addr) string {
	host, port, err := net.SplitHostPort(addr.String())
	if err != nil {
		return addr.String()
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return net.JoinHostPort(host, port)
}
