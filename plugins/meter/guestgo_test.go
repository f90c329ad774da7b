//go:build !race

// The race detector sees nothing of a guest, and would take minutes over these.

package meter

import (
	"fmt"
	"testing"

	"github.com/tetratelabs/wazero"
)

func TestGuestGo(t *testing.T) {
	calls := []guestCall{
		{"quiet", nil},
		{"fib", []uint64{12}},
		{"deep", []uint64{500}},
		{"json_walk", []uint64{2}},
		{"library", []uint64{2}},
		{"goroutines", []uint64{20}},
		{"nested", []uint64{200}},
	}
	testAlike(t, goGuest(t), calls)
}

// TestGuestGoDeep: what is deep in a program is not deep in the room. encoding/json takes 10,000 arrays in arrays.
func TestGuestGoDeep(t *testing.T) {
	g := start(t, wazero.NewRuntimeConfig(), goGuest(t), &options{refill: Refill, room: Room})
	nested, deep := uint64(9_999), uint64(50_000)
	if !compiles {
		nested, deep = 500, 1500
	}
	if got, want := g.call(t, "nested", nested), fmt.Sprintf("[%d]", nested); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	g.call(t, "deep", deep)
}
