package main

import "syscall"

// childAttributes keep a terminal's Ctrl-C from the child, which is ended in order instead, and have the kernel end
// it should its parent be killed. The kernel does so when the thread that started the child ends, so that thread must
// stay.
func childAttributes() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
