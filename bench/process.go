package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// stopGrace is how long a child has to end by itself once it was told to.
const stopGrace = 5 * time.Second

// process is a child that runs until stop.
type process struct {
	pid     int
	begun   time.Time // of a child that start started
	workers []int     // its own children, once adopt has found them
	end     context.CancelFunc
	said    *head
	done    chan struct{} // closed when it has ended
	how     string        // it ended; read after done
}

// head keeps the begin of what a child says on stderr, for the error should it fail; a proxy that fails may say the same
// a thousand times.
type head struct {
	mu   sync.Mutex
	text []byte
}

const headBytes = 500

func (h *head) Write(p []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.text = append(h.text, p[:min(len(p), headBytes-len(h.text))]...)
	return len(p), nil
}

func (h *head) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(strings.Fields(string(h.text)), " ")
}

// blame adds to an error what the child has to do with it.
func (p *process) blame(name string, err error) error {
	if p.ended() {
		err = fmt.Errorf("%w; %s had ended (%s)", err, name, p.how)
	}
	if said := p.said.String(); said != "" {
		err = fmt.Errorf("%w; %s said: %s", err, name, said)
	}
	return err
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
	said := &head{}
	cmd.Env, cmd.Stderr = environ, said
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		end()
		return nil, err
	}
	p := await(cmd, end, said)
	p.begun = begun
	return p, nil
}

// startSelf starts this program as the child that name says, and returns where it serves.
func startSelf(ctx context.Context, args ...string) (*process, addresses, error) {
	var at addresses
	self, err := os.Executable()
	if err != nil {
		return nil, at, err
	}
	ctx, end := context.WithCancel(ctx)
	cmd, said := command(ctx, self, args...), &head{}
	cmd.Stderr = said
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
	p := await(cmd, end, said)
	if err != nil {
		p.stop()
		return nil, at, p.blame(args[0], fmt.Errorf("%s did not say where it serves: %w", args[0], err))
	}
	return p, at, nil
}

func await(cmd *exec.Cmd, end context.CancelFunc, said *head) *process {
	p := &process{pid: cmd.Process.Pid, end: end, said: said, done: make(chan struct{})}
	go func() {
		defer close(p.done)
		_ = cmd.Wait() // what matters of its error is in the state
		p.how = cmd.ProcessState.String()
	}()
	return p
}

// stop returns when the child has ended, and its workers were told to should they have outlived it.
func (p *process) stop() {
	p.end()
	<-p.done
	for _, worker := range p.workers {
		if text, err := os.ReadFile(procFile(worker, "stat")); err == nil {
			if s, err := parseStat(string(text)); err == nil && s.group == p.pid { // no other process that has the number now
				_ = kill(worker)
			}
		}
	}
	p.workers = nil
}

// adopt looks for the child's own children, which are to be counted with it and to end with it.
func (p *process) adopt() error {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return err
	}
	p.workers = nil
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil {
			continue
		}
		text, err := os.ReadFile(procFile(pid, "stat"))
		if err != nil {
			continue // it has ended
		}
		if s, err := parseStat(string(text)); err == nil && s.parent == p.pid {
			p.workers = append(p.workers, pid)
		}
	}
	return nil
}

// all is the child and its workers.
func (p *process) all() []int { return append([]int{p.pid}, p.workers...) }

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

// stat is what /proc/PID/stat says, as far as it is wanted.
type stat struct {
	parent, group int
	cpu           cpuTime
}

func cpuTimeOf(pid int) (cpuTime, error) {
	text, err := os.ReadFile(procFile(pid, "stat"))
	if err != nil {
		return cpuTime{}, err
	}
	s, err := parseStat(string(text))
	return s.cpu, err
}

// cpuUsed is what the child and its workers have used so far.
func (p *process) cpuUsed() (time.Duration, error) {
	sum := time.Duration(0)
	for _, pid := range p.all() {
		t, err := cpuTimeUsed(pid)
		if err != nil {
			return 0, err
		}
		sum += t
	}
	return sum, nil
}

// The fields of /proc/PID/status that tell resident memory.
const (
	residentNow  = "VmRSS"
	residentMost = "VmHWM"
)

// resident is the sum over the child and its workers. Pages that they share count for each.
func (p *process) resident(field string) (int64, error) {
	sum := int64(0)
	for _, pid := range p.all() {
		text, err := os.ReadFile(procFile(pid, "status"))
		if err != nil {
			return 0, err
		}
		size, err := parseStatus(string(text), field)
		if err != nil {
			return 0, err
		}
		sum += size
	}
	return sum, nil
}

func procFile(pid int, name string) string { return filepath.Join("/proc", strconv.Itoa(pid), name) }

// parseStat reads fields 4, 5 and 14 to 17 of /proc/PID/stat: ppid, pgrp, utime, stime, cutime and cstime
// (proc_pid_stat(5)).
func parseStat(text string) (stat, error) {
	// The second field is the program's name in parentheses, and may itself hold spaces and parentheses.
	fields := strings.Fields(text[strings.LastIndexByte(text, ')')+1:])
	if len(fields) < 15 {
		return stat{}, fmt.Errorf("/proc/PID/stat: got %q", text)
	}
	n, err := integers(append(fields[1:3:3], fields[11:15]...))
	if err != nil {
		return stat{}, fmt.Errorf("/proc/PID/stat: %w", err)
	}
	cpu := cpuTime{own: ticksToTime(n[2] + n[3]), children: ticksToTime(n[4] + n[5])}
	return stat{parent: int(n[0]), group: int(n[1]), cpu: cpu}, nil
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

// parseStatus reads one of the sizes of /proc/PID/status (proc_pid_status(5)), in bytes.
func parseStatus(status, field string) (int64, error) {
	for line := range strings.Lines(status) {
		if rest, ok := strings.CutPrefix(line, field+":"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			if err != nil {
				return 0, fmt.Errorf("/proc/PID/status: %w", err)
			}
			return kib << 10, nil
		}
	}
	return 0, fmt.Errorf("/proc/PID/status: no %s", field)
}
