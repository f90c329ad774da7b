// Package arena holds memory that is allocated once, lent for the length of a request and taken back.
//
// A Class is all the slots of one kind, cut from a few slabs. Taking and giving back allocates nothing and takes no
// lock; what the slabs cannot serve comes from the heap and is counted, so a request never fails for want of a slot.
//
//	bodies := arena.NewClass[[16384]byte](1000) // 16 MiB, kept for good
//
//	body := bodies.Take(connection)             // any number that differs between connections
//	defer body.Give()                           // exactly once
//	n, err := r.Read(body.P()[:])               // the content is what the last holder left
//
//	bodies.Resize(2000)                         // while others take and give
//	stats := bodies.Stats()                     // slots, in use, overflows
//
// It does not clear slots, does not wait for one to come free, and does not bound what overflows: package limiter
// bounds the requests, and whoever takes overflow slots sets a limit on them.
//
// With -tags edgedebug a byte array is filled with 0xDB when it is given back, a slot given twice is reported with the
// stack of its taker, Class.Leaks lists the stacks of those who still hold slots, and the scheduler is called where
// a race would be.
package arena
