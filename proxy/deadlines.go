package proxy

import (
	"errors"
	"os"
	"sync"
	"time"
)

// deadlines puts off setting a connection's read or write deadline. net/http moves the read deadline five times a
// request, and each time the runtime moves a timer; here the connection's own one stays where it is as long as it is not
// later than what is wanted. When it passes too early, whoever meets that sets the wanted one and goes on.
//
// Invariants:
//
//	D1  If a deadline is wanted, one is set that is not later.
//	D2  What was wanted last decides whether an operation has timed out.
//
// Hazard (an interrupt while the other goroutine sets an older one): both are set under mu, in the order in which they
// were wanted.
type deadlines struct {
	mu     sync.Mutex
	wanted time.Time // zero: none
	set    time.Time // on the connection; it may have passed
	exact  int       // operations under way that cannot go on after an early end: then what is wanted is set
	apply  func(time.Time) error
}

// want makes t the deadline.
func (d *deadlines) want(t time.Time) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.wanted = t
	if d.exact == 0 && (t.IsZero() || !d.set.IsZero() && !t.Before(d.set)) {
		return nil
	}
	d.set = t
	return d.apply(t)
}

// early reports whether err comes of a deadline that nobody wants any more, or not yet. Then that was put right, and the
// operation is to go on.
func (d *deadlines) early(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.wanted.IsZero() && !time.Now().Before(d.wanted) {
		return false
	}
	d.set = d.wanted
	return d.apply(d.wanted) == nil
}

// exactly does what cannot go on after an early end.
func (d *deadlines) exactly(do func() (int64, error)) (int64, error) {
	d.mu.Lock()
	d.exact++
	d.set = d.wanted
	err := d.apply(d.wanted)
	d.mu.Unlock()
	defer func() {
		d.mu.Lock()
		d.exact--
		d.mu.Unlock()
	}()
	if err != nil {
		return 0, err
	}
	return do()
}
