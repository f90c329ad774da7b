package proxy

import (
	"context"
	"io"
	"net"
	"net/http"
	"strings"
	"time"
)

// upgrade joins the caller's connection and the provider's after a 101 (RFC 9110, section 7.8), until
// either side closes, nothing moves for the stream-idle timeout, the total timeout has passed, or the drain
// ends. The permit is held for all that time.
func (x *exchange) upgrade() error {
	up := x.answer.Upgraded
	defer up.Close()
	if asked := x.query.Fields.Get("Upgrade"); asked == "" || !strings.EqualFold(asked, x.answer.Fields.Get("Upgrade")) {
		return worded(errUpstream, "the provider changed to a protocol that nobody asked for")
	}
	h := x.w.Header()
	x.copyFields(h, x.answer.Fields)
	h["Connection"] = []string{"Upgrade"}
	h["Upgrade"] = []string{x.answer.Fields.Get("Upgrade")}
	delete(h, "Content-Type")
	x.status = http.StatusSwitchingProtocols
	x.committed = true
	x.w.WriteHeader(http.StatusSwitchingProtocols)
	control := http.NewResponseController(x.w)
	if err := control.Flush(); err != nil {
		return errClientGone
	}
	down, buffered, err := control.Hijack()
	if err != nil {
		return worded(errUpstream, "the caller's connection cannot be upgraded: %v", err)
	}
	defer down.Close()
	x.conn.exit()                     // net/http's reads are over, and those to come are ours
	x.tunnel.Store(true)              // half-closed is not gone, here
	_ = down.SetDeadline(time.Time{}) // net/http's own no longer counts; an error shows at the first read
	x.p.upgraded.Add(1)
	defer x.p.upgraded.Add(-1)
	// The server has let go of the connection, so nobody but us ends it when the exchange is cancelled.
	defer context.AfterFunc(x.ctx, func() {
		down.Close()
		up.Close()
	})()
	ended := make(chan struct{})
	go func() { // the one goroutine that an upgraded connection has beside its handler
		defer close(ended)
		x.pump(up, buffered.Reader)
		closeBoth(down, up)
	}()
	x.sent += x.pump(down, up)
	closeBoth(down, up)
	<-ended
	x.clock.stop()
	return nil
}

func closeBoth(down net.Conn, up io.Closer) {
	down.Close()
	up.Close()
}

// pump copies until either side fails. Each piece that moves puts the idle timeout off.
func (x *exchange) pump(to io.Writer, from io.Reader) (moved int64) {
	slot := x.p.bodies.Take(x.hint)
	defer slot.Give()
	for {
		if x.watchAnswer(deadlineIdle, x.end.config.StreamIdleTimeout) != nil {
			return moved
		}
		n, err := from.Read(slot.P()[:])
		if n > 0 {
			written, writeErr := to.Write(slot.P()[:n])
			moved += int64(written)
			if writeErr != nil {
				return moved
			}
		}
		if err != nil {
			return moved
		}
	}
}
