package upstream_test

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// server is an upstream that a test plays byte by byte.
type server struct {
	t        testing.TB
	url      string
	listener net.Listener
	accepted atomic.Int32
	requests atomic.Int32 // whose head has come
	open     atomic.Int32 // connections that neither side has closed, as far as the server knows
	most     atomic.Int32 // that were open at a time
	scripts  sync.WaitGroup
	lenient  atomic.Bool // requests may be cut off
	mu       sync.Mutex
	conns    []*conn
}

// conn is one of a server's connections.
type conn struct {
	net.Conn
	s      *server
	n      int // from 0
	r      *bufio.Reader
	ended  sync.Once
	peer   int  // the client's end, once taken has found it
	tested bool // the client may do what it likes with this connection
}

// serve plays script on each connection, in a goroutine of its own. When the script returns the connection stays open,
// and the client must close it without sending anything more.
func serve(t testing.TB, script func(c *conn)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	return serveOn(t, listener, "http", script)
}

func serveOn(t testing.TB, listener net.Listener, scheme string, script func(c *conn)) *server {
	s := &server{t: t, url: scheme + "://" + listener.Addr().String(), listener: listener}
	s.scripts.Go(func() { s.accept(script) })
	t.Cleanup(s.end)
	return s
}

func (s *server) accept(script func(c *conn)) {
	for n := 0; ; n++ {
		raw, err := s.listener.Accept()
		if err != nil {
			return
		}
		_ = raw.SetDeadline(time.Now().Add(4 * patience))
		c := &conn{Conn: raw, s: s, n: n, r: bufio.NewReader(raw)}
		s.mu.Lock()
		s.conns = append(s.conns, c)
		s.mu.Unlock()
		s.accepted.Add(1)
		for open := s.open.Add(1); ; {
			most := s.most.Load()
			if most >= open || s.most.CompareAndSwap(most, open) {
				break
			}
		}
		s.scripts.Go(func() {
			script(c)
			if !c.tested {
				if more := c.wait(); more != "" {
					s.t.Errorf("connection %d: got %.200q after the end of the script", c.n, more)
				}
			}
			c.Close()
		})
	}
}

// end is for when all clients are closed: they must have left nothing open.
func (s *server) end() {
	s.listener.Close()
	over := make(chan struct{})
	go func() {
		s.scripts.Wait()
		close(over)
	}()
	select {
	case <-over:
		return
	case <-time.After(patience):
	}
	s.mu.Lock()
	for _, c := range s.conns {
		if c.tell() {
			s.t.Errorf("connection %d: still open after Close", c.n)
			c.Conn.Close()
		}
	}
	s.mu.Unlock()
	select {
	case <-over:
	case <-time.After(patience): // the test has failed, and a script waits for it
	}
}

// tell counts a connection as closed; the first time it returns true.
func (c *conn) tell() (first bool) {
	c.ended.Do(func() {
		c.s.open.Add(-1)
		first = true
	})
	return first
}

// Close sends a FIN, or a RST if there is something unread.
func (c *conn) Close() error {
	c.tell()
	return c.Conn.Close()
}

// reset closes the connection with a RST.
func (c *conn) reset() {
	raw := c.under()
	_ = raw.(*net.TCPConn).SetLinger(0)
	c.tell()
	raw.Close()
}

// cut sends a FIN, with no farewell under TLS.
func (c *conn) cut() {
	c.tell()
	c.under().Close()
}

// under is what carries TLS.
func (c *conn) under() net.Conn {
	if secure, ok := c.Conn.(*tls.Conn); ok {
		return secure.NetConn().(*corked).Conn
	}
	return c.Conn
}

// finish sends a FIN; what the client sends can still be read.
func (c *conn) finish() { _ = c.Conn.(interface{ CloseWrite() error }).CloseWrite() }

// send writes. When that fails the client has closed, and the client's test is what notices.
func (c *conn) send(parts ...string) {
	for _, part := range parts {
		_, _ = io.WriteString(c.Conn, part)
	}
}

