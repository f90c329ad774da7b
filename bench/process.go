package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// stopGrace is how long a child has to end by itself once it was told to.
const stopGrace = 5 * time.Second

// process is a child that runs until stop.
type process struct {
	pid  int
	end  context.CancelFunc
	done chan struct{} // closed when it has ended
	how  string        // it ended; read after done
}

// command is a child that is told to end when ctx does, and killed when it then does not. It must be started from a
// goroutine that stays on its thread (childAttributes).
func command(ctx context.Context, path string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) } // which go build obeys without leaving compilers behind
	cmd.WaitDelay = stopGrace
	cmd.SysProcAttr = childAttributes()
	return cmd
}

// start starts a child. It ends with ctx at the latest; the caller stops it.
func start(ctx context.Context, path string, environ []string, args ...string) (*process, error) {
	ctx, end := context.WithCancel(ctx)
	cmd := command(ctx, path, args...)
	cmd.Env, cmd.Stderr = environ, os.Stderr
	if err := cmd.Start(); err != nil {
		end()
		return nil, err
	}
	return await(cmd, end), nil
}

// startSelf starts this program as the child that name says, and returns where it serves.
func startSelf(ctx context.Context, args ...string) (*process, addresses, error) {
	var at addresses
	self, err := os.Executable()
	if err != nil {
		return nil, at, err
	}
	ctx, end := context.WithCancel(ctx)
	cmd := command(ctx, self, args...)
	cmd.Stderr = os.Stderr
	stdout, err := cmd.StdoutPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		end()
		return nil, at, err
	}
	line, err := bufio.NewReader(stdout).ReadBytes('\n') // ends with the child
	if err == nil {
		err = json.Unmarshal(line, &at)
	}
	p := await(cmd, end)
	if err != nil {
		p.stop()
		return nil, at, fmt.Errorf("%s did not say where it serves (%s): %w", args[0], p.how, err)
	}
	return p, at, nil
}

func await(cmd *exec.Cmd, end context.CancelFunc) *process {
	p := &process{pid: cmd.Process.Pid, end: end, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // what matters of its error is in the state
		p.how = cmd.ProcessState.String()
	}()
	return p
}

// stop returns when the child has ended.
func (p *process) stop() {
	p.end()
	<-p.done
}

// ended reports whether the child ended without being stopped.
func (p *process) ended() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// ticksPerSecond is USER_HZ, in which Linux tells CPU time on every architecture that Go runs on.
const ticksPerSecond = 100

// cpuTime is what a process has used so far, user and system, to 10 ms.
type cpuTime struct {
	own      time.Duration
	children time.Duration // those that have ended and were waited for, with theirs
}

func cpuTimeOf(pid int) (cpuTime, error) {
	text, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return cpuTime{}, err
	}
	return parseCPUTime(string(text))
}

// peakBytesOf is the most memory that a process has had resident.
func peakBytesOf(pid int) (int64, error) {
	text, err := os.ReadFile(procFile(pid, "status"))
	if err != nil {
		return 0, err
	}
	return parsePeak(string(text))
}

func procFile(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// parseCPUTime reads fields 14 to 17 of /proc/PID/stat: utime, stime, cutime and cstime (proc_pid_stat(5)).
func parseCPUTime(stat string) (cpuTime, error) {
	// The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
	fields := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
	if len(fields) < 15 {
		return cpuTime{}, fmt.Errorf("/proc/PID/stat: got %q", stat)
	}
	ticks, err := integers(fields[11:15])
	if err != nil {
		return cpuTime{}, fmt.Errorf("/proc/PID/stat: %w", err)
	}
	return cpuTime{own: ticksToTime(ticks[0] + ticks[1]), children: ticksToTime(ticks[2] + ticks[3])}, nil
}

func ticksToTime(ticks int64) time.Duration {
	return time.Duration(ticks) * (time.Second / ticksPerSecond)
}

func integers(fields []string) ([]int64, error) {
	list := make([]int64, len(fields))
	for i, field := range fields {
		var err error
		if list[i], err = strconv.ParseInt(field, 10, 64); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// parsePeak reads VmHWM of /proc/PID/status (proc_pid_status(5)).
func parsePeak(status string) (int64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/PID/status: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, errors.New("/proc/PID/status: no VmHWM")
}
