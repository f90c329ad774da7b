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

func ExampleGate_Resize() {
	// Two requests in flight, eight more may wait.
	open := limiter.Config{Limit: 2, Buffer: 8}
	g := limiter.New(open)

	// The provider wants nothing for 20 ms: all ten may wait, and a timer lets them on.
	g.Resize(limiter.Config{Limit: 0, Buffer: 10})
	paused := time.Now()
	timer := time.AfterFunc(20*time.Millisecond, func() { g.Resize(open) })
	defer timer.Stop()

	permit, err := g.Acquire(context.Background(), limiter.Request{})
	fmt.Println(err, time.Since(paused) >= 20*time.Millisecond)
	permit.Done(limiter.Sample{})
	// Output:
	// <nil> true
}
