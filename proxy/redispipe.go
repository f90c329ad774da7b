package proxy

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/edge-proxy/edge/plugins/proxywasm"
)

const (
	redisGrace = 5 * time.Second        // after a query's timeout, for its reply to come all the same
	redisPause = 250 * time.Millisecond // after a failed attempt to connect
	redisSpare = 64 << 10               // the largest buffer that is kept for the next write
)

// redisPipe is one database of a Redis: a connection, made when there is something to send and it is not there, and the
// queries on it. A query that broke off with its connection is not sent again, since it may have been carried out.
type redisPipe struct {
	redis    *redis
	database int

	// Guarded by redis.mu.
	running bool          // its goroutine is there
	conn    net.Conn      // nil: not connected yet
	waiting []*redisQuery // in the order sent
	unsent  []byte
	writing int           // bytes that are being written
	kick    chan struct{} // one token: there is something unsent
	pause   time.Time     // until when no attempt to connect is made
	down    bool          // the last attempt failed, and the log says so
}

// ready says why a query of so many bytes cannot be sent now, or nil.
func (p *redisPipe) ready(size int) error {
	if !p.running && time.Now().Before(p.pause) {
		return errRedisDown
	}
	before := len(p.unsent) + p.writing
	if p.conn == nil {
		for _, q := range p.waiting {
			before += len(q.text)
		}
	}
	if before > 0 && before+size > maxRedisUnsent {
		return errRedisFull
	}
	return nil
}

// send puts a query behind the others.
func (p *redisPipe) send(q *redisQuery) {
	p.waiting = append(p.waiting, q)
	switch {
	case !p.running:
		p.running = true
		p.kick = make(chan struct{}, 1)
		kick := p.kick
		p.redis.ending.Go(func() { p.run(kick) })
	case p.conn != nil:
		p.hand(q)
		if len(p.waiting) == 1 {
			_ = p.conn.SetReadDeadline(q.giveUp) // it fails on a closed connection only, where the read fails too
		}
	}
}

// hand gives a query's bytes to the writer.
func (p *redisPipe) hand(q *redisQuery) {
	p.unsent = append(p.unsent, q.text...)
	q.text = nil
	select {
	case p.kick <- struct{}{}:
	default:
	}
}

// run connects, and then reads replies until the connection is no more.
func (p *redisPipe) run(kick <-chan struct{}) {
	r := p.redis
	conn, replies, err := p.connect()
	p.connected(err)
	if err == nil {
		closing := context.AfterFunc(r.ctx, func() { conn.Close() })
		gone := make(chan struct{})
		r.ending.Go(func() { p.write(conn, kick, gone) })
		err = p.open(conn)
		for err == nil {
			err = p.read(replies)
		}
		closing()
		conn.Close()
		close(gone)
	}
	r.mu.Lock()
	lost := p.waiting
	r.inFlight -= len(lost)
	p.running, p.conn, p.waiting, p.unsent, p.writing = false, nil, nil, nil, 0
	if p.down {
		p.pause = time.Now().Add(redisPause)
	}
	r.mu.Unlock()
	for _, q := range lost {
		q.leave(proxywasm.RedisResult{Err: fmt.Errorf("proxy: redis: no connection: %w", err)})
	}
}

// open hands what waits to the writer, but for what its guest has given up meanwhile.
func (p *redisPipe) open(conn net.Conn) error {
	p.redis.mu.Lock()
	defer p.redis.mu.Unlock()
	all := p.waiting
	p.waiting = nil
	for _, q := range all {
		if q.ended.Load() {
			p.redis.inFlight--
			continue
		}
		p.waiting = append(p.waiting, q)
		p.hand(q)
	}
	p.conn = conn
	return p.await()
}

// await bounds the read that comes next by the query that it is for; without one, by nothing.
func (p *redisPipe) await() error {
	var until time.Time
	if len(p.waiting) > 0 {
		until = p.waiting[0].giveUp
	}
	return p.conn.SetReadDeadline(until)
}

