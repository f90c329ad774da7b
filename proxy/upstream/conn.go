package upstream

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/proxy/socket"
)

// conn is one connection to an upstream. At any time one call uses it, or the pool has it.
type conn struct {
	net.Conn             // what is read and written
	raw      net.Conn    // what carries it: itself, or what is under TLS
	records  *records    // what lies between the two; nil without TLS
	broken   atomic.Bool // Break was called; any goroutine

	// The user's.
	reused bool          // it has carried a request before
	since  time.Duration // when it was given to the pool last, as elapsed tells it
	keep   time.Duration // how long it may be idle

	tcp   *socket.Conn // raw, if it is one
	burst *burst       // made when it is wanted
}

var processStart = time.Now()

// elapsed is the time since the process began. It looks at one clock, time.Now at two.
func elapsed() time.Duration { return time.Since(processStart) }

func newConn(raw, c net.Conn, r *records) *conn {
	n := &conn{Conn: c, raw: raw, records: r, keep: idleConnTimeout}
	n.tcp, _ = raw.(*socket.Conn)
	return n
}

// Break closes the connection at once, from any goroutine.
func (c *conn) Break() {
	c.broken.Store(true)
	c.raw.Close()
}

// drained reports whether nothing has been read behind an answer, or can be without the network.
func (c *conn) drained() bool { return c.records == nil || c.records.drained() }

// cut reports whether the connection ended without the word that TLS has for it (RFC 9112, section 9.8).
func (c *conn) cut() bool { return c.records != nil && c.records.ended }

// end closes a connection that carries no request, with a farewell under TLS.
func (c *conn) end() { c.Close() }

// young reports whether the connection was not idle for too long.
func (c *conn) young() bool { return elapsed()-c.since < c.keep }

// quiet reports whether the other side has neither closed the connection nor said anything. Under TLS that may be a session
// ticket; then the connection is given up for nothing, which is rare since servers send it before their first answer.
func (c *conn) quiet() bool { return c.tcp == nil || c.tcp.Quiet() }
