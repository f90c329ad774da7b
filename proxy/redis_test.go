package proxy

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/plugins/proxywasm"
)

// redisClient is a plugin's Redis with a cluster named r, and what its log says.
type redisClient struct {
	*redis
	t   testing.TB
	log *safeLog
}

// safeLog is text that several write.
type safeLog struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *safeLog) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *safeLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func redisOf(t testing.TB, url Secret, timeout time.Duration) *redisClient {
	t.Helper()
	log := &safeLog{}
	r, err := newRedis(Plugin{Name: "p", RedisURL: url}, slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.close)
	c := &redisClient{r, t, log}
	c.init("r", timeout)
	return c
}

func (c *redisClient) init(cluster string, timeout time.Duration) {
	c.t.Helper()
	if err := c.Init(proxywasm.RedisCluster{Cluster: cluster, Username: "guest", Password: "of the guest's", Timeout: timeout}); err != nil {
		c.t.Fatal(err)
	}
}

// begin sends a query; what it returns waits for the result.
func (c *redisClient) begin(ctx context.Context, cluster string, query []byte) func() (string, error) {
	c.t.Helper()
	results := make(chan proxywasm.RedisResult, 2)
	if err := c.Call(ctx, proxywasm.RedisCall{Cluster: cluster, Query: query}, func(r proxywasm.RedisResult) { results <- r }); err != nil {
		return func() (string, error) { return "", err }
	}
	return func() (string, error) {
		select {
		case r := <-results:
			return string(r.Reply), r.Err
		case <-time.After(20 * time.Second):
			c.t.Error("done is not called")
			return "", errRedisClosed
		}
	}
}

// ask sends one command to cluster r and waits.
func (c *redisClient) ask(words ...string) (string, error) {
	c.t.Helper()
	return c.begin(c.t.Context(), "r", respCommand(words...))()
}

func (c *redisClient) want(want string, words ...string) {
	c.t.Helper()
	if got, err := c.ask(words...); got != want || err != nil {
		c.t.Errorf("%.60q: got %.60q, %v, want %.60q", words, got, err, want)
	}
}

// idle waits until nothing is in flight.
func (c *redisClient) idle() {
	c.t.Helper()
	for end := time.Now().Add(5 * time.Second); ; {
		c.mu.Lock()
		n := c.inFlight
		c.mu.Unlock()
		if n == 0 {
			return
		}
		if time.Now().After(end) {
			c.t.Errorf("%d commands are in flight", n)
			return
		}
		<-time.After(time.Millisecond)
	}
}

func TestRedisRepliesAsTheyAre(t *testing.T) {
	c := redisOf(t, StartRedis(t).URL("", ""), 0)
	c.want("+OK\r\n", "SET", "a", "b\r\n\x00c")
	c.want("$5\r\nb\r\n\x00c\r\n", "get", "a")
	c.want("$-1\r\n", "GET", "none")
	c.want("$0\r\n\r\n", "ECHO", "")
	c.want(":1\r\n", "INCR", "n")
	c.want(":3\r\n", "RPUSH", "l", "x", "yy", "")
	c.want("*3\r\n$1\r\nx\r\n$2\r\nyy\r\n$0\r\n\r\n", "LRANGE", "l", "0", "-1")
	c.want("*0\r\n", "LRANGE", "none", "0", "-1")
	c.want("*2\r\n$5\r\nb\r\n\x00c\r\n$-1\r\n", "MGET", "a", "none")
	c.want("-WRONGTYPE Operation against a key holding the wrong kind of value\r\n", "INCR", "l")
	c.want("*3\r\n:1\r\n*2\r\n$1\r\nz\r\n*1\r\n*0\r\n+fine\r\n", "EVAL", "return {1,{'z',{{}}},{ok='fine'}}", "0")
	c.want("*-1\r\n", "LPOP", "none", "2")
	long := strings.Repeat("x", 100<<10)
	c.want("+"+long+"\r\n", "EVAL", "return {ok=string.rep('x',100*1024)}", "0")
	c.want("+OK\r\n", "SET", "long", long)
	c.want(fmt.Sprintf("$%d\r\n%s\r\n", len(long), long), "GET", "long")
	c.idle()
}

