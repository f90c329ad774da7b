package proxy

import "golang.org/x/sys/unix"

// watchesUnread says that a caller's leaving is noticed while its body is unread.
const watchesUnread = true

// watcher asks the kernel whether the other side of some connections has closed. poll reports that
// (POLLRDHUP) although unread content lies before it, which a read cannot. When more content is on its way
// than the socket's buffers hold, the FIN waits behind it and so do we.
type watcher struct {
	fds []unix.PollFd
	of  []*exchange
}

// add notes x for the next look. Its record must stay alive until then.
func (w *watcher) add(x *exchange) {
	if x.conn.raw == nil {
		return
	}
	err := x.conn.raw.Control(func(fd uintptr) {
		w.fds = append(w.fds, unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP})
	})
	if err != nil { // closed on our side already
		x.cancel(errClientGone)
		return
	}
	w.of = append(w.of, x)
}

// look cancels those whose callers have left, and forgets them all. A descriptor that was closed and given
// to another connection since add is harmless: the next add meets the closed connection.
func (w *watcher) look() {
	if len(w.fds) == 0 {
		return
	}
	if n, err := unix.Poll(w.fds, 0); err == nil && n > 0 {
		for i := range w.fds {
			if w.fds[i].Revents&(unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) != 0 {
				w.of[i].cancel(errClientGone)
			}
		}
	}
	w.fds = w.fds[:0]
	clear(w.of)
	w.of = w.of[:0]
}
