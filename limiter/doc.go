// Package limiter bounds how many requests are in flight to one provider and how many wait for it.
//
// A [Gate] has the semantics of N workers behind a queue of M places, without the workers: the caller's own goroutine
// does the work, so a request that finds a free permit costs a few atomic operations and no hand-off.
//
//	g := limiter.New(limiter.Config{Limit: 50, Buffer: 500})
//	place, err := g.Enter(ctx, limiter.Request{Caller: 7}) // ErrFull, ErrClosed or the cause of ctx
//	if err != nil {
//		return err
//	}
//	defer place.Leave() // does nothing once the place has become a permit
//	body := readBody()
//	permit, err := place.Acquire(ctx)
//	if err != nil {
//		return err // Acquire gave the place back
//	}
//	start := time.Now()
//	err = forward(body)
//	permit.Done(limiter.Sample{Held: time.Since(start)})
//	return err
//
// The package does not choose its limits, keeps no timers (a deadline is the caller's context) and knows nothing of
// HTTP; the proxy package does all three.
package limiter