func TestRedisPipelines(t *testing.T) {
	c := redisOf(t, StartRedis(t).URL("", ""), 0)
	all := append(append(respCommand("SET", "a", "1"), respCommand("GET", "a")...), respCommand("LPUSH", "a", "x")...)
	if got, err := c.begin(t.Context(), "r", all)(); err != nil || !strings.HasPrefix(got, "+OK\r\n$1\r\n1\r\n-WRONGTYPE ") {
		t.Errorf("three commands: got %q, %v", got, err)
	}
	all = append(append(append(respCommand("multi"), respCommand("INCR", "b")...), respCommand("INCR", "b")...), respCommand("EXEC")...)
	if got, err := c.begin(t.Context(), "r", all)(); err != nil || got != "+OK\r\n+QUEUED\r\n+QUEUED\r\n*2\r\n:1\r\n:2\r\n" {
		t.Errorf("a transaction: got %q, %v", got, err)
	}
	var sum atomic.Int64
	var all50 sync.WaitGroup
	for range 50 { // many at once, in order on one connection
		all50.Go(func() {
			for range 20 {
				got, err := c.ask("INCR", "c")
				var n int64
				if _, bad := fmt.Sscanf(got, ":%d\r\n", &n); bad != nil || err != nil {
					t.Errorf("got %q, %v", got, err)
				}
				sum.Add(n)
			}
		})
	}
	all50.Wait()
	if want := int64(1000 * 1001 / 2); sum.Load() != want {
		t.Errorf("the counts add up to %d, want %d", sum.Load(), want)
	}
	c.idle()
}

func TestRedisRefusesWhatIsNotShared(t *testing.T) {
	c := redisOf(t, StartRedis(t).URL("", ""), 0)
	for _, line := range []string{
		"SELECT 1", "subscribe x", "BLPOP l 0", "MULTI", "EXEC", "Client REPLY OFF", "HELLO 3", "QUIT", "script debug YES",
		"XREAD BLOCK 0 STREAMS x 0", "XREADGROUP GROUP g c COUNT 1 block 0 STREAMS x >",
	} {
		words := strings.Fields(line)
		c.want("-ERR edge does not pass on "+strings.ToUpper(words[0])+": the connection is shared\r\n", words...)
	}
	c.want("*-1\r\n", "XREAD", "STREAMS", "block", "0")
	c.want("*1\r\n:0\r\n", "SCRIPT", "EXISTS", "x")
	for _, query := range []string{"", "PING\r\n", "*1\r\n$4\r\nPIN", "*0\r\n", "*-1\r\n", "*1\r\n$-1\r\n", "*1\r\n:1\r\n", "*1\r\n$4\r\nPING\r\n*", "*2\r\n$4\r\nPING\r\n"} {
		if _, err := c.begin(t.Context(), "r", []byte(query))(); !errors.Is(err, proxywasm.ErrBadCall) {
			t.Errorf("%q: got %v, want %v", query, err, proxywasm.ErrBadCall)
		}
	}
	if _, err := c.begin(t.Context(), "other", respCommand("PING"))(); !errors.Is(err, proxywasm.ErrUnknownUpstream) {
		t.Errorf("got %v, want %v", err, proxywasm.ErrUnknownUpstream)
	}
	c.idle()
}

func TestRedisDatabases(t *testing.T) {
	server := StartRedis(t)
	c := redisOf(t, server.URL("", "/3"), 0)
	c.init("five?db=5", 0)
	c.init("r?buffer_flush_timeout=0&max_buffer_size_before_flush=0", 0)
	f := func(cluster, want string) {
		t.Helper()
		if got, err := c.begin(t.Context(), cluster, respCommand("INCR", "n"))(); got != want || err != nil {
			t.Errorf("%s: got %q, %v, want %q", cluster, got, err, want)
		}
	}
	f("r", ":1\r\n")
	f("r?buffer_flush_timeout=0", ":2\r\n")
	f("five", ":1\r\n")
	f("five?db=5", ":2\r\n")
	f("five?db=3", ":3\r\n")
	for _, cluster := range []string{"r?db=x", "r?db=-1", "r?db=99999999", "r?%zz"} {
		if err := c.Init(proxywasm.RedisCluster{Cluster: cluster}); err == nil {
			t.Errorf("%s is taken", cluster)
		}
	}
	if _, err := c.begin(t.Context(), "r?db=999", respCommand("PING"))(); err == nil || !strings.Contains(err.Error(), `SELECT was answered "ERR"`) {
		t.Errorf("got %v", err)
	}
	for i := range maxRedisClusters + 1 {
		if err := c.Init(proxywasm.RedisCluster{Cluster: fmt.Sprint("c", i)}); (err != nil) != (i >= maxRedisClusters-2) {
			t.Errorf("cluster %d: got %v", i, err)
		}
	}
}

