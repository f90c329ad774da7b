package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"
)

// loading is a load that runs as a process of its own.
type loading struct {
	peer   *peer
	end    context.CancelFunc
	cmd    *exec.Cmd
	orders io.WriteCloser
	says   *bufio.Reader
	stderr bytes.Buffer
	ended  bool
}

// loadGrace is what a load may take beyond its time: for its connections, and for the last answers.
const loadGrace = time.Minute

// startLoad returns when all connections are open and no request was sent; the caller stops it. Each segment begins with
// begin and takes as long as said; all together, with what comes between them, do not take longer than most.
func (p *peer) startLoad(ctx context.Context, w workload, segment, most time.Duration) (*loading, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	plan, err := json.Marshal(p.plan(w, segment))
	if err != nil {
		return nil, err
	}
	ctx, end := context.WithTimeout(ctx, most+loadGrace)
	l := &loading{peer: p, end: end, cmd: command(ctx, self, loadCommand, string(plan))}
	l.cmd.Stderr = &l.stderr
	if l.orders, err = l.cmd.StdinPipe(); err == nil {
		var stdout io.ReadCloser
		if stdout, err = l.cmd.StdoutPipe(); err == nil {
			l.says = bufio.NewReader(stdout)
			err = l.cmd.Start()
		}
	}
	if err != nil {
		end()
		return nil, err
	}
	line, err := l.says.ReadString('\n')
	if err == nil && strings.TrimSpace(line) != connected {
		err = fmt.Errorf("got %q, want %q", line, connected)
	}
	if err != nil {
		return nil, l.failed(err)
	}
	return l, nil
}

func (p *peer) plan(w workload, long time.Duration) loadPlan {
	return loadPlan{Workload: w.name, Address: p.address, Prefixes: p.prefixes, Connections: w.connections, Rate: w.rate, For: long}
}

func (l *loading) begin() error {
	if _, err := io.WriteString(l.orders, "\n"); err != nil {
		return l.failed(err)
	}
	return nil
}

// result waits for that of all segments so far. The connections stay open.
func (l *loading) result() (loadResult, error) {
	var result loadResult
	line, err := l.says.ReadBytes('\n')
	if err == nil {
		err = json.Unmarshal(line, &result)
	}
	if err != nil {
		return result, l.failed(err)
	}
	return result, nil
}

// stop closes the connections and returns when the process has ended.
func (l *loading) stop() {
	if l.ended {
		return
	}
	l.ended = true
	l.orders.Close()
	_ = l.cmd.Wait() // what the load has to say, it has said
	l.end()
}

// failed stops the load and returns what it says of its error, which is better than err, how this came to be known.
func (l *loading) failed(err error) error {
	l.stop()
	if text := strings.TrimSpace(l.stderr.String()); text != "" {
		err = fmt.Errorf("load: %s", strings.TrimPrefix(text, "bench: "))
	}
	return l.peer.blame(err)
}
