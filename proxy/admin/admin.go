package admin

import (
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"time"
)

// Source is what the admin plane shows. Its methods are called by many goroutines at once.
type Source interface {
	// Ready returns nil while requests are served; otherwise the error's text says why not (starting,
	// draining). Anyone may read it.
	Ready() error

	// WriteMetrics writes all metrics as Prometheus text. It may ignore the errors of w.
	WriteMetrics(w io.Writer)

	// Status returns what runs now, for encoding/json.
	Status() any

	// EffectiveConfig returns the configuration in use as JSON, secrets masked.
	EffectiveConfig() []byte
}

// stallTimeout is how long a client may accept nothing of its answer, and how long its body may take.
const stallTimeout = 30 * time.Second

// Keys of log attributes.
const (
	keyError  = "error"
	keyPath   = "path"
	keyStatus = "status"
)

const index = `Edge, admin plane

/healthz        200 while the process lives
/readyz         200 while it serves, else 503 and why not
/metrics        Prometheus text
/api/status     what runs now
/api/config     the configuration in use, secrets masked
/debug/pprof/   profiles and traces of the process
`

// access is what a request must show before a route serves it.
type access int

const (
	byToken  access = iota // the token, where there is one; and what no web page can send
	byAnyone               // only what no web page can send
	byAll                  // nothing
)

type route struct {
	access  access
	methods []string
	serve   http.HandlerFunc
}

// plane is the handler. Nothing in it changes after New.
type plane struct {
	source Source
	log    *slog.Logger
	guard  guard
	routes map[string]route
}

// New returns the admin plane's handler, or what c.Validate finds. A nil log means slog.Default.
//
// The handler is safe for concurrent use, starts nothing and needs no closing.
func New(c Config, s Source, log *slog.Logger) (http.Handler, error) {
	if err := c.Validate(); err != nil {
		return nil, fmt.Errorf("admin: %w", err)
	}
	if log == nil {
		log = slog.Default()
	}
	p := &plane{source: s, log: log, guard: newGuard(c)}
	read := []string{http.MethodGet, http.MethodHead}
	metrics := byToken
	if c.MetricsPublic {
		metrics = byAnyone
	}
	p.routes = map[string]route{
		"/healthz":    {byAll, read, p.healthz},
		"/readyz":     {byAll, read, p.readyz},
		"/metrics":    {metrics, read, p.metrics},
		"/":           {byToken, read, p.index},
		"/api/status": {byToken, read, p.status},
		"/api/config": {byToken, read, p.config},
	}
	p.addProfiles(read)
	return p, nil
}

// ServeHTTP checks who asks before it says what exists, so that a stranger learns no paths.
func (p *plane) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	w := &stallWriter{ResponseWriter: rw, conn: http.NewResponseController(rw)}
	defer w.renew() // net/http flushes its buffer after this
	if r.ContentLength != 0 {
		_ = w.conn.SetReadDeadline(time.Now().Add(stallTimeout))
	}
	r = r.WithContext(r.Context()) // a copy: the server's own request stays as it is
	if r.Method != http.MethodPost {
		r.Body = http.NoBody // FormValue would parse a GET's multipart body, onto disk when it is large
	}
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Content-Security-Policy", "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")

	rt, found := p.find(r.URL.Path)
	if err := p.guard.check(r, rt.access); err != nil {
		p.fail(w, r, err)
	} else if !found {
		p.fail(w, r, &apiError{http.StatusNotFound, "not_found", "nothing here; / lists what is"})
	} else if !slices.Contains(rt.methods, r.Method) {
		allow := strings.Join(rt.methods, ", ")
		h.Set("Allow", allow)
		p.fail(w, r, &apiError{http.StatusMethodNotAllowed, "method_not_allowed", "want " + allow})
	} else {
		rt.serve(w, r)
	}
}

// find returns the route for path; for no route, one that wants the token.
func (p *plane) find(path string) (route, bool) {
	rt, ok := p.routes[path]
	if name, below := strings.CutPrefix(path, profilesPath); !ok && below && isProfile(name) {
		rt, ok = p.routes[profilesPath], true
	}
	return rt, ok
}

func (p *plane) healthz(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, "ok\n") }

func (p *plane) readyz(w http.ResponseWriter, _ *http.Request) {
	if err := p.source.Ready(); err != nil {
		line := strings.Join(strings.FieldsFunc(err.Error(), func(r rune) bool { return r == '\n' || r == '\r' }), "; ")
		writeText(w, http.StatusServiceUnavailable, line+"\n")
		return
	}
	writeText(w, http.StatusOK, "ok\n")
}

func (p *plane) metrics(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
	p.source.WriteMetrics(w)
}

func (p *plane) index(w http.ResponseWriter, _ *http.Request) { writeText(w, http.StatusOK, index) }

func (p *plane) status(w http.ResponseWriter, r *http.Request) {
	body, err := json.Marshal(p.source.Status())
	if err != nil {
		p.log.LogAttrs(r.Context(), slog.LevelError, "admin status not marshalled", slog.Any(keyError, err))
		p.fail(w, r, &apiError{http.StatusInternalServerError, "internal", "the status cannot be shown; the log says why"})
		return
	}
	writeJSON(w, http.StatusOK, body)
}

func (p *plane) config(w http.ResponseWriter, _ *http.Request) {
	writeJSON(w, http.StatusOK, p.source.EffectiveConfig())
}

// apiError is an answer in place of what was asked for.
type apiError struct {
	status        int
	code, message string
}

func (p *plane) fail(w http.ResponseWriter, r *http.Request, e *apiError) {
	p.log.LogAttrs(r.Context(), slog.LevelDebug, "admin request refused", slog.Int(keyStatus, e.status), slog.String(keyPath, r.URL.Path))
	if e.status == http.StatusUnauthorized {
		w.Header().Set("WWW-Authenticate", "Bearer")
	}
	body, err := json.Marshal(map[string]any{"error": map[string]string{"message": e.message, "code": e.code}})
	if err != nil {
		panic(fmt.Sprintf("bug: strings not marshalled: %v", err))
	}
	writeJSON(w, e.status, body)
}

func writeJSON(w http.ResponseWriter, status int, body []byte) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that left is nobody's concern
}

func writeText(w http.ResponseWriter, status int, text string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, text)
}

// stallWriter gives each write its own stallTimeout, so that a long answer may take its time and a client that
// reads nothing may not.
type stallWriter struct {
	http.ResponseWriter
	conn *http.ResponseController
}

// renew ignores that a writer without deadlines, such as a test's recorder, has none.
func (w *stallWriter) renew() { _ = w.conn.SetWriteDeadline(time.Now().Add(stallTimeout)) }

func (w *stallWriter) Write(b []byte) (int, error) {
	w.renew()
	return w.ResponseWriter.Write(b)
}

// Unwrap lets http.ResponseController through.
func (w *stallWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
