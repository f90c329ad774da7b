package proxy

import (
	"sync"

	"golang.org/x/sys/unix"
)

// watchesUnread says that a caller's leaving is noticed while its body is unread.
const watchesUnread = true

// watcher asks the kernel whether the other side of some connections has closed. It reports that (RDHUP) although
// unread content lies before it, which a read cannot. When more content is on its way than the socket's buffers hold,
// the FIN waits behind it and so do we.
//
// Connections of Listener's are entered once, when they are accepted, into an epoll set that reports each of them once:
// a sweep asks for what is new, however many there are. All others are asked for one by one with poll, while there is
// an exchange on them that net/http does not watch.
type watcher struct {
	fds []unix.PollFd // the sweeping goroutine's own
	of  []*exchange   // so too

	epoll int // -1: the kernel has none for us
	mu    sync.Mutex
	conns map[uint64]*callerConn // in the set, by number; a descriptor may be another connection's by now
	last  uint64                 // number
}

func newWatcher() *watcher {
	w := &watcher{conns: map[uint64]*callerConn{}, epoll: -1}
	if epoll, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC); err == nil {
		w.epoll = epoll
	}
	return w
}

// close is called when nobody sweeps any more.
func (w *watcher) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoll >= 0 {
		unix.Close(w.epoll)
	}
	w.epoll = -1
}

// enter puts c into the set, if the kernel has room.
func (w *watcher) enter(c *callerConn) {
	raw, err := c.SyscallConn()
	if err != nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.epoll < 0 {
		return
	}
	w.last++
	number := w.last
	event := unix.EpollEvent{Events: unix.EPOLLRDHUP | unix.EPOLLONESHOT, Fd: int32(number), Pad: int32(number >> 32)}
	var failed error
	err = raw.Control(func(fd uintptr) { failed = unix.EpollCtl(w.epoll, unix.EPOLL_CTL_ADD, int(fd), &event) })
	if err == nil && failed == nil {
		c.number = number
		w.conns[number] = c
	}
}

// forget is called when c was closed, which has taken it out of the set.
func (w *watcher) forget(c *callerConn) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.conns, c.number)
}

// collect notes which connections of the set were left since it was called last.
func (w *watcher) collect() {
	var events [64]unix.EpollEvent
	for {
		n, err := unix.EpollWait(w.epoll, events[:], 0)
		if err != nil || n == 0 {
			return
		}
		w.mu.Lock()
		for _, event := range events[:n] {
			if c := w.conns[uint64(uint32(event.Fd))|uint64(uint32(event.Pad))<<32]; c != nil {
				c.left.Store(true)
			}
		}
		w.mu.Unlock()
		if n < len(events) {
			return
		}
	}
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
