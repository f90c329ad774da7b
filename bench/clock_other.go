//go:build !linux

package main

import (
	"errors"
	"time"
)

func monotonic() time.Duration { return time.Duration(time.Now().UnixNano()) }

func cpuTimeUsed(int) (time.Duration, error) { return 0, errors.ErrUnsupported }

func sharpSleeps() {}

func sleep(d time.Duration) { time.Sleep(d) }
