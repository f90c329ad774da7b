package httpwasm

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins"
)

// labeller is a guest that keeps the first value of x-id of a request in its memory and sets it on the answer as x-seen: an
// answer with another request's id means that two exchanges shared an instance. With x-trap it traps in handle_request,
// or in handle_response.
func labeller() []byte {
	const id, value, length = 0, 64, 128 // the name, where its value goes, its length
	values := func(kind, name, nameLength uint32) code {
		return slices.Concat(i32(kind), i32(name), i32(nameLength), i32(value), i32(length-value), call(hostCall("get_header_values")))
	}
	isThere := func(kind uint32) code { // x-trap: a count of more than 0
		return slices.Concat(i32(kind), i32(16), i32(6), i32(1024), i32(64), call(hostCall("get_header_values")), i64(0), code{0x55, 0x04, 0x40}, unreachable, end)
	}
	return module{
		pages: 1,
		data:  map[uint32]code{id: code("x-id"), 16: code("x-trap"), 32: code("x-seen")},
		start: slices.Concat(i32(3), call(hostCall("enable_features")), setFirst),
		request: slices.Concat(i32(length), values(0, id, 4), code{0xa7}, i32(1), code{0x6b}, store32(0), // without the NUL
			isThere(0), i64(1)),
		response: slices.Concat(isThere(1), i32(1), i32(32), i32(6), i32(value), i32(length), load32(0), call(hostCall("set_header_value"))),
	}.bytes()
}

func TestHammerCalls(t *testing.T) {
	const callers, instances = 64, 8
	visits := 200
	if testing.Short() {
		visits = 30
	}
	p := mustLoad(t, newHost(t), plugins.Config{Module: labeller()}, Options{MaxInstances: instances, Request: true, Response: true})
	var served, trapped, busy, left atomic.Int64
	var wg sync.WaitGroup
	for caller := range callers {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(1, uint64(caller)))
			var c Call // one for all, as in an exchange's record
			for n := range visits {
				id := fmt.Sprintf("%d-%d", caller, n)
				x := &fake{id: id}
				x.fields[RequestHeader] = list{{"X-Id", id}}
				fate := random.IntN(100)
				if fate == 0 {
					x.fields[RequestHeader].Add("X-Trap", "1")
				}
				ctx, cancel := context.Background(), context.CancelFunc(func() {})
				if fate > 95 {
					ctx, cancel = context.WithTimeout(ctx, time.Duration(random.IntN(1000))*time.Microsecond)
				}
				next, err := c.Request(ctx, p, x)
				cancel()
				if fate == 1 {
					x.fields[ResponseHeader].Add("X-Trap", "1")
				}
				switch {
				case errors.Is(err, ErrBusy):
					busy.Add(1)
					continue
				case err != nil && fate != 0:
					t.Errorf("%s: %v", id, err)
					continue
				case err != nil:
					trapped.Add(1)
					continue
				case !next:
					t.Errorf("%s: no next", id)
				case fate == 2:
					c.Release()
					left.Add(1)
					continue
				}
				if err := c.Response(context.Background(), x, false); (err != nil) != (fate == 1) {
					t.Errorf("%s: %v", id, err)
				} else if err != nil {
					trapped.Add(1)
				} else if got := x.fields[ResponseHeader]; len(got) != 1 || got[0] != (name{"X-Seen", id}) {
					t.Errorf("%s: got %v", id, got)
				}
				served.Add(1)
			}
		})
	}
	resizing := make(chan struct{})
	go func() { // the most instances move while they are used
		defer close(resizing)
		for n := range 20 {
			p.Resize(1 + n%instances)
			p.Stats()
		}
		p.Resize(instances)
	}()
	wg.Wait()
	<-resizing
	s := p.Stats()
	t.Logf("served %d, trapped %d, busy %d, left %d; %+v", served.Load(), trapped.Load(), busy.Load(), left.Load(), s)
	if s.InUse != 0 || s.Waiting != 0 || s.Replaced != uint64(trapped.Load()) || s.Instances > instances {
		t.Errorf("%+v after %d traps", s, trapped.Load())
	}
	if served.Load() == 0 || trapped.Load() == 0 {
		t.Error("the hammer missed a case")
	}
}