func TestRedisCredentials(t *testing.T) {
	server := StartRedis(t, "--requirepass", "pass%zq7", "--user", "ada", "on", ">zq7", "~*", "+@all")
	redisOf(t, server.URL(":pass%25zq7@", ""), 0).want("+PONG\r\n", "PING")
	redisOf(t, server.URL("ada:zq7@", "/1"), 0).want("$3\r\nada\r\n", "ACL", "WHOAMI")
	c := redisOf(t, server.URL("ada:zq77@", ""), 0)
	if got, err := c.ask("PING"); err == nil || !strings.Contains(err.Error(), `AUTH was answered "WRONGPASS"`) {
		t.Errorf("got %q, %v", got, err)
	}
	if log := c.log.String(); !strings.Contains(log, "plugin=p") || strings.Contains(log, "zq7") {
		t.Errorf("log: %s", log)
	}
	redisOf(t, server.URL("", ""), 0).want("-NOAUTH Authentication required.\r\n", "PING")
}

func TestRedisServerGoesAndComes(t *testing.T) {
	server := StartRedis(t)
	c := redisOf(t, server.URL("", ""), time.Second)
	c.want(":1\r\n", "INCR", "n")
	server.Do("CLIENT", "PAUSE", "60000")
	under := c.begin(t.Context(), "r", respCommand("INCR", "n"))
	server.Kill()
	if got, err := under(); err == nil || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("of a server that went: got %q, %v", got, err)
	}
	for range 50 {
		if got, err := c.ask("INCR", "n"); err == nil {
			t.Errorf("without a server: got %q", got)
		}
	}
	server.Start()
	for end := time.Now().Add(5 * time.Second); ; {
		got, err := c.ask("INCR", "n")
		if err == nil && got == ":1\r\n" {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("a server that came back: got %q, %v", got, err)
		}
		<-time.After(10 * time.Millisecond)
	}
	server.Kill() // while nothing is under way
	server.Start()
	for end := time.Now().Add(5 * time.Second); ; {
		if got, err := c.ask("PING"); err == nil && got == "+PONG\r\n" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("an idle connection: got %q, %v", got, err)
		}
	}
	if log := c.log.String(); strings.Count(log, "not reachable") != 1 || strings.Count(log, "reachable again") != 1 {
		t.Errorf("log:\n%s", log)
	}
	c.idle()
}

