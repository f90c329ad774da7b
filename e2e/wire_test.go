package e2e

import (
	"net/http"
	"strconv"
	"sync"
	"testing"
	"time"
)

// attempt is one HTTP request of an SDK and the head of its answer, if one came.
type attempt struct {
	sent, answered time.Time
	asked          http.Header
	status         int
	header         http.Header
}

// wire sends an SDK's requests on connections of its own and keeps the attempts.
type wire struct {
	http.Transport
	then   func(attempt) // called for each, before the SDK sees the answer; may be nil
	fields []string      // name and value in turn, added to each

	mu       sync.Mutex
	attempts []attempt
}

// newWire returns a wire that ends with the test.
func newWire(t *testing.T) *wire {
	t.Helper()
	w := new(wire)
	t.Cleanup(w.CloseIdleConnections)
	return w
}

// RoundTrip sends one attempt.
func (w *wire) RoundTrip(request *http.Request) (*http.Response, error) {
	if len(w.fields) > 0 {
		request = request.Clone(request.Context()) // a RoundTripper leaves the request as it is
		for i := 0; i < len(w.fields); i += 2 {
			request.Header.Add(w.fields[i], w.fields[i+1])
		}
	}
	a := attempt{sent: time.Now(), asked: request.Header.Clone()}
	answer, err := w.Transport.RoundTrip(request)
	if a.answered = time.Now(); err == nil {
		a.status, a.header = answer.StatusCode, answer.Header
	}
	w.mu.Lock()
	w.attempts = append(w.attempts, a)
	w.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if w.then != nil {
		w.then(a)
	}
	return answer, nil
}

// forget drops the attempts so far.
func (w *wire) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.attempts = nil
}

// served checks that the SDK was served by its only attempt.
func (w *wire) served(t *testing.T) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.attempts) != 1 || w.attempts[0].status != http.StatusOK {
		t.Fatalf("attempts: got %+v, want one, and 200", w.attempts)
	}
}

// retried checks that the SDK was refused once with this status, waited as long as the named field of that answer says
// in unit, and was served.
func (w *wire) retried(t *testing.T, status int, field string, unit time.Duration) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.attempts) != 2 || w.attempts[0].status != status || w.attempts[1].status != http.StatusOK {
		t.Fatalf("attempts: got %+v, want %d, then 200", w.attempts, status)
	}
	wait := told(t, w.attempts[0].header, field, unit)
	if waited := w.attempts[1].sent.Sub(w.attempts[0].answered); waited < wait {
		t.Errorf("the SDK came back after %v, want at least the %v that it was told", waited, wait)
	}
}

// told is the wait that a field of an answer asks for, a whole number of units.
func told(t *testing.T, h http.Header, field string, unit time.Duration) time.Duration {
	t.Helper()
	n, err := strconv.Atoi(h.Get(field))
	if err != nil || n < 1 {
		t.Fatalf("%s: got %q, want a whole number of at least 1", field, h.Get(field))
	}
	return time.Duration(n) * unit
}

// header checks fields of an answer; an empty want means that the field is absent.
func header(t *testing.T, h http.Header, want map[string]string) {
	t.Helper()
	for name, value := range want {
		if got := h.Get(name); got != value {
			t.Errorf("%s: got %q, want %q", name, got, value)
		}
	}
}
