// Package socket reads and writes TCP connections without telling Go's scheduler that a system call begins.
//
// Go's own read and write announce each system call, since it may block: the scheduler's monitor, asleep while nothing
// runs, is woken for it, and may give the thread's processor to another thread, which has to be woken, too. A socket of
// Go's never blocks, so both are for nothing. At 2,500 requests a second a fifth of Edge's CPU time was the monitor's;
// docs/bench.md.
//
// Waiting, deadlines, Close and errors are those of package net. Two things change. While a call lasts, its thread keeps
// its processor and cannot be made to stop, as a collection may want; so pieces of more than 128 KiB that are copied go the
// usual way (a Pipe moves up to 256 KiB, as pages), but the kernel may still take its time when memory is short. And the
// monitor, which interrupts who computes for more than 10 ms, may be asleep until the next timer of the process: with one
// processor (GOMAXPROCS) the others wait for that. Edge's sweeper has one every 25 ms.
package socket
