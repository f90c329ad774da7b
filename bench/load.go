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

	dialTimeout = 10 * time.Second // of each connection
	readBytes   = 4 << 10          // of a connection; larger content goes elsewhere (take)

	connected = "connected" // what the load says once all its connections are open
)

// loadPlan is the load's whole order, passed as a JSON argument.
type loadPlan struct {
	Workload    string        `json:"workload"`
	Address     string        `json:"address"`
	Prefixes    []string      `json:"prefixes"` // of the path, as the peer wants it; requests take them in turn
	Connections int           `json:"connections"`
	Rate        int           `json:"rate"` // a second; 0: closed loop
	For         time.Duration `json:"for"`  // each segment
}

// loadResult is what the load says behind each segment. Every answer counted was right.
type loadResult struct {
	Requests int           `json:"requests"`
	Elapsed  time.Duration `json:"elapsed"` // of all segments, until the last was answered; with a rate, until it was sent
	InFlight int           `json:"in_flight"`
	P50      time.Duration `json:"p50"` // of requests, or of events that say when they were sent
	P99      time.Duration `json:"p99"`
}

// runLoad is the load's process. It says when its connections are open. On each line on stdin it does a segment and says the
// result of all so far, and it closes them when stdin ends: so whoever looks at the proxy in between sees what requests cost,
// not connections.
func runLoad(ctx context.Context, plan string, stdin io.Reader, stdout io.Writer) error {
	var p loadPlan
	if err := json.Unmarshal([]byte(plan), &p); err != nil {
		return err
	}
	l, err := p.connect(ctx)
	if err != nil {
		return err
	}
	defer l.close()
	if _, err := fmt.Fprintln(stdout, connected); err != nil {
		return err
	}
	orders := bufio.NewReader(stdin)
	for begun := false; ; begun = true {
		if _, err := orders.ReadString('\n'); err != nil {
			if begun && errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("want the order to begin: %w", err)
		}
		result, err := l.run()
		if err != nil {
			return err
		}
		if err := json.NewEncoder(stdout).Encode(result); err != nil {
			return err
		}
	}
}

// load is a plan with its connections.
type load struct {
	plan     loadPlan
	workload workload
	requests [][]byte // by prefix
	clients  []*client
	elapsed  time.Duration // of all segments
	failed   atomic.Bool   // and all shall end
}

// client is one connection: cheap, since it shares the cores with what is measured.
type client struct {
	conn         net.Conn
	unwatch      func() bool // of the context that closes it
	answers      *bufio.Reader
	contentBytes int
	events       *eventClock // nil: answers are timed
	took         []time.Duration
	err          error

	due atomic.Int64 // open loop: when the request under way should have been sent, from the begin
}

// connect opens the connections, which close with ctx at the latest.
func (p loadPlan) connect(ctx context.Context) (*load, error) {
	w, ok := workloadNamed(p.Workload)
	if !ok {
		return nil, fmt.Errorf("no workload %q", p.Workload)
	}
	if len(p.Prefixes) == 0 || p.Connections < 1 {
		return nil, errors.New("a load wants a prefix and a connection")
	}
	l := &load{plan: p, workload: w}
	for _, prefix := range p.Prefixes {
		l.requests = append(l.requests, w.request(p.Address, prefix))
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	for range p.Connections {
		conn, err := dialer.DialContext(ctx, "tcp", p.Address)
		if err != nil {
			l.close()
			return nil, err
		}
		c := &client{conn: conn, contentBytes: w.answerBytes, answers: bufio.NewReaderSize(conn, readBytes)}
		c.unwatch = context.AfterFunc(ctx, func() { conn.Close() })
		if w.apart > 0 {
			c.events = &eventClock{}
		}
		l.clients = append(l.clients, c)
	}
	return l, nil
}

func (l *load) close() {
	for _, c := range l.clients {
		c.unwatch()
		c.conn.Close()
	}
}

// run loads for as long as planned, which is one segment, and waits for the answers that are under way then. It returns the
// result of all segments so far; with a rate there is one. With an error it ends soon after the first wrong answer.
func (l *load) run() (loadResult, error) {
	begin := time.Now()
	for _, c := range l.clients {
		if err := c.conn.SetDeadline(begin.Add(l.plan.For + answerGrace)); err != nil {
			return loadResult{}, err
		}
	}
	send := l.closedLoop
	if l.plan.Rate > 0 {
		send = l.openLoop
	}
	result, err := send(begin)
	if err != nil {
		return result, err
	}
	l.elapsed += result.Elapsed
	result.Elapsed = l.elapsed
	var took, events []time.Duration
	for _, c := range l.clients {
		took = append(took, c.took...)
		if c.events != nil {
			events = append(events, c.events.took...)
		}
	}
	if result.Requests = len(took); result.Requests == 0 {
		return result, errors.New("no request was sent")
	}
	if l.workload.apart > 0 {
		took = events
	}
	slices.Sort(took)
	result.P50, result.P99 = percentile(took, 50), percentile(took, 99)
	return result, nil
}

// closedLoop keeps one request in flight on each connection.
func (l *load) closedLoop(begin time.Time) (loadResult, error) {
	until := begin.Add(l.plan.For)
	var all sync.WaitGroup
	for i, c := range l.clients {
		all.Go(func() {
			if c.err = l.ask(c, i, until); c.err != nil {
				l.failed.Store(true)
			}
		})
	}
	all.Wait()
	result := loadResult{Elapsed: time.Since(begin), InFlight: len(l.clients)}
	for _, c := range l.clients {
		if c.err != nil {
			return result, c.err
		}
	}
	return result, nil
}

func (l *load) ask(c *client, first int, until time.Time) error {
	at := time.Now()
	for n := 0; n == 0 || at.Before(until) && !l.failed.Load(); n++ {
		if _, err := c.conn.Write(l.requests[(first+n)%len(l.requests)]); err != nil {
			return fmt.Errorf("request %d of a connection: %w", n+1, err)
		}
		if err := c.answer(); err != nil {
			return err
		}
		now := time.Now()
		c.took = append(c.took, now.Sub(at))
		at = now
	}
	return nil
}

func (c *client) answer() error {
	if err := readAnswer(c.answers, c.contentBytes, c.events); err != nil {
		return fmt.Errorf("answer %d of a connection: %w", len(c.took)+1, err)
	}
	return nil
}

// percentile returns the smallest value that at least p percent of sorted, which is not empty, do not exceed.
func percentile(sorted []time.Duration, p float64) time.Duration {
	rank := int(math.Ceil(p / 100 * float64(len(sorted))))
	return sorted[max(rank, 1)-1]
}
