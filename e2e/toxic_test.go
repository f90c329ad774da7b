package e2e

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"

	toxiproxy "github.com/Shopify/toxiproxy/v2"
	"github.com/rs/zerolog"
)

// toxic is a fault as toxiproxy has it.
type toxic struct {
	kind, stream string  // of toxiproxy's toxics; downstream is the way of the answer
	share        float64 // of the connections that have it
	attributes   string  // JSON
}

// bad is a toxic of half the connections, on the way of the answer.
func bad(kind, format string, args ...any) toxic {
	return toxic{kind, "downstream", .5, fmt.Sprintf(format, args...)}
}

// requests is the toxic on the way of the request.
func (t toxic) requests() toxic {
	t.stream = "upstream"
	return t
}

// relay is a toxiproxy before a provider, at an address that stays the same.
type relay struct {
	t       *testing.T
	listen  string
	to      string
	current sync.Mutex
	proxy   *toxiproxy.Proxy
}

// newRelay starts one.
func newRelay(t *testing.T, to string, toxics ...toxic) *relay {
	t.Helper()
	r := &relay{t: t, listen: "127.0.0.1:0", to: to}
	r.start(toxics...)
	t.Cleanup(r.stop)
	return r
}

// start makes the relay work, with these toxics. An address that is taken at the moment is tried again.
func (r *relay) start(toxics ...toxic) {
	r.current.Lock()
	defer r.current.Unlock()
	log := zerolog.Nop()
	var err error
	if !until(patience, func() bool {
		r.proxy = toxiproxy.NewProxy(toxiproxy.NewServer(toxiproxy.NewMetricsContainer(nil), log), "relay", r.listen, r.to)
		for i, x := range toxics {
			text := fmt.Sprintf(`{"name":"%d","type":%q,"stream":%q,"toxicity":%v,"attributes":{%s}}`, i, x.kind, x.stream, x.share, x.attributes)
			if _, wrong := r.proxy.Toxics.AddToxicJson(strings.NewReader(text)); wrong != nil {
				r.t.Errorf("toxic %s: %v", text, wrong)
			}
		}
		err = r.proxy.Start()
		return err == nil
	}) {
		r.t.Errorf("relay: %v", err)
	}
	r.listen = r.proxy.Listen
}

// stop closes the relay's connections and its port.
func (r *relay) stop() {
	r.current.Lock()
	defer r.current.Unlock()
	r.proxy.Stop()
}

// serving is a provider that ends with the test. It returns its address.
func serving(t *testing.T, handler http.Handler) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(func() {
		server.CloseClientConnections()
		server.Close()
	})
	return strings.TrimPrefix(server.URL, "http://")
}

// accepting listens until the test ends and does on each connection what talk does. It returns its address.
func accepting(t *testing.T, talk func(net.Conn)) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	var mu sync.Mutex
	open := map[net.Conn]bool{}
	closed := false
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			open[conn] = true
			if closed {
				conn.Close()
			}
			mu.Unlock()
			all.Go(func() {
				defer func() {
					conn.Close()
					mu.Lock()
					delete(open, conn)
					mu.Unlock()
				}()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		mu.Lock()
		closed = true
		for conn := range open {
			conn.Close()
		}
		mu.Unlock()
		all.Wait()
	})
	return listener.Addr().String()
}

// halfOpen passes each second connection on to an address. The others are accepted, and that is all.
func halfOpen(t *testing.T, to string) string {
	t.Helper()
	var mu sync.Mutex
	n := 0
	ended := make(chan struct{})
	address := accepting(t, func(conn net.Conn) {
		mu.Lock()
		n++
		silent := n%2 == 0
		mu.Unlock()
		if silent {
			<-ended
			return
		}
		on, err := net.Dial("tcp", to) //nolint:noctx // loopback
		if err != nil {
			return
		}
		defer on.Close()
		var back sync.WaitGroup
		back.Go(func() {
			_, _ = io.Copy(conn, on) // ends with either
			conn.Close()
		})
		_, _ = io.Copy(on, conn) // as above
		on.Close()
		back.Wait()
	})
	t.Cleanup(func() { close(ended) }) // before accepting's own, which waits
	return address
}

// goroutines counts those whose stack has this text, and shows them. Some of toxiproxy's stay for ever behind a toxic that
// has closed; they are left out.
func goroutines(having string) (n int, stacks string) {
	text := make([]byte, 16<<20)
	for stack := range strings.SplitSeq(string(text[:runtime.Stack(text, true)]), "\n\n") {
		if strings.Contains(stack, having) && !strings.Contains(stack, "toxiproxy/v2") {
			n++
			stacks += stack + "\n\n"
		}
	}
	return n, stacks
}
