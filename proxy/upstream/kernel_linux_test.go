package upstream_test

import (
	"errors"
	"net"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// taken waits until the client has read all that was sent. Both ends are in this process, so its socket can be asked.
func (c *conn) taken() {
	port := c.RemoteAddr().(*net.TCPAddr).Port
	for fd := 3; c.peer == 0 && fd < 1000; fd++ {
		if name, err := syscall.Getsockname(fd); err == nil {
			if a, isIPv4 := name.(*syscall.SockaddrInet4); isIPv4 && a.Port == port {
				c.peer = fd
			}
		}
	}
	settles(time.Second, func() bool {
		_, _, err := syscall.Recvfrom(c.peer, make([]byte, 1), syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return errors.Is(err, syscall.EAGAIN) || c.peer == 0
	})
}

// unreachable returns an address that answers no attempt to connect.
func unreachable(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(name.(*syscall.SockaddrInet4).Port))
	for range 100 { // until its queue is full
		filler, err := net.DialTimeout("tcp", address, 50*time.Millisecond) //nolint:noctx // loopback
		if err != nil {
			return address
		}
		t.Cleanup(func() { filler.Close() })
	}
	t.Fatal("the queue of a listener has no end")
	return ""
}

func TestCancelWhileConnecting(t *testing.T) {
	address := unreachable(t)
	each(t, func(t *testing.T, m maker) {
		for _, ctx := range m.endings(t) {
			client, err := m.make(upstream.Config{BaseURL: "http://" + address})
			if err != nil {
				t.Fatal(err)
			}
			u := uploading(t)
			call := start(ctx.Context, client, post(u, -1))
			if settles(soon/2, func() bool { return u.closed.Load() > 0 }) {
				t.Errorf("is not connecting")
			}
			before := time.Now()
			ctx.end(errGone)
			if r := call.wait(t); !errors.Is(r.err, errGone) || time.Since(before) > soon {
				t.Errorf("%s: got %v after %v, want %v", ctx.name, r, time.Since(before), errGone)
			}
			wantClosed(t, u)
			client.Close()
		}
	})
}
