package main

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progressAfter is how long compiling may take before somebody at a terminal is told of it.
const progressAfter = time.Second

// progress tells a person at a terminal how far the plugins are. Elsewhere, and in less than a second, it says nothing.
type progress struct {
	w     io.Writer // nil: nobody watches
	timer *time.Timer

	mu       sync.Mutex
	done, of int
	showing  bool
}

// newProgress expects so many plugins.
func newProgress(stderr io.Writer, plugins int) *progress {
	p := &progress{of: plugins}
	if file, ok := stderr.(*os.File); ok && plugins > 0 {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.begin(file, progressAfter)
		}
	}
	return p
}

func (p *progress) begin(w io.Writer, after time.Duration) {
	p.w = w
	p.timer = time.AfterFunc(after, func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.showing = true
		p.show()
	})
}

// loaded is called for each plugin that is compiled, by any goroutine.
func (p *progress) loaded(string, int, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done++
	if p.showing {
		p.show()
	}
}

func (p *progress) show() {
	fmt.Fprintf(p.w, "\redge: compiling plugins, %d of %d done", p.done, p.of)
}

// end ends the line, if there is one.
func (p *progress) end() {
	if p.timer == nil {
		return
	}
	p.timer.Stop()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.showing {
		fmt.Fprintln(p.w)
	}
	p.showing = false
}
