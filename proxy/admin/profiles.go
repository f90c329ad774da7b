package admin

import (
	"maps"
	"net/http"
	"net/http/pprof"
	runtimepprof "runtime/pprof"
	"slices"
	"strconv"
)

const (
	profilesPath      = "/debug/pprof/"
	maxProfileSeconds = 120
	maxSymbolBytes    = 1 << 20 // of program counters in one request
)

// addProfiles adds everything of net/http/pprof. The named profiles are found below profilesPath, since
// programs may add to them.
func (p *plane) addProfiles(read []string) {
	maps.Copy(p.routes, map[string]route{
		profilesPath:             {byToken, read, p.profile(pprof.Index)},
		profilesPath + "cmdline": {byToken, read, pprof.Cmdline},
		profilesPath + "profile": {byToken, read, p.profile(pprof.Profile)},
		profilesPath + "trace":   {byToken, read, p.profile(pprof.Trace)},
		profilesPath + "symbol":  {byToken, append(slices.Clone(read), http.MethodPost), symbol},
	})
}

// profile bounds how long serve records.
func (p *plane) profile(serve http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		if text := r.FormValue("seconds"); text != "" {
			seconds, err := strconv.ParseFloat(text, 64)
			if inRange := seconds > 0 && seconds <= maxProfileSeconds; err != nil || !inRange { // NaN is not in range
				p.fail(w, r, &apiError{http.StatusBadRequest, "bad_request", "seconds: want more than 0 and at most " + strconv.Itoa(maxProfileSeconds)})
				return
			}
		}
		if r.URL.Path == profilesPath { // its page has a style of its own
			w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
		}
		serve(w, r)
	}
}

func symbol(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxSymbolBytes)
	pprof.Symbol(w, r)
}

// isProfile reports whether the runtime has a profile of that name.
func isProfile(name string) bool { return runtimepprof.Lookup(name) != nil }
