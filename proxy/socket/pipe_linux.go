package socket

import (
	"errors"
	"io"
	"sync"
	"syscall"
)

const (
	keptPipes = 16        // between two uses
	pipeBytes = 256 << 10 // of one. The kernel counts pieces of pages, so small segments fill it earlier
)

// Pipe is a pipe in the kernel through which content goes from one connection to another without being copied to memory
// of this process and back (splice(2)). One goroutine uses it at a time; it does so for one direction, and fills it only
// when it is empty.
type Pipe struct {
	out, in int // the ends that are read and written
	held    int // bytes in it

	// Of the call under way.
	most   int
	failed syscall.Errno
	fill   func(fd uintptr) bool // bound once
	some   func(fd uintptr) bool
	try    func(fd uintptr) bool
}

// Of linux/fcntl.h and linux/splice.h. The flags make a call fail rather than wait, and move pages.
const (
	setPipeSize = 1031
	spliceFlags = 0x2 | 0x1
)

var pipes struct {
	mu      sync.Mutex
	inUse   int
	kept    []*Pipe
	useless bool // splice fails here, whatever it is given
}

// TakePipe returns an empty pipe, or nil if there is none to be had: too many are in use, or the process has no
// descriptors left, or its user no pages for pipes, or Fill has failed with ErrNoSplice before. Give it back with Give.
func TakePipe() *Pipe {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	if pipes.inUse == MostPipes || pipes.useless {
		return nil
	}
	if n := len(pipes.kept); n > 0 {
		p := pipes.kept[n-1]
		pipes.kept[n-1], pipes.kept = nil, pipes.kept[:n-1]
		pipes.inUse++
		return p
	}
	p := newPipe()
	if p != nil {
		pipes.inUse++
	}
	return p
}

// PipesInUse is how many were taken and not given back.
func PipesInUse() int {
	pipes.mu.Lock()
	defer pipes.mu.Unlock()
	return pipes.inUse
}

func newPipe() *Pipe {
	var ends [2]int
	if syscall.Pipe2(ends[:], syscall.O_NONBLOCK|syscall.O_CLOEXEC) != nil {
		return nil
	}
	p := &Pipe{out: ends[0], in: ends[1]}
	if _, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(p.in), setPipeSize, pipeBytes); errno != 0 {
		p.close() // the user has too many (pipe(7)); a small one costs more calls than it saves
		return nil
	}
	p.fill, p.some, p.try = p.fillOnce, p.drainSome, p.drainOnce
	return p
}

// Give gives the pipe back, with what is in it.
func (p *Pipe) Give() {
	pipes.mu.Lock()
	pipes.inUse--
	keep := p.held == 0 && len(pipes.kept) < keptPipes
	if keep {
		pipes.kept = append(pipes.kept, p)
	}
	pipes.mu.Unlock()
	if !keep {
		p.close()
	}
}

func (p *Pipe) close() {
	syscall.Close(p.out)
	syscall.Close(p.in)
}

// Len is how many bytes are in the pipe.
func (p *Pipe) Len() int { return p.held }

// Fill moves what c has received, most bytes at most and 256 KiB, into the pipe, which is empty. Like c.Read it waits until
// there is something, and has its errors, io.EOF included, or ErrNoSplice.
func (p *Pipe) Fill(c *Conn, most int) (int, error) {
	c.in.mu.Lock()
	defer c.in.mu.Unlock()
	p.most, p.failed = min(most, pipeBytes), 0
	before := p.held
	err := c.raw.Read(p.fill)
	switch {
	case noSplice(p.failed):
		pipes.mu.Lock()
		pipes.useless = true
		pipes.mu.Unlock()
		return 0, ErrNoSplice
	case err != nil || p.failed != 0:
		return 0, c.failure("splice", p.failed, err)
	case p.held == before:
		return 0, io.EOF
	}
	return p.held - before, nil
}

// noSplice reports whether errno says that there is no such call: for this kind of connection, in this kernel, or for this
// process, as a container's filter may have it. A TCP connection that is read fails with none of these otherwise.
func noSplice(errno syscall.Errno) bool {
	return errno == syscall.EINVAL || errno == syscall.ENOSYS || errno == syscall.EPERM
}

func (p *Pipe) fillOnce(fd uintptr) bool {
	n, moved := p.move(fd, p.in, p.most)
	p.held += n
	return moved
}

// move is one splice; false: it would have to wait. What fails otherwise is in p.failed.
func (p *Pipe) move(from uintptr, to, most int) (n int, moved bool) {
	for {
		n, errno := splice(from, to, most)
		switch errno {
		case 0:
			return n, true
		case syscall.EINTR:
		case syscall.EAGAIN:
			return 0, false
		default:
			p.failed = errno
			return 0, true
		}
	}
}

// Drain moves all that is in the pipe to c. Like c.Write it waits until there is room, and has its errors; what was not
// sent then is still in the pipe.
func (p *Pipe) Drain(c *Conn) (sent int, err error) {
	for p.held > 0 && err == nil {
		var n int
		n, err = p.DrainSome(c)
		sent += n
	}
	return sent, err
}

// DrainSome is Drain that returns when anything was sent: for who wants to know that c takes something.
func (p *Pipe) DrainSome(c *Conn) (int, error) { return p.send(c, p.some) }

// TryDrain is Drain that does not wait: what finds no room stays in the pipe.
func (p *Pipe) TryDrain(c *Conn) (int, error) { return p.send(c, p.try) }

func (p *Pipe) send(c *Conn, once func(fd uintptr) bool) (int, error) {
	c.out.mu.Lock()
	defer c.out.mu.Unlock()
	before := p.held
	p.failed = 0
	err := c.raw.Write(once)
	if err != nil || p.failed != 0 {
		return before - p.held, c.failure("splice", p.failed, err)
	}
	return before - p.held, nil
}

func (p *Pipe) drainOnce(fd uintptr) bool {
	for p.held > 0 && p.failed == 0 && p.drainSome(fd) {
	}
	return true
}

func (p *Pipe) drainSome(fd uintptr) bool {
	if p.held == 0 {
		return true
	}
	n, moved := p.move(uintptr(p.out), int(fd), p.held)
	p.held -= n
	return moved
}

// Read takes bytes out of the pipe, for who needs them in memory after all. It returns io.EOF when there are none.
func (p *Pipe) Read(b []byte) (int, error) {
	if p.held == 0 {
		return 0, io.EOF
	}
	if len(b) == 0 {
		return 0, nil
	}
	for {
		n, err := syscall.Read(p.out, b)
		if err == nil {
			p.held -= n
			return n, nil
		}
		if !errors.Is(err, syscall.EINTR) {
			return 0, err
		}
	}
}
