package proxy_test

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy"
)

// limiting is the guest of testdata/limit, which speaks Proxy-Wasm 0.2.100.
var limiting = sync.OnceValues(func() ([]byte, error) { return buildGuest("./testdata/limit") })

// limitOf is a plugin that lets so many requests of each caller pass, as Redis counts them.
func limitOf(t *testing.T, limit int, url proxy.Secret) proxy.Plugin {
	t.Helper()
	module, err := limiting()
	if err != nil {
		t.Fatal(err)
	}
	p := proxy.DefaultPlugin()
	p.Name, p.Module, p.Timeout, p.PauseTimeout, p.RedisURL = "limit", module, 10*time.Second, 10*time.Second, url
	p.Config = proxy.Settings(fmt.Sprintf("outbound|6379||redis.dns?db=2 %d", limit))
	return p
}

func TestFilterCountsInRedis(t *testing.T) {
	server := proxy.StartRedis(t)
	for _, where := range []func(...proxy.Plugin) func(*proxy.Config, *proxy.Provider){around, before} {
		e := start(t, one(provider(t, mirror), where(limitOf(t, 3, server.URL("", "/1")))))
		server.Do("FLUSHALL")
		for i := 1; i <= 5; i++ {
			for _, caller := range []string{"ada", "bob"} {
				answer, got := call(t, client(t), "POST", e.url+"/up/x", "content", "X-Caller", caller)
				switch {
				case i <= 3 && (answer.StatusCode != 200 || !strings.Contains(got, fmt.Sprintf("X-Count: %d\r\n", i)) || !strings.HasSuffix(got, "\n\ncontent")):
					t.Errorf("%s, %d: got %d %s", caller, i, answer.StatusCode, got)
				case i > 3 && (answer.StatusCode != 429 || got != fmt.Sprintf("too many: %d", i)):
					t.Errorf("%s, %d: got %d %s", caller, i, answer.StatusCode, got)
				}
			}
		}
		if got := e.sum("edge_plugin_callouts_total", `plugin="limit"`); got != 10 {
			t.Errorf("edge_plugin_callouts_total: got %v, want 10", got)
		}
	}
	if got := server.Do("DBSIZE"); got != ":0\r\n" {
		t.Errorf("database 0 has %q", got)
	}
}

func TestFilterSeesRedisAsItIs(t *testing.T) {
	server := proxy.StartRedis(t, "--requirepass", "pass")
	e := start(t, one(provider(t, mirror), around(limitOf(t, 3, server.URL(":pass@", "")))))
	f := func(commands string, status int, want string) {
		t.Helper()
		if answer, got := call(t, client(t), "GET", e.url+"/up/", "", "X-Redis", commands); answer.StatusCode != status || got != want {
			t.Errorf("%s: got %d %q, want %d %q", commands, answer.StatusCode, got, status, want)
		}
	}
	f("SET a b", 200, "+OK\r\n")
	f("GET a;GET none;LPUSH a x;RPUSH l x y;LRANGE l 0 -1;LPOP none 1", 200,
		"$1\r\nb\r\n$-1\r\n-WRONGTYPE Operation against a key holding the wrong kind of value\r\n:2\r\n*2\r\n$1\r\nx\r\n$1\r\ny\r\n*-1\r\n")
	f("SELECT 1", 200, "-ERR edge does not pass on SELECT: the connection is shared\r\n")
	server.Kill()
	f("GET a", 503, "no reply: 14")
	server.Start()
	if !settles(5*time.Second, func() bool {
		_, got := call(t, client(t), "GET", e.url+"/up/", "", "X-Redis", "GET a")
		return got == "$-1\r\n"
	}) {
		t.Error("a server that came back is not used")
	}
}

// TestFilterWithoutRedis fails to load: the guest's configuration needs one.
func TestFilterWithoutRedis(t *testing.T) {
	p, err := proxy.New(quietly(one("http://127.0.0.1:1", around(limitOf(t, 3, "")))))
	if err == nil {
		p.Close()
		t.Fatal("it loads")
	}
	if !strings.Contains(err.Error(), "plugins[0]") {
		t.Error(err)
	}
	if faults := proxy.CheckPlugins(t.Context(), quietly(one("http://127.0.0.1:1", around(limitOf(t, 3, "redis://127.0.0.1:1"))))); len(faults) > 0 {
		t.Errorf("a plugin whose Redis is not there now: %v", faults)
	}
}

func TestFiltersFloodRedis(t *testing.T) {
	server := proxy.StartRedis(t)
	const callers, requests, limit = 64, 20, 10
	e := start(t, one(provider(t, mirror), around(limitOf(t, limit, server.URL("", ""))), func(_ *proxy.Config, p *proxy.Provider) { p.Concurrency, p.BufferSize = 128, 1000 }))
	c := client(t)
	var passed, refused atomic.Int64
	var all sync.WaitGroup
	for i := range callers {
		all.Go(func() {
			for range requests {
				switch answer, got := call(t, c, "GET", e.url+"/up/", "", "X-Caller", fmt.Sprint(i%8)); answer.StatusCode {
				case 200:
					passed.Add(1)
				case 429:
					refused.Add(1)
				default:
					t.Errorf("got %d %s", answer.StatusCode, got)
				}
			}
		})
	}
	all.Wait()
	if passed.Load() != 8*limit || refused.Load() != callers*requests-8*limit {
		t.Errorf("passed %d, refused %d", passed.Load(), refused.Load())
	}
}

// TestReloadOfRedis moves a plugin to another server while requests pass.
func TestReloadOfRedis(t *testing.T) {
	first, second := proxy.StartRedis(t), proxy.StartRedis(t)
	up := provider(t, mirror)
	config := func(server *proxy.RedisServer) proxy.Config {
		return one(up, around(limitOf(t, 1000, server.URL("", ""))))
	}
	e := start(t, config(first))
	c := client(t)
	var all sync.WaitGroup
	stop := make(chan struct{})
	for range 4 {
		all.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				if answer, got := call(t, c, "GET", e.url+"/up/", "", "X-Caller", "a"); answer.StatusCode != 200 && answer.StatusCode != 429 {
					t.Errorf("got %d %s", answer.StatusCode, got)
				}
			}
		})
	}
	for _, server := range []*proxy.RedisServer{second, first, second} {
		if err := e.Reload(config(server)); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	all.Wait()
	first.Kill()
	if answer, got := call(t, c, "GET", e.url+"/up/", "", "X-Redis", "PING"); answer.StatusCode != 200 || got != "+PONG\r\n" {
		t.Errorf("got %d %q", answer.StatusCode, got)
	}
}