// wait returns what comes until the client closes the connection.
func (c *conn) wait() string {
	more, err := io.ReadAll(c.r)
	var late net.Error
	if errors.As(err, &late) && late.Timeout() {
		c.s.t.Errorf("connection %d: the client has not closed it", c.n)
	}
	c.tell()
	return string(more)
}

// silent reports whether nothing comes for a while, and the connection stays open.
func (c *conn) silent(d time.Duration) bool {
	_ = c.SetReadDeadline(time.Now().Add(d))
	_, err := c.r.Peek(1)
	_ = c.SetReadDeadline(time.Now().Add(4 * patience))
	return errors.Is(err, os.ErrDeadlineExceeded)
}

// message is a request as a server got it.
type message struct {
	head    string // to the empty line, with that
	wire    string // what followed
	content string // that without its framing
	trailer string
}

// request reads one request. It is false when the client has closed the connection, or sent nonsense, which is an
// error unless it is nothing.
func (c *conn) request() (m message, ok bool) {
	if m.head, ok = c.head(); !ok {
		return m, false
	}
	return m, c.rest(&m)
}

// head reads the head of a request, up to the empty line, with that.
func (c *conn) head() (head string, ok bool) {
	for !strings.HasSuffix(head, "\r\n\r\n") {
		line, err := c.r.ReadString('\n')
		if head += line; err != nil {
			if head != "" && !c.s.lenient.Load() {
				c.s.t.Errorf("connection %d: the request's head ends after %q: %v", c.n, head, err)
			}
			return head, false
		}
	}
	c.s.requests.Add(1)
	return head, true
}

// rest reads what follows a head.
func (c *conn) rest(m *message) bool {
	from := &tape{r: c.r}
	err := m.read(from)
	m.wire = from.all.String()
	if err != nil && !c.s.lenient.Load() {
		c.s.t.Errorf("connection %d: the request's content ends after %.100q: %v", c.n, m.wire, err)
	}
	return err == nil
}

// tape keeps what is read.
type tape struct {
	r   *bufio.Reader
	all strings.Builder
}

func (f *tape) line() (string, error) {
	line, err := f.r.ReadString('\n')
	f.all.WriteString(line)
	return line, err
}

func (f *tape) take(n int) (string, error) {
	b := make([]byte, n)
	got, err := io.ReadFull(f.r, b)
	f.all.Write(b[:got])
	return string(b[:got]), err
}

func (m *message) read(from *tape) error {
	if m.field("Transfer-Encoding") != "chunked" {
		n, _ := strconv.Atoi(cmp.Or(m.field("Content-Length"), "0"))
		content, err := from.take(n)
		m.content = content
		return err
	}
	var content strings.Builder
	for {
		line, err := from.line()
		if err != nil {
			return err
		}
		size, err := chunkSize(line)
		if err != nil {
			return err
		}
		if size == 0 {
			break
		}
		piece, err := from.take(size + 2)
		if err != nil {
			return err
		}
		if !strings.HasSuffix(piece, "\r\n") {
			return fmt.Errorf("a chunk ends with %q", piece[size:])
		}
		content.WriteString(piece[:size])
	}
	m.content = content.String()
	for {
		line, err := from.line()
		if err != nil || line == "\r\n" {
			return err
		}
		m.trailer += line
	}
}

func chunkSize(line string) (int, error) {
	size, err := strconv.ParseUint(strings.TrimSuffix(line, "\r\n"), 16, 31)
	return int(size), err
}

// field returns the values of a field, with ", " between them.
func (m *message) field(name string) string {
	var values []string
	for line := range strings.SplitSeq(m.head, "\r\n") {
		if before, after, ok := strings.Cut(line, ":"); ok && strings.EqualFold(before, name) {
			values = append(values, strings.TrimSpace(after))
		}
	}
	return strings.Join(values, ", ")
}

// target is what the request line says.
func (m *message) target() string {
	_, target, _ := strings.Cut(m.head, " ")
	target, _, _ = strings.Cut(target, " ")
	return target
}

// answering returns a server that gives the answer to every request.
func answering(t testing.TB, answer string) *server {
	t.Helper()
	return serve(t, func(c *conn) {
		for {
			if _, ok := c.request(); !ok {
				return
			}
			c.send(answer)
		}
	})
}
