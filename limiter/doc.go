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
// With Config.Callers above 1, those who wait are not served in one line: callers take turns, and a caller's thousand
// waiting requests delay another's next one by no more than a single request would.
//
// A provider that is out of quota is a pause: Resize to Limit 0, with a Buffer larger by the old Limit so that the places
// stay, and a timer of the user's that calls Resize again. Permits given back in between go to nobody; those who wait
// go on in order when the timer fires. It takes one owner of Resize that knows the limits wanted and the end of the
// pause, so that a change of limits during the pause does not end it.
//
// The package does not choose its limits, keeps no timers (a deadline is the caller's context) and knows nothing of
// HTTP; the proxy package does all three.
package limiter
