package e2e

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"time"
)

// order is one request of a fault run, and all that is needed to know its answer.
type order struct {
	id      string
	method  string
	body    string
	lines   int           // of the answer, each of which names the order
	stream  bool          // the lines are events of a stream
	key     bool          // it has an Idempotency-Key
	leaves  bool          // its caller leaves
	leaving time.Duration // after so long
}

// newOrder makes one of the five kinds at random.
func newOrder(id string, random *rand.Rand) *order {
	o := &order{id: id, method: http.MethodPost, body: `{"ask":"` + id + `"}`, lines: 1 + random.IntN(30)}
	switch random.IntN(5) {
	case 0:
		o.method, o.body = http.MethodGet, ""
	case 1, 2:
	case 3:
		o.body, o.lines = strings.Repeat(id+"/", 100<<10/(len(id)+1)), 1+random.IntN(1000)
	case 4:
		o.stream, o.lines = true, 10+random.IntN(50)
	}
	o.key = o.method == http.MethodPost && random.IntN(4) == 0
	if o.leaves = random.IntN(8) == 0; o.leaves {
		o.leaving = time.Duration(random.IntN(150_000)) * time.Microsecond
	}
	return o
}

// answer is what the provider answers to a request with this content.
func answer(id, content string, lines int, stream bool) string {
	sum := sha256.Sum256([]byte(content))
	line := id + " " + hex.EncodeToString(sum[:]) + "\n"
	if !stream {
		return strings.Repeat(line, lines)
	}
	return strings.Repeat("data: "+line+"\n", lines) + "data: [DONE]\n\n"
}

// want is the whole answer to o.
func (o *order) want() string { return answer(o.id, o.body, o.lines, o.stream) }

// asked is what a provider reads from a request: who asks, and for what.
type asked struct {
	id     string
	lines  int
	stream bool
}

func askedBy(r *http.Request) (a asked) {
	a.id = r.Header.Get("X-Id")
	_, _ = fmt.Sscanf(r.URL.RawQuery, "lines=%d&stream=%t", &a.lines, &a.stream) // zeros ask for nothing
	return a
}

// sightings counts how often a provider has begun to serve each request, those left out that it refuses with a status
// after which they may come again.
type sightings struct {
	mu   sync.Mutex
	seen map[string]int
}

func (s *sightings) add(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.seen == nil {
		s.seen = map[string]int{}
	}
	s.seen[id]++
}

func (s *sightings) of(id string) int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.seen[id]
}

// echo is a provider that says in every part of an answer whose it is. Some requests it refuses, and after some answers it
// closes the connection.
type echo struct{ sightings }

func (e *echo) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := askedBy(r)
	w.Header().Set("X-Id", a.id)
	w.Header().Set("Retry-After-Ms", "5")
	if rand.IntN(2) == 0 {
		w.Header().Set("Connection", "close")
	}
	refused := []int{429, 503, 529}
	status := 200
	if n := rand.IntN(40); n < len(refused) {
		status = refused[n]
	} else {
		e.add(a.id)
	}
	content, err := io.ReadAll(r.Body)
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if status != 200 {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, a.id) // who has left is told nothing
		return
	}
	text := answer(a.id, string(content), a.lines, a.stream)
	if !a.stream {
		w.Header().Set("Content-Length", fmt.Sprint(len(text)))
		_, _ = io.WriteString(w, text) // as above
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	for event := range strings.SplitAfterSeq(text, "\n\n") {
		if _, err := io.WriteString(w, event); err != nil {
			return
		}
		if rand.IntN(4) == 0 {
			_ = http.NewResponseController(w).Flush() // as above
		}
	}
}
