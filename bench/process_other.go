//go:build !linux

package main

import (
	"errors"
	"syscall"
)

func childAttributes() *syscall.SysProcAttr { return nil }

func kill(int) error { return errors.ErrUnsupported }

func openFilesLimit() (int, error) { return 0, errors.ErrUnsupported }
