package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

const (
	loadCommand = "load"

	// answerGrace is how long the last answers may take; beyond it the load fails.
	answerGrace = 10 * time.Second

	readBytes     = 16 << 10
	expectedTimes = 1 << 14 // answers on a connection before its list of times grows
)

// loadPlan is the load's whole order, passed as a JSON argument.
type loadPlan struct {
	Workload string        `json:"workload"`
	Address  string        `json:"address"`
	Prefix   string        `json:"prefix"` // of the path, as the peer wants it
	For      time.Duration `json:"for"`
}

// loadResult is what the load says at its end. Every answer counted was right.
type loadResult struct {
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed"`
	P50      time.Duration `json:"p50"`
	P99      time.Duration `json:"p99"`
}

// runLoad is the load's process: a plan in, a result out.
func runLoad(ctx context.Context, plan string, stdout io.Writer) error {
	var p loadPlan
	if err := json.Unmarshal([]byte(plan), &p); err != nil {
		return err
	}
	result, err := p.run(ctx)
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(result)
}

// run keeps one request in flight on each of the workload's connections. It ends with the answers that are under way
// when the time is over, or, with an error, soon after the first wrong answer.
func (p loadPlan) run(ctx context.Context) (loadResult, error) {
	w, ok := workloadNamed(p.Workload)
	if !ok {
		return loadResult{}, fmt.Errorf("no workload %q", p.Workload)
	}
	request := w.request(p.Address, p.Prefix)
	clients := make([]*client, w.connections)
	for i := range clients {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", p.Address)
		if err != nil {
			return loadResult{}, err
		}
		defer conn.Close()
		defer context.AfterFunc(ctx, func() { conn.Close() })()
		clients[i] = &client{
			conn: conn, request: request, contentBytes: w.answerBytes,
			answers: bufio.NewReaderSize(conn, readBytes), took: make([]time.Duration, 0, expectedTimes),
		}
	}
	begin := time.Now()
	until := begin.Add(p.For)
	var failed atomic.Bool
	var all sync.WaitGroup
	for _, c := range clients {
		if err := c.conn.SetDeadline(until.Add(answerGrace)); err != nil {
			return loadResult{}, err
		}
	}
	for _, c := range clients {
		all.Go(func() {
			if c.err = c.ask(until, &failed); c.err != nil {
				failed.Store(true)
			}
		})
	}
	all.Wait()
	elapsed := time.Since(begin)
	var took []time.Duration
	for _, c := range clients {
		if c.err != nil {
			return loadResult{}, c.err
		}
		took = append(took, c.took...)
	}
	if len(took) == 0 {
		return loadResult{}, errors.New("no request was sent")
	}
	slices.Sort(took)
	return loadResult{Requests: len(took), Elapsed: elapsed, P50: percentile(took, 50), P99: percentile(took, 99)}, nil
}

// client is one connection: cheap, since it shares the cores with what is measured.
type client struct {
	conn         net.Conn
	answers      *bufio.Reader
	request      []byte
	contentBytes int
	took         []time.Duration
	err          error
}

func (c *client) ask(until time.Time, failed *atomic.Bool) error {
	for at := time.Now(); at.Before(until) && !failed.Load(); {
		if _, err := c.conn.Write(c.request); err != nil {
			return fmt.Errorf("request %d of a connection: %w", len(c.took)+1, err)
		}
		if err := readAnswer(c.answers, c.contentBytes); err != nil {
			return fmt.Errorf("answer %d of a connection: %w", len(c.took)+1, err)
		}
		now := time.Now()
		c.took = append(c.took, now.Sub(at))
		at = now
	}
	return nil
}

// percentile returns the smallest value that at least p percent of sorted, which is not empty, do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
