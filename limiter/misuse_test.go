package limiter

import (
	"errors"
	"math"
	"slices"
	"testing"
)

func TestNewAndResizePanicOutOfRange(t *testing.T) {
	for _, c := range []Config{
		{Limit: -1},
		{Limit: 65537},
		{Buffer: -1},
		{Buffer: 965537},
		{Limit: 65536, Buffer: 900001},
		{Buffer: math.MaxInt},
		{MaxBlocked: -1},
		{MaxBlocked: 100001},
		{Callers: -1},
		{Callers: 1025},
	} {
		mustPanic(t, "New", func() { New(c) })
		g := New(Config{})
		mustPanic(t, "Resize", func() { g.Resize(c) })
		if s := g.Stats(); s.Limit != 0 || s.Buffer != 0 || s.MaxBlocked != 0 {
			t.Errorf("a Resize that panicked changed the gate: %+v", s)
		}
	}
	largest := Config{Limit: 65536, Buffer: 900000, MaxBlocked: 100000, Callers: 1024}
	for _, g := range []*Gate{New(largest), New(Config{})} {
		g.Resize(Config{Buffer: 965536}) // a pause
		g.Resize(largest)
		if got := []int{g.load().permitRoom(), g.load().placeRoom()}; !slices.Equal(got, []int{65536, 965536}) {
			t.Errorf("room in an empty gate: %v", got)
		}
	}
}

func TestResizeBelowZeroPanics(t *testing.T) {
	g := New(Config{Limit: 1})
	mustPanic(t, "Resize", func() { g.Resize(Config{Limit: -1}) })
	p := mustAcquire(t, g) // the gate goes on, with its lock free
	g.Resize(Config{Limit: 2})
	p.Done(Sample{})
	checkAtRest(t, g)
}

func TestDoneTwicePanics(t *testing.T) {
	g := New(Config{Limit: 2})
	p := mustAcquire(t, g)
	again := p
	p.Done(Sample{})
	mustPanic(t, "second Done", func() { p.Done(Sample{}) })
	mustPanic(t, "Done on a copy", func() { again.Done(Sample{}) })
	mustPanic(t, "Done on the zero Permit", func() { new(Permit).Done(Sample{}) })
	checkAtRest(t, g)
}

func TestPlaceUsedTwicePanics(t *testing.T) {
	g := New(Config{Limit: 1, Buffer: 1})
	pl := mustEnter(t, g)
	p, err := pl.Acquire(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	mustPanic(t, "Acquire after Acquire", func() { _, _ = pl.Acquire(t.Context()) })
	pl.Leave() // nothing: the place is the permit's now
	wantHeld(t, g, 1, 0, 0)

	pl = mustEnter(t, g)
	cause := errors.New("gone")
	if _, err := pl.Acquire(ended(t, cause)); !errors.Is(err, cause) {
		t.Fatalf("Acquire: %v, want the cause", err)
	}
	mustPanic(t, "Acquire after one that failed", func() { _, _ = pl.Acquire(t.Context()) })
	pl.Leave() // nothing: Acquire gave the place back
	wantHeld(t, g, 1, 0, 0)

	pl = mustEnter(t, g)
	pl.Leave()
	mustPanic(t, "Acquire after Leave", func() { _, _ = pl.Acquire(t.Context()) })
	pl.Leave()
	wantHeld(t, g, 1, 0, 0)
	mustPanic(t, "Acquire on the zero Place", func() { _, _ = new(Place).Acquire(t.Context()) })
	p.Done(Sample{})

	pl = mustEnter(t, g)
	again := pl
	pl.Leave()
	mustPanic(t, "Leave on a copy", again.Leave)
	checkAtRest(t, g)
}

func TestAcquireAfterCloseAnswersErrClosed(t *testing.T) {
	for _, callers := range []int{1, 2} {
		g := New(Config{Limit: 2, Buffer: 2, MaxBlocked: 2, Callers: callers})
		p, place := mustAcquire(t, g), mustEnter(t, g)
		g.Close()
		// Closed comes before a context that is over.
		if _, err := place.Acquire(ended(t, errors.New("gone"))); !errors.Is(err, ErrClosed) {
			t.Errorf("Place.Acquire: %v, want ErrClosed", err)
		}
		if _, err := g.Acquire(t.Context(), Request{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Gate.Acquire: %v, want ErrClosed", err)
		}
		if _, err := g.Enter(t.Context(), Request{}); !errors.Is(err, ErrClosed) {
			t.Errorf("Enter: %v, want ErrClosed", err)
		}
		if _, ok := g.TryEnter(Request{}); ok {
			t.Error("TryEnter: ok")
		}
		p.Done(Sample{})
		if n := g.Stats().Closed; n != 3 {
			t.Errorf("Closed = %d, want 3", n)
		}
		checkAtRest(t, g)
	}
}

func TestGateLooksAtContextOnlyToWait(t *testing.T) {
	g := New(Config{Limit: 1, Buffer: 1, MaxBlocked: 1})
	gone := errors.New("gone before it came")
	ctx := ended(t, gone)
	p, err := g.Acquire(ctx, Request{})
	if err != nil {
		t.Fatalf("Acquire of a free permit: %v", err)
	}
	place, err := g.Enter(ctx, Request{})
	if err != nil {
		t.Fatalf("Enter with a place free: %v", err)
	}
	if _, err := g.Enter(ctx, Request{}); !errors.Is(err, gone) {
		t.Errorf("Enter with no place free: %v, want the cause", err)
	}
	if _, err := place.Acquire(ctx); !errors.Is(err, gone) {
		t.Errorf("Acquire with no permit free: %v, want the cause", err)
	}
	wantHeld(t, g, 1, 0, 0)
	p.Done(Sample{})
	if s := g.Stats(); s.Waited != 0 || s.Gone != 2 {
		t.Errorf("Waited = %d, Gone = %d, want 0, 2", s.Waited, s.Gone)
	}
	checkAtRest(t, g)
}

func TestResizeOfAClosedGateLetsNobodyIn(t *testing.T) {
	g := New(Config{Limit: 1, Buffer: 1})
	g.Close()
	g.Resize(Config{Limit: 5, Buffer: 5})
	if _, err := g.Acquire(t.Context(), Request{}); !errors.Is(err, ErrClosed) {
		t.Errorf("got %v, want ErrClosed", err)
	}
}
