package main

import (
	"fmt"
	"syscall"
	"time"
	"unsafe"
)

const (
	clockMonotonic = 1  // CLOCK_MONOTONIC: one clock for all processes of the machine
	cpuClockSched  = 2  // what clock_getcpuclockid(3) makes of a process
	setTimerSlack  = 29 // PR_SET_TIMERSLACK
)

// monotonic is the time by a clock that other processes read too, and that nobody sets.
func monotonic() time.Duration {
	t, _ := readClock(clockMonotonic) // every kernel has it
	return t
}

// cpuTimeUsed is what a process has used so far, user and system, with the threads that have ended: the sum of
// utime and stime of /proc/PID/stat, which says it to 10 ms, to the nanosecond.
func cpuTimeUsed(pid int) (time.Duration, error) {
	t, err := readClock(uintptr(^pid)<<3 | cpuClockSched)
	if err != nil {
		return 0, fmt.Errorf("CPU time of process %d: %w", pid, err)
	}
	return t, nil
}

func readClock(id uintptr) (time.Duration, error) {
	var t syscall.Timespec
	if _, _, errno := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, id, uintptr(unsafe.Pointer(&t)), 0); errno != 0 {
		return 0, errno
	}
	return time.Duration(t.Nano()), nil
}

// sharpSleeps has the kernel wake this thread when it is asked to, and not up to 50 µs later.
func sharpSleeps() {
	_, _, _ = syscall.RawSyscall(syscall.SYS_PRCTL, setTimerSlack, 1, 0) // without it, sends are late for all peers alike
}

// sleep is to the kernel's precision, where time.Sleep is to a millisecond when nothing else goes on: the runtime then
// waits in epoll_wait(2).
func sleep(d time.Duration) {
	t := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&t, nil) // interrupted, the caller looks at the clock and sleeps again
}
