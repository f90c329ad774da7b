package limiter_test

import (
	"context"
	"fmt"
	"time"

	"github.com/edge-proxy/edge/limiter"
)

func ExampleGate() {
	// One request in flight, one more may wait, everybody else is refused.
	g := limiter.New(limiter.Config{Limit: 1, Buffer: 1})
	ctx := context.Background()

	permit, err := g.Acquire(ctx, limiter.Request{})
	fmt.Println("first:", err)

	place, err := g.Enter(ctx, limiter.Request{})
	fmt.Println("second:", err)

	_, err = g.Enter(ctx, limiter.Request{})
	fmt.Println("third:", err)

	permit.Done(limiter.Sample{Held: 2 * time.Second})
	permit, err = place.Acquire(ctx)
	fmt.Println("second again:", err)
	fmt.Println("a newcomer would wait", g.ExpectedWait())
	permit.Done(limiter.Sample{})
	// Output:
	// first: <nil>
	// second: <nil>
	// third: limiter: full
	// second again: <nil>
	// a newcomer would wait 2s
}