func TestRedisTimesOut(t *testing.T) {
	server := StartRedis(t)
	c := redisOf(t, server.URL("", ""), 50*time.Millisecond)
	c.init("slow", 10*time.Second)
	c.want("+PONG\r\n", "PING")
	server.Do("CLIENT", "PAUSE", "60000", "WRITE")
	late := c.begin(t.Context(), "r", respCommand("INCR", "n"))
	patient := c.begin(t.Context(), "slow", respCommand("INCR", "n"))
	ctx, cancel := context.WithCancel(t.Context())
	left := c.begin(ctx, "slow", respCommand("INCR", "n"))
	cancel()
	if _, err := late(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	if _, err := left(); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	server.Do("CLIENT", "UNPAUSE")
	if got, err := patient(); got != ":2\r\n" || err != nil { // on the same connection, behind the one given up
		t.Errorf("got %q, %v", got, err)
	}
	c.want("$1\r\n3\r\n", "GET", "n")
	c.idle()
}

func TestRedisReplyTooLarge(t *testing.T) {
	c := redisOf(t, StartRedis(t).URL("", ""), 0)
	half := strings.Repeat("x", maxRedisReply*6/10)
	c.want("+OK\r\n", "SET", "half", half)
	if got, err := c.ask("MGET", "half", "half"); !errors.Is(err, errRedisLarge) {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	if got, err := c.begin(t.Context(), "r", append(respCommand("GET", "half"), respCommand("GET", "half")...))(); !errors.Is(err, errRedisLarge) {
		t.Errorf("of two commands: got %d bytes, %v", len(got), err)
	}
	c.want("+PONG\r\n", "PING")
	if got, err := c.ask("GET", "half"); len(got) != len(half)+len("$6291456\r\n\r\n") || err != nil {
		t.Errorf("got %d bytes, %v", len(got), err)
	}
	c.idle()
}

func TestRedisFlood(t *testing.T) {
	server := StartRedis(t)
	c := redisOf(t, server.URL("", ""), 20*time.Second)
	c.want("+PONG\r\n", "PING")
	server.Do("CLIENT", "PAUSE", "60000", "WRITE")
	var waits []func() (string, error)
	for range 2 * maxRedisCommands {
		waits = append(waits, c.begin(t.Context(), "r", respCommand("INCR", "n")))
	}
	server.Do("CLIENT", "UNPAUSE")
	sent, refused := 0, 0
	for _, wait := range waits {
		switch got, err := wait(); {
		case err == nil:
			if sent++; got != fmt.Sprintf(":%d\r\n", sent) {
				t.Errorf("reply %d: got %q", sent, got)
			}
		case errors.Is(err, errRedisFull):
			refused++
		default:
			t.Error(err)
		}
	}
	if sent != maxRedisCommands || refused != maxRedisCommands {
		t.Errorf("sent %d, refused %d", sent, refused)
	}
	c.idle()
}

func TestRedisThatReadsNothing(t *testing.T) {
	ping, big := respCommand("PING"), respCommand("SET", "a", strings.Repeat("x", 9<<20))
	read := make(chan struct{})
	c := redisOf(t, fakeRedis(t, func(conn net.Conn) {
		_, _ = io.CopyN(io.Discard, conn, int64(len(ping)))
		_, _ = io.WriteString(conn, "+PONG\r\n")
		<-read // until then the kernel holds what it can, which is less than 9 MiB
		_, _ = io.CopyN(io.Discard, conn, int64(len(big)))
		_, _ = io.WriteString(conn, "+OK\r\n")
		_, _ = io.Copy(io.Discard, conn)
	}), 20*time.Second)
	c.want("+PONG\r\n", "PING")
	first, second := c.begin(t.Context(), "r", big), c.begin(t.Context(), "r", big)
	if _, err := second(); !errors.Is(err, errRedisFull) {
		t.Errorf("18 MiB to be sent: got %v", err)
	}
	close(read)
	if got, err := first(); got != "+OK\r\n" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
	c.idle()
}

// fakeRedis is a server that does with each connection what talk does.
func fakeRedis(t *testing.T, talk func(conn net.Conn)) Secret {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			all.Go(func() {
				defer conn.Close()
				talk(conn)
			})
		}
	})
	t.Cleanup(func() { listener.Close(); all.Wait() })
	return Secret("redis://" + listener.Addr().String())
}

func TestRedisServerThatIsNone(t *testing.T) {
	for _, answer := range []string{"HTTP/1.1 400\r\n\r\n", "$x\r\n", "$4294967296\r\n", "*-2\r\n", "$3\r\nabcd\r\n", "%1\r\n+a\r\n+b\r\n", "$" + strings.Repeat("1", 20<<10), "+half"} {
		c := redisOf(t, fakeRedis(t, func(conn net.Conn) {
			_, _ = conn.Read(make([]byte, 100))
			_, _ = io.WriteString(conn, answer)
		}), 5*time.Second)
		if got, err := c.ask("PING"); err == nil || errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("%.20q: got %q, %v", answer, got, err)
		}
		c.idle()
	}
	talks := redisOf(t, fakeRedis(t, func(conn net.Conn) {
		for b := make([]byte, 100); ; {
			if _, err := conn.Read(b); err != nil {
				return
			}
			_, _ = io.WriteString(conn, "+PONG\r\n+unasked\r\n")
		}
	}), 0)
	for range 10 { // what was not asked for is nobody's answer
		if got, err := talks.ask("PING"); err == nil && got != "+PONG\r\n" {
			t.Errorf("got %q", got)
		}
	}
}

