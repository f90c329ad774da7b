package proxy

import (
	"context"
	"net"
	"net/http"
	"sync/atomic"
	"syscall"
)

// connection is what Edge knows of a caller's connection. It is made once, when the connection is accepted.
type connection struct {
	raw  syscall.RawConn // nil when the connection has no descriptor
	tcp  lingering       // nil when it is another
	hint uint32          // differs between connections: which shard of the arena is theirs
	in   inbox           // what the kernel holds of it
	own  *callerConn     // nil when the connection is not one of Listener's, or net/http speaks TLS on it
}

// lingering is a TCP connection.
type lingering interface{ SetLinger(seconds int) error }

type connectionKey struct{}

var connections atomic.Uint32

// ConnContext goes into http.Server.ConnContext. With it Edge notices that a caller has left although its
// request was not read to the end (on Linux); net/http alone does not.
func ConnContext(ctx context.Context, c net.Conn) context.Context {
	conn := &connection{hint: connections.Add(1)}
	conn.own, _ = c.(*callerConn)
	if wrapper, ok := c.(interface{ NetConn() net.Conn }); ok { // *tls.Conn
		c = wrapper.NetConn()
	}
	conn.tcp, _ = c.(lingering)
	switch s := c.(type) {
	case interface{ Raw() syscall.RawConn }: // one of package socket's
		conn.raw = s.Raw()
	case syscall.Conn:
		conn.raw, _ = s.SyscallConn()
	}
	return context.WithValue(ctx, connectionKey{}, conn)
}

// connectionOf returns nil when the server that called us has no ConnContext.
func connectionOf(r *http.Request) *connection {
	conn, _ := r.Context().Value(connectionKey{}).(*connection)
	return conn
}
