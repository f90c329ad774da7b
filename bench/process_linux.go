package main

import "syscall"

// childAttributes keep a terminal's Ctrl-C from the child, which is ended in order instead, and have the kernel end
// it should its parent be killed. The kernel does so when the thread that started the child ends, so that thread must
// stay. The child's own children, which only nginx has, then stay behind: only stop ends them.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}

func kill(pid int) error { return syscall.Kill(pid, syscall.SIGKILL) }

// openFilesLimit is how many files a child may open at most. Go's runtime and the peers' settings go up to it.
func openFilesLimit() (int, error) {
	var limit syscall.Rlimit
	err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit)
	return int(min(limit.Max, 1<<30)), err
}
