//go:build !linux

package socket

import "io"

// Pipe is for Linux.
type Pipe struct{}

// TakePipe has none to give here.
func TakePipe() *Pipe { return nil }

// PipesInUse is 0 here.
func PipesInUse() int { return 0 }

// Give is for Linux.
func (*Pipe) Give() {}

// Len is for Linux.
func (*Pipe) Len() int { return 0 }

// Fill is for Linux.
func (*Pipe) Fill(*Conn, int) (int, error) { return 0, io.EOF }

// Drain is for Linux.
func (*Pipe) Drain(*Conn) (int, error) { return 0, io.EOF }

// DrainSome is for Linux.
func (*Pipe) DrainSome(*Conn) (int, error) { return 0, io.EOF }

// TryDrain is for Linux.
func (*Pipe) TryDrain(*Conn) (int, error) { return 0, io.EOF }

// Read is for Linux.
func (*Pipe) Read([]byte) (int, error) { return 0, io.EOF }
