package proxy

import (
	"net"

	"github.com/edge-proxy/edge/proxy/socket"
)

// Listener returns l with connections on which net/http does not read in the background while the Proxy serves a
// request. That read is how net/http notices that a caller has left; it costs a goroutine, two system calls and a timer a
// request. The Proxy notices by itself, within 100 ms, as it does for callers whose content is unread.
//
// An answer's fields then go from the provider to the connection past the ResponseWriter, if that is net/http's own: its
// Header shows none of them. Who wants to see or change them puts a ResponseWriter of its own around it.
//
// It is for plain TCP on Linux, where it changes nothing else: what l accepts beside TCP connections, and l elsewhere, is
// returned as it is. Do not put it under TLS: there net/http's read stays. The server must have ConnContext (Server's
// has). Around the Proxy, the context of a request does not end when its caller leaves; handlers that share the server
// with it keep net/http's behaviour.
func (p *Proxy) Listener(l net.Listener) net.Listener { return callerListener{l, p.sweeper.watch} }

// UnderTLS returns l with connections that cost less to read and write, for a server that speaks TLS on them. On Linux; l
// elsewhere. What l accepts beside TCP connections is returned as it is.
func UnderTLS(l net.Listener) net.Listener { return socketListener{l} }

type socketListener struct{ net.Listener }

// Accept waits for the next connection.
func (l socketListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	return socket.Wrap(conn), err
}

type callerListener struct {
	net.Listener
	watch *watcher
}

// Accept waits for the next connection.
func (l callerListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if tcp, ok := conn.(*net.TCPConn); ok && err == nil {
		c := newCallerConn(tcp, l.watch)
		l.watch.enter(c)
		return c, nil
	}
	return conn, err
}
