package main

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"time"
)

// machine is where and when a run was made, and who else was there.
type machine struct {
	date  string
	model string // of the cores, "" if unknown
	cores int

	before machineTime
	others float64 // share of the cores' time that other work took while the run lasted, 0 to 1
}

// machineTime is what the cores have done since the machine started.
type machineTime struct {
	all, busy time.Duration // of all cores; busy includes what a hypervisor took away
	ours      time.Duration // this process and the children that have ended
}

func beginMachine() (*machine, error) {
	before, err := readMachineTime()
	if err != nil {
		return nil, err
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return nil, err
	}
	return &machine{
		date: time.Now().Format(time.DateOnly), model: parseModel(string(info)), cores: runtime.NumCPU(), before: before,
	}, nil
}

// finish is called when all children have ended.
func (m *machine) finish() error {
	after, err := readMachineTime()
	if err != nil {
		return err
	}
	m.others = otherShare(m.before, after)
	return nil
}

func otherShare(before, after machineTime) float64 {
	others := (after.busy - before.busy) - (after.ours - before.ours)
	return max(0, others.Seconds()/max((after.all-before.all).Seconds(), 1))
}

func (m *machine) String() string {
	model := ""
	if m.model != "" {
		model = " (" + m.model + ")"
	}
	return fmt.Sprintf("%s, %s/%s, %d cores%s, %s. Other work took %.0f %% of the cores' time meanwhile.",
		m.date, runtime.GOOS, runtime.GOARCH, m.cores, model, runtime.Version(), 100*m.others)
}

func readMachineTime() (machineTime, error) {
	text, err := os.ReadFile("/proc/stat")
	if err != nil {
		return machineTime{}, err
	}
	t, err := parseMachineTime(string(text))
	if err != nil {
		return t, err
	}
	own, err := cpuTimeOf(os.Getpid())
	t.ours = own.own + own.children
	return t, err
}

// parseMachineTime reads the first line of /proc/stat (proc_stat(5)): user, nice, system, idle, iowait, irq, softirq,
// steal; what follows is counted in user already.
func parseMachineTime(stat string) (machineTime, error) {
	line, _, _ := strings.Cut(stat, "\n")
	fields := strings.Fields(line)
	if len(fields) < 9 || fields[0] != "cpu" {
		return machineTime{}, errors.New("/proc/stat: its first line is not the cores' time")
	}
	ticks, err := integers(fields[1:9])
	if err != nil {
		return machineTime{}, fmt.Errorf("/proc/stat: %w", err)
	}
	all := int64(0)
	for _, n := range ticks {
		all += n
	}
	return machineTime{all: ticksToTime(all), busy: ticksToTime(all - ticks[3] - ticks[4])}, nil
}

// parseModel returns "" on architectures whose /proc/cpuinfo has no model name.
func parseModel(info string) string {
	for line := range strings.Lines(info) {
		if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return ""
}
