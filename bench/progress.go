package main

import (
	"fmt"
	"io"
	"os"
)

// progress is a line that is rewritten as the run goes on. It is silent where there is no terminal.
type progress struct {
	w     io.Writer // nil: silent
	done  int
	turns int
}

func newProgress(w io.Writer, turns int) *progress {
	p := &progress{turns: turns}
	if file, ok := w.(*os.File); ok {
		if info, err := file.Stat(); err == nil && info.Mode()&os.ModeCharDevice != 0 {
			p.w = w
		}
	}
	return p
}

// clearLine goes to the line's begin and erases it (ECMA-48, EL).
const clearLine = "\r\x1b[K"

// next begins a turn.
func (p *progress) next(what string) {
	p.done++
	p.say(what)
}

func (p *progress) say(what string) {
	if p.w != nil {
		fmt.Fprintf(p.w, clearLine+"%d/%d %s", p.done, p.turns, what)
	}
}

func (p *progress) clear() {
	if p.w != nil {
		fmt.Fprint(p.w, clearLine)
	}
}
