package proxy

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"testing"
)

// editing is a body with the bytes it was made of. Only the first held of them are in memory; the caller sends the rest.
type editing struct {
	*body
	r       *rand.Rand
	p       *Proxy
	content []byte
	held    int
}

// newEditing makes a body of random size, of which all, some or nothing is held.
func newEditing(t *testing.T, r *rand.Rand) *editing {
	t.Helper()
	p := &Proxy{sweeper: &sweeper{}}
	p.initArena(8)
	gen := &generation{config: DefaultConfig()}
	ctx := &lifetime{parent: t.Context()}
	size := [...]int{0, 1, r.IntN(100), 16 << 10, r.IntN(40 << 10), 64<<10 + r.IntN(3) - 1, r.IntN(300 << 10)}[r.IntN(7)]
	e := &editing{r: r, p: p, content: make([]byte, size), held: size}
	for i := range e.content {
		e.content[i] = byte(r.Uint32())
	}
	if r.IntN(2) == 0 { // in blocks of all sizes
		e.body = newHeldBody(&exchange{arrival: arrival{p: p, gen: gen}, ctx: ctx})
		for rest := e.content; len(rest) > 0; {
			n := min(r.IntN(1+[...]int{3, 100, 20 << 10}[r.IntN(3)]), len(rest))
			e.blocks, rest = append(e.blocks, rest[:n]), rest[n:]
		}
		e.size = int64(size)
		return e
	}
	request := &http.Request{Body: io.NopCloser(bytes.NewReader(e.content)), ContentLength: int64(size)}
	e.body = new(body).init(ctx, &arrival{p: p, gen: gen, r: request}, 1)
	limit := int64(size) + 1
	if r.IntN(3) == 0 {
		limit = int64(r.IntN(size + 1))
	}
	if err := e.fill(limit, nil); err != nil {
		t.Fatal(err)
	}
	e.held = int(e.size)
	return e
}

// change edits the body at random, and returns what its readers have to give.
func (e *editing) change() []byte {
	var edits []edit
	var want []byte
	at := 0
	for range e.r.IntN(5) {
		from := at + e.r.IntN(e.held-at+1)
		if e.r.IntN(4) == 0 {
			from = at
		}
		to := from + e.r.IntN(e.held-from+1)
		if e.r.IntN(3) == 0 {
			to = min(from+e.r.IntN(20), e.held)
		}
		with := make([]byte, [...]int{0, 0, 1, e.r.IntN(50), e.r.IntN(40 << 10)}[e.r.IntN(5)])
		for i := range with {
			with[i] = byte('A' + e.r.IntN(26))
		}
		edits = append(edits, edit{int64(from), int64(to), with})
		want = append(append(want, e.content[at:from]...), with...)
		at = to
	}
	want = append(want, e.content[at:]...)
	// In another order, but for those that begin at one place.
	for i := len(edits) - 1; i > 0; i-- {
		if j := e.r.IntN(i + 1); j == i-1 && edits[i].from > edits[j].from {
			edits[i], edits[j] = edits[j], edits[i]
		}
	}
	e.edit(edits...)
	return want
}

// drain reads all of reader in random ways.
func (e *editing) drain(t *testing.T, reader *bodyReader, want []byte) {
	t.Helper()
	rest := len(e.content) - e.held // comes from the caller
	var got []byte
	for {
		held := len(want) - rest - len(got)
		if left := reader.Len(); left != max(held, 0) {
			t.Fatalf("Len after %d of %d bytes: got %d, want %d", len(got), len(want), left, held)
		}
		switch way := e.r.IntN(8); {
		case way == 0:
			var all bytes.Buffer
			n, err := reader.WriteTo(&all)
			if err != nil || n != int64(all.Len()) {
				t.Fatalf("WriteTo: %d of %d, %v", n, all.Len(), err)
			}
			if got = append(got, all.Bytes()...); !bytes.Equal(got, want) {
				t.Fatalf("got %d bytes, want %d", len(got), len(want))
			}
			return
		case way < 4 && held > 0:
			piece := reader.Next(1 + e.r.IntN(50<<10))
			if len(piece) == 0 {
				t.Fatalf("Next gives nothing, %d bytes are held", held)
			}
			got = append(got, piece...)
		default:
			into := make([]byte, 1+e.r.IntN(30<<10))
			n, err := reader.Read(into)
			got = append(got, into[:n]...)
			if errors.Is(err, io.EOF) {
				if !bytes.Equal(got, want) {
					t.Fatalf("got %d bytes, want %d", len(got), len(want))
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if !bytes.HasPrefix(want, got) {
			t.Fatalf("got other bytes among the first %d", len(got))
		}
	}
}

// whole checks copyAt and length against what is held.
func (e *editing) whole(t *testing.T, want []byte) {
	t.Helper()
	want = want[:len(want)-(len(e.content)-e.held)]
	if e.length() != int64(len(want)) {
		t.Fatalf("length: got %d, want %d", e.length(), len(want))
	}
	for range 4 {
		from := e.r.IntN(len(want) + 10)
		into := make([]byte, e.r.IntN(50<<10))
		n := e.copyAt(into, int64(from))
		if part := want[min(from, len(want)):]; !bytes.Equal(into[:n], part[:min(len(part), len(into))]) {
			t.Fatalf("copyAt %d of %d: got %d bytes", from, len(want), n)
		}
	}
}

// editAndRead edits one body several times, as attempts do, and reads it in between.
func editAndRead(t *testing.T, seed uint64) {
	t.Helper()
	e := newEditing(t, rand.New(rand.NewPCG(seed, 0)))
	attempts := 1
	if e.kept() {
		attempts = 3
	}
	for range attempts {
		want := e.change()
		e.whole(t, want)
		reader := e.reader()
		defer reader.Close()
		if e.kept() && e.r.IntN(2) == 0 { // net/http may still read while the next attempt is made up
			e.change()
		}
		e.drain(t, reader, want)
		if e.r.IntN(2) == 0 {
			reader.Close()
		}
	}
}

func TestEditsFollowAPlainModel(t *testing.T) {
	for seed := range uint64(300) {
		editAndRead(t, seed)
	}
}

func FuzzEdits(f *testing.F) {
	for seed := range uint64(10) {
		f.Add(seed)
	}
	f.Fuzz(editAndRead)
}

// What most requests need costs nothing: a model without its prefix, and no list of fallbacks.
func TestEditsAllocateNothing(t *testing.T) {
	b := &body{size: 100}
	b.refs.Store(1)
	if n := testing.AllocsPerRun(100, func() {
		b.edit(edit{from: 50, to: 60}, edit{from: 10, to: 20})
		if b.length() != 80 {
			t.Error(b.length())
		}
	}); n != 0 {
		t.Errorf("got %v allocations, want none", n)
	}
}

func TestEditsThatOverlapAreABug(t *testing.T) {
	f := func(edits ...edit) {
		t.Helper()
		defer func() {
			if recover() == nil {
				t.Errorf("%v: no panic", edits)
			}
		}()
		b := &body{size: 100}
		b.edit(edits...)
	}
	f(edit{from: 10, to: 30}, edit{from: 20, to: 40})
	f(edit{from: 30, to: 20})
	f(edit{from: 90, to: 101})
	f(edit{from: -1, to: 1})
}
