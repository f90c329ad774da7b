package proxy

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/edge-proxy/edge/plugins/proxywasm"
)

const (
	redisTimeout        = 5 * time.Second // of a command, unless its cluster says otherwise; and of connecting
	maxRedisTimeout     = time.Minute     // that a cluster may say
	maxRedisCommands    = 256             // of a plugin in flight
	maxRedisUnsent      = 16 << 20        // bytes of commands that wait to be sent, beyond the first
	maxRedisReply       = 10 << 20        // bytes
	maxRedisClusters    = 64              // that a guest may name
	maxRedisDatabases   = 16              // that it may use, each on a connection of its own
	maxRedisDatabase    = 1 << 16         // the highest number of one
	redisPort           = "6379"
	redisClusterDefault = -1 // no database of its own
)

var (
	errRedisClosed = errors.New("proxy: redis: the plugin is closed")
	errRedisFull   = fmt.Errorf("proxy: redis: full (%d commands in flight, or %d MiB not sent yet)", maxRedisCommands, maxRedisUnsent>>20)
	errRedisLarge  = fmt.Errorf("proxy: redis: the reply is larger than %d MiB", maxRedisReply>>20)
	errRedisDown   = errors.New("proxy: redis: not reachable a moment ago")
	errRedisName   = errors.New("proxy: redis: the cluster has parameters that are wrong, or is one too many")
)

// redisServer is what a redis_url says.
type redisServer struct {
	address, host  string
	tls            bool
	user, password string
	database       int
	roots          *x509.CertPool // nil: those of the system
}

// parseRedisURL reads redis://[user:password@]host[:port][/db], and rediss:// for TLS. The error tells nothing of it.
func parseRedisURL(text string) (s redisServer, err error) {
	wrong := errors.New("proxy: redis: no redis://[user:password@]host[:port][/db]")
	u, err := url.Parse(text)
	if err != nil || !visibleASCII(text) || u.Scheme != "redis" && u.Scheme != "rediss" || u.Hostname() == "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
		return s, wrong
	}
	s.host, s.tls = u.Hostname(), u.Scheme == "rediss"
	port := u.Port()
	if port == "" {
		port = redisPort
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return s, wrong
	}
	s.address = net.JoinHostPort(s.host, port)
	if u.User != nil {
		s.user = u.User.Username()
		if s.password, _ = u.User.Password(); s.password == "" {
			return s, wrong
		}
	}
	if path := strings.TrimPrefix(u.Path, "/"); path != "" {
		s.database, err = redisDatabase(path)
	}
	return s, err
}

// redisDatabase reads a database's number.
func redisDatabase(text string) (int, error) {
	n, err := strconv.ParseUint(text, 10, 32)
	if err != nil || n > maxRedisDatabase {
		return 0, errRedisName
	}
	return int(n), nil
}

// redis is the Redis of one Proxy-Wasm plugin. A guest's commands and the replies to them pass as they are; all of one
// database share a connection, in order.
type redis struct {
	server redisServer
	plugin string
	grace  time.Duration // redisGrace
	log    *slog.Logger
	ctx    context.Context // ends with close
	cancel context.CancelFunc
	ending sync.WaitGroup // commands whose done has not returned, and the goroutines of connections

	mu       sync.Mutex
	closed   bool
	clusters map[string]redisCluster
	pipes    map[int]*redisPipe // by database
	inFlight int                // commands; those that the guest has given up, but the server has not answered, too
}

// redisCluster is what a guest has said of a cluster.
type redisCluster struct {
	database int
	timeout  time.Duration
}

// newRedis makes a plugin's Redis. Nothing is connected before the first command.
func newRedis(config Plugin, log *slog.Logger) (*redis, error) {
	server, err := parseRedisURL(config.RedisURL.Reveal())
	if err != nil {
		return nil, err
	}
	r := &redis{server: server, plugin: config.Name, grace: redisGrace, log: log, clusters: map[string]redisCluster{}, pipes: map[int]*redisPipe{}}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	return r, nil
}