// read takes the replies to one query off the connection.
func (p *redisPipe) read(replies *replyReader) error {
	if _, err := replies.from.Peek(1); err != nil {
		return err
	}
	p.redis.mu.Lock()
	if len(p.waiting) == 0 {
		p.redis.mu.Unlock()
		return errRESP // nothing was asked
	}
	q := p.waiting[0]
	p.redis.mu.Unlock()
	reply, err := replies.next(q.replies)
	if err != nil && !errors.Is(err, errRedisLarge) {
		return err
	}
	p.redis.mu.Lock()
	p.waiting[0] = nil
	p.waiting = p.waiting[1:]
	p.redis.inFlight--
	failure := p.await()
	if len(p.waiting) == 0 && replies.from.Buffered() > 0 {
		failure = errRESP // more than was asked for
	}
	p.redis.mu.Unlock()
	q.leave(proxywasm.RedisResult{Reply: reply, Err: err})
	return failure
}

// write sends what is unsent, until gone is closed.
func (p *redisPipe) write(conn net.Conn, kick, gone <-chan struct{}) {
	r := p.redis
	var spare []byte
	for {
		select {
		case <-gone:
			return
		case <-kick:
		}
		r.mu.Lock()
		if p.conn != conn { // it was the last token of a connection that is no more
			r.mu.Unlock()
			return
		}
		out := p.unsent
		p.unsent, p.writing = spare[:0], len(out)
		r.mu.Unlock()
		_ = conn.SetWriteDeadline(time.Now().Add(redisTimeout + redisGrace)) // as in send
		if _, err := conn.Write(out); err != nil {
			conn.Close() // so that the read ends, too
			return
		}
		if spare = out; cap(spare) > redisSpare {
			spare = nil
		}
		r.mu.Lock()
		if p.conn == conn {
			p.writing = 0
		}
		r.mu.Unlock()
	}
}

// connect opens a connection, and says who it is for and which database is meant.
func (p *redisPipe) connect() (net.Conn, *replyReader, error) {
	s := &p.redis.server
	ctx, cancel := context.WithTimeout(p.redis.ctx, redisTimeout)
	defer cancel()
	dial := (&net.Dialer{}).DialContext
	if s.tls {
		dial = (&tls.Dialer{Config: &tls.Config{ServerName: s.host, RootCAs: s.roots, MinVersion: tls.VersionTLS12}}).DialContext
	}
	conn, err := dial(ctx, "tcp", s.address)
	if err != nil {
		return nil, nil, err
	}
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	replies := &replyReader{from: bufio.NewReaderSize(conn, 16<<10), most: maxRedisReply}
	if s.password != "" {
		words := []string{"AUTH", s.user, s.password}
		if s.user == "" { // before version 6 there was none
			words = []string{"AUTH", s.password}
		}
		err = greet(conn, replies, words...)
	}
	if err == nil && p.database != 0 {
		err = greet(conn, replies, "SELECT", strconv.Itoa(p.database))
	}
	if !stop() && err == nil {
		err = ctx.Err()
	}
	if err != nil {
		conn.Close()
		return nil, nil, err
	}
	return conn, replies, nil
}

// greet sends a command that is to be answered +OK. Of another answer only the first word is told: some servers repeat
// what they were sent.
func greet(conn net.Conn, replies *replyReader, words ...string) error {
	if _, err := conn.Write(respCommand(words...)); err != nil {
		return err
	}
	reply, err := replies.next(1)
	if err == nil && reply[0] != '+' {
		code, _, _ := strings.Cut(strings.TrimSpace(string(reply[1:])), " ")
		err = fmt.Errorf("%s was answered %s", words[0], quoted(code))
	}
	return err
}

// connected notes whether an attempt to connect went well. The log is told of changes.
func (p *redisPipe) connected(err error) {
	r := p.redis
	r.mu.Lock()
	before := p.down
	p.down = err != nil
	r.mu.Unlock()
	name, database := slog.String(keyPlugin, r.plugin), slog.Int(keyDatabase, p.database)
	switch {
	case err != nil && !before && r.ctx.Err() == nil:
		r.log.LogAttrs(context.Background(), slog.LevelWarn, "redis of a plugin not reachable", name, database, slog.String(keyError, err.Error()))
	case err == nil && before:
		r.log.LogAttrs(context.Background(), slog.LevelInfo, "redis of a plugin reachable again", name, database)
	}
}
