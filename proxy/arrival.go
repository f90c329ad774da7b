package proxy

import (
	"errors"
	"net/http"
)

// arrival is what can be said of a request before anything is taken for it: whether it may come in, and
// where it goes.
type arrival struct {
	p   *Proxy
	gen *generation // pinned for the whole exchange
	r   *http.Request

	caller  *caller // nil: it needs no token
	charged bool    // counts as one of the caller's

	route   *route
	end     *endpoint       // nil until the provider is known
	target  string          // what follows the base URL
	plugins []*loadedPlugin // of the route
}

// look fills in a. An error says why the request goes nowhere.
func (a *arrival) look() error {
	if a.p.draining.Load() {
		return errDraining
	}
	denied := a.authorize() // before match, which tells a caller what it may use
	found := *a
	unmatched := found.match()
	if denied != nil && !errors.Is(unmatched, errGreeting) {
		return denied // also when nothing matches: who may not come in is not told what there is, nor counted there
	}
	if *a = found; errors.Is(unmatched, errGreeting) {
		return unmatched
	}
	if err := a.charge(); err != nil { // whatever becomes of the request
		return err
	}
	if unmatched != nil {
		return unmatched
	}
	if a.end != nil && !a.route.byModel {
		if err := a.caller.mayReach(a.end.name); err != nil {
			return err
		}
	}
	// Before anything is read: then 100 Continue has not gone out either.
	if a.r.ContentLength > int64(a.gen.config.MaxRequestBody) {
		return errBodyTooLarge
	}
	return nil
}