// close ends the connections, and waits until every command under way has ended.
func (r *redis) close() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
	r.cancel()
	r.ending.Wait()
}

// Init notes a cluster's database and timeout. All clusters are the one server of redis_url, with its credentials.
func (r *redis) Init(c proxywasm.RedisCluster) error {
	name, database, err := redisClusterName(c.Cluster)
	if err != nil {
		return err
	}
	if database == redisClusterDefault {
		database = r.server.database
	}
	cluster := redisCluster{database, redisTimeout}
	if c.Timeout > 0 {
		cluster.timeout = min(c.Timeout, maxRedisTimeout)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.clusters[name]; !known && len(r.clusters) == maxRedisClusters {
		return errRedisName
	}
	r.clusters[name] = cluster
	return nil
}

// redisClusterName takes a cluster apart as a guest writes it: a name and, after ?, perhaps db=1. Envoy has other
// parameters, which mean nothing here.
func redisClusterName(cluster string) (name string, database int, err error) {
	name, query, _ := strings.Cut(cluster, "?")
	values, err := url.ParseQuery(query)
	if err != nil {
		return "", 0, errRedisName
	}
	if !values.Has("db") {
		return name, redisClusterDefault, nil
	}
	database, err = redisDatabase(values.Get("db"))
	return name, database, err
}

// Call sends commands and returns at once. It implements proxywasm.Redis, as Init does.
func (r *redis) Call(ctx context.Context, c proxywasm.RedisCall, done func(proxywasm.RedisResult)) error {
	replies, refused, err := respCommands(c.Query)
	if err != nil {
		return fmt.Errorf("%w: %w", proxywasm.ErrBadCall, err)
	}
	name, database, err := redisClusterName(c.Cluster)
	if err != nil {
		return fmt.Errorf("%w: %w", proxywasm.ErrBadCall, err)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	cluster, known := r.clusters[name]
	switch {
	case r.closed:
		return errRedisClosed
	case !known:
		return proxywasm.ErrUnknownUpstream
	case r.inFlight >= maxRedisCommands:
		return errRedisFull
	case refused != "":
		r.ending.Go(func() {
			no := "-ERR edge does not pass on " + refused + ": the connection is shared\r\n"
			done(proxywasm.RedisResult{Reply: []byte(strings.Repeat(no, replies))})
		})
		return nil
	}
	if database != redisClusterDefault {
		cluster.database = database
	}
	p := r.pipes[cluster.database]
	if p == nil {
		if len(r.pipes) == maxRedisDatabases {
			return errRedisFull
		}
		p = &redisPipe{redis: r, database: cluster.database}
		r.pipes[cluster.database] = p
	}
	if err := p.ready(len(c.Query)); err != nil {
		return err
	}
	q := &redisQuery{redis: r, text: c.Query, replies: replies, done: done, giveUp: time.Now().Add(cluster.timeout + r.grace)}
	r.inFlight++
	r.ending.Add(1)
	ctx, q.cancel = context.WithTimeout(ctx, cluster.timeout)
	q.stop = context.AfterFunc(ctx, func() { q.end(proxywasm.RedisResult{Err: ctx.Err()}) })
	p.send(q)
	return nil
}

// redisQuery is what a guest has sent in one call, until the replies to it are there or its connection is not.
type redisQuery struct {
	redis   *redis
	text    []byte // until it is handed to the connection
	replies int
	giveUp  time.Time // when its connection is taken for dead
	done    func(proxywasm.RedisResult)
	cancel  context.CancelFunc
	stop    func() bool // stops ctx from ending it
	ended   atomic.Bool
}

// end tells the guest, once.
func (q *redisQuery) end(result proxywasm.RedisResult) {
	if !q.ended.CompareAndSwap(false, true) {
		return
	}
	q.cancel()
	q.done(result)
	q.redis.ending.Done()
}

// leave ends a query in a goroutine of its own: a guest takes its time, and others wait for the caller.
func (q *redisQuery) leave(result proxywasm.RedisResult) {
	if q.stop() { // else it ends, or has ended, by its context
		go q.end(result)
	}
}