// TestRedisDeadConnectionIsGivenUp has a server that is silent on its first connection.
func TestRedisDeadConnectionIsGivenUp(t *testing.T) {
	var connections atomic.Int32
	url := fakeRedis(t, func(conn net.Conn) {
		silent := connections.Add(1) == 1
		for b := make([]byte, 1000); ; {
			if _, err := conn.Read(b); err != nil {
				return
			}
			if !silent {
				_, _ = io.WriteString(conn, "+PONG\r\n")
			}
		}
	})
	c := redisOf(t, url, 20*time.Millisecond)
	c.grace = 50 * time.Millisecond
	if _, err := c.ask("PING"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
	c.idle()
	for end := time.Now().Add(5 * time.Second); ; {
		if got, err := c.ask("PING"); err == nil && got == "+PONG\r\n" {
			break
		} else if time.Now().After(end) {
			t.Fatalf("got %q, %v", got, err)
		}
	}
}

func TestRedisCloses(t *testing.T) {
	server := StartRedis(t)
	c := redisOf(t, server.URL("", ""), 0)
	c.want("+PONG\r\n", "PING")
	server.Do("CLIENT", "PAUSE", "60000")
	wait := c.begin(t.Context(), "r", respCommand("PING"))
	c.close()
	if _, err := wait(); err == nil {
		t.Error("a closed plugin got a reply")
	}
	if _, err := c.ask("PING"); !errors.Is(err, errRedisClosed) {
		t.Errorf("got %v", err)
	}
	c.init("r", time.Second)
	c.close()
	silent := redisOf(t, fakeRedis(t, func(conn net.Conn) { _, _ = io.Copy(io.Discard, conn) })+"/1", 0)
	wait = silent.begin(t.Context(), "r", respCommand("PING"))
	silent.close() // while it connects
	if _, err := wait(); err == nil {
		t.Error("a closed plugin got a reply")
	}
}

func TestRedisOverTLS(t *testing.T) {
	web := httptest.NewTLSServer(nil) // for its certificate, of example.com
	certificates := web.TLS.Certificates
	roots := x509.NewCertPool()
	roots.AddCert(web.Certificate())
	web.Close()
	url := fakeRedis(t, func(conn net.Conn) {
		secure := tls.Server(conn, &tls.Config{Certificates: certificates})
		if n, err := secure.Read(make([]byte, 100)); n == 0 || err != nil {
			return
		}
		_, _ = io.WriteString(secure, "+PONG\r\n")
	})
	url = "rediss" + url[len("redis"):]
	c := redisOf(t, url, 0)
	if _, err := c.ask("PING"); err == nil || !strings.Contains(err.Error(), "certificate") {
		t.Errorf("an unknown certificate: got %v", err)
	}
	c = redisOf(t, url, 0)
	c.server.roots = roots
	c.want("+PONG\r\n", "PING")
}

func TestParseRedisURL(t *testing.T) {
	f := func(text string, want redisServer) {
		t.Helper()
		if got, err := parseRedisURL(text); err != nil || got != want {
			t.Errorf("%s: got %+v, %v, want %+v", text, got, err, want)
		}
	}
	f("redis://host:1", redisServer{address: "host:1", host: "host"})
	f("redis://host/", redisServer{address: "host:6379", host: "host"})
	f("rediss://u:p%40%20@[::1]:7/12", redisServer{address: "[::1]:7", host: "::1", tls: true, user: "u", password: "p@ ", database: 12})
	f("redis://:p@host", redisServer{address: "host:6379", host: "host", password: "p"})
	for _, text := range []string{
		"", "host:1", "http://host", "redis:host", "redis://", "redis://:1", "redis://user@host", "redis://@host", "redis://u:@host", "redis://host:0", "redis://host:65536",
		"redis://host:x", "redis://host/x", "redis://host/-1", "redis://host/1/", "redis://host/65537", "redis://host?db=1", "redis://host?", "redis://host#x", "redis://ho st", "redis://h\u00f6st",
	} {
		if got, err := parseRedisURL(text); err == nil {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}
