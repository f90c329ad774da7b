package proxy

import (
	"io"
	"net"
	"net/http"
	"testing"
	"time"
)

// A write deadline is put off if the other side has acknowledged something since it was set, and fires if not; the handler's,
// and a comment's. It does not go beyond the total's, and no other deadline is touched.
func TestWriteDeadlineIsPutOffWhileBytesLeave(t *testing.T) {
	const timeout = uint64(time.Second / time.Microsecond)
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	caller, err := net.Dial("tcp", listener.Addr().String()) //nolint:noctx // as above
	if err != nil {
		t.Fatal(err)
	}
	defer caller.Close()
	own, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer own.Close()
	raw, err := own.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	move := func() { // until the kernel of the other side has said so
		before, _ := taken(raw)
		_, _ = own.Write([]byte("x"))
		_, _ = io.ReadFull(caller, make([]byte, 1))
		for until := time.Now().Add(5 * time.Second); ; {
			if now, known := taken(raw); known && now > before {
				return
			}
			if time.Now().After(until) {
				t.Fatal("nothing is acknowledged")
			}
		}
	}
	gen := new(generation)
	gen.config.WriteTimeout = time.Second
	p := &Proxy{sweeper: new(sweeper)}
	f := func(what deadline, major int, moves bool, total time.Time, want deadline) {
		t.Helper()
		for _, comment := range []bool{false, true} {
			x := &exchange{arrival: arrival{p: p, gen: gen, r: &http.Request{ProtoMajor: major}}, conn: &connection{raw: raw}}
			x.course.total = total
			at := uint64(1e9)
			sweep := func(later uint64) {
				at += later
				p.sweeper.at.Store(at)
				x.putOff(at)
			}
			c := &x.clock
			if comment {
				c = &x.comment
			}
			c.set(what, at+timeout)
			sweep(0) // seen
			sweep(1) // asked
			if moves {
				move()
			}
			sweep(2*timeout - 1)
			if got, ok := c.fire(at); want != noDeadline && (got != want || !ok) || want == noDeadline && ok {
				t.Errorf("comment %v: got %d, %v; want %d", comment, got, ok, want)
			}
			sweep(2 * timeout) // no more comes
			if got, ok := c.fire(at); want == noDeadline && (got != deadlineWrite || !ok) {
				t.Errorf("comment %v: got %d, %v at the end; want a write's", comment, got, ok)
			}
		}
	}
	soon := processStart.Add(1002 * time.Second) // within the first time that it is put off
	f(deadlineWrite, 1, true, time.Time{}, noDeadline)
	f(deadlineWrite, 1, false, time.Time{}, deadlineWrite)
	f(deadlineWrite, 1, true, soon, deadlineTotal)
	f(deadlineWrite, 2, true, time.Time{}, deadlineWrite)
	f(deadlineIdle, 1, true, time.Time{}, deadlineIdle)
	f(deadlineTotal, 1, true, time.Time{}, deadlineTotal)
}
