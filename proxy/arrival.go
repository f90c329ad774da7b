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
	found := *a
	unmatched := found.match()
	if err := a.authorize(); err != nil && !errors.Is(unmatched, errGreeting) {
		return err // also when nothing matches: who may not come in is not told what there is, nor counted there
	}
	if *a = found; unmatched != nil {
		return unmatched
	}
	// Before anything is read: then 100 Continue has not gone out either.
	if a.r.ContentLength > int64(a.gen.config.MaxRequestBody) {
		return errBodyTooLarge
	}
	return nil
}
