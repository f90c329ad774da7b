//go:build unix

package takeover_test

import (
	"bufio"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/takeover"
)

// benchServer in the environment makes a process of this test the server of BenchmarkServer: net-http, takeover, or
// unwatched, which is net/http whose background read of the connection is answered at once: what that read costs can
// be had without a Takeover.
const benchServer = "EDGE_TEST_TAKEOVER_SERVER"

func TestMain(m *testing.M) {
	if kind := os.Getenv(benchServer); kind != "" {
		serveBench(kind)
		return
	}
	os.Exit(checked(m))
}

// serveBench serves until its standard input ends.
func serveBench(kind string) {
	content := make([]byte, 1024)
	length := []string{"1024"}
	buffers := sync.Pool{New: func() any { return new([4096]byte) }}
	var handler http.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/stats" {
			var usage syscall.Rusage
			if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
				log.Fatal(err)
			}
			var memory runtime.MemStats
			runtime.ReadMemStats(&memory)
			fmt.Fprintln(w, (usage.Utime.Nano()+usage.Stime.Nano())/1000, memory.Mallocs, memory.TotalAlloc)
			return
		}
		if r.ContentLength > 0 {
			into := buffers.Get().(*[4096]byte)
			for {
				if _, err := r.Body.Read(into[:]); err != nil {
					break
				}
			}
			buffers.Put(into)
		}
		if r.URL.Path == "/wait" {
			time.Sleep(time.Millisecond)
		}
		h := w.Header()
		h["Content-Type"], h["Content-Length"] = octets, length
		_, _ = w.Write(content)
	})
	if kind == "takeover" {
		handler = takeover.New(takeover.Config{Handler: handler, IdleTimeout: patience, ReadHeaderTimeout: patience})
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		log.Fatal(err)
	}
	if kind == "unwatched" {
		listener = unwatched{listener}
	}
	fmt.Println(listener.Addr())
	go func() {
		log.Fatal((&http.Server{Handler: handler, IdleTimeout: patience, ReadHeaderTimeout: patience}).Serve(listener))
	}()
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// unwatched are connections that net/http does not watch while a handler runs.
type unwatched struct{ net.Listener }

type unwatchedConn struct{ *net.TCPConn }

func (l unwatched) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return unwatchedConn{conn.(*net.TCPConn)}, nil
}

func (c unwatchedConn) Read(p []byte) (int, error) {
	if len(p) == 1 {
		return 0, nil
	}
	return c.TCPConn.Read(p)
}

// BenchmarkServer measures the server alone: 1 KiB constant, 64 connections, in a process of its own whose CPU time,
// user and system, and allocations are what is told.
func BenchmarkServer(b *testing.B) {
	const fields = " HTTP/1.1\r\nHost: 127.0.0.1\r\nUser-Agent: bench\r\nAccept: */*\r\nAuthorization: Bearer 0123456789\r\n"
	for name, request := range map[string]string{
		"GET":  "GET /v1/models" + fields + "\r\n",
		"wait": "GET /wait" + fields + "\r\n", // for a millisecond, as for a provider
		"POST": "POST /v1/chat/completions" + fields + "Content-Type: application/json\r\nContent-Length: 1024\r\n\r\n" + strings.Repeat("x", 1024),
	} {
		for _, kind := range []string{"net-http", "unwatched", "takeover"} {
			b.Run(name+"/"+kind, func(b *testing.B) { benchmark(b, kind, request) })
		}
	}
}

func benchmark(b *testing.B, kind, request string) {
	command := exec.CommandContext(b.Context(), os.Args[0])
	command.Env = append(os.Environ(), benchServer+"="+kind)
	command.Stderr = os.Stderr
	stdin, err := command.StdinPipe()
	if err != nil {
		b.Fatal(err)
	}
	stdout, err := command.StdoutPipe()
	if err != nil {
		b.Fatal(err)
	}
	if err := command.Start(); err != nil {
		b.Fatal(err)
	}
	defer func() {
		stdin.Close()
		_ = command.Wait() // it is killed at worst
	}()
	address, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		b.Fatal(err)
	}
	s := &served{address: strings.TrimSpace(address)}
	stats := func(c *client) (cpu, mallocs, bytes float64) {
		_, text := c.ask(get("/stats"))
		if _, err := fmt.Sscan(text, &cpu, &mallocs, &bytes); err != nil {
			b.Fatal(err)
		}
		return cpu, mallocs, bytes
	}
	watch := s.client(b)
	run := func(count int64) {
		var left atomic.Int64
		left.Store(count)
		var all sync.WaitGroup
		for range 64 {
			all.Go(func() { drive(b, s, request, &left) })
		}
		all.Wait()
	}
	run(2000)
	cpu, mallocs, bytes := stats(watch)
	b.ResetTimer()
	run(int64(b.N))
	b.StopTimer()
	cpuAfter, mallocsAfter, bytesAfter := stats(watch)
	n := float64(b.N)
	b.ReportMetric((cpuAfter-cpu)/n, "server-µs/op")
	b.ReportMetric((mallocsAfter-mallocs)/n, "server-allocs/op")
	b.ReportMetric((bytesAfter-bytes)/n, "server-B/op")
}

// drive sends requests on one connection until none is left.
func drive(b *testing.B, s *served, request string, left *atomic.Int64) {
	conn, err := net.Dial("tcp", s.address) //nolint:noctx // loopback
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Close()
	text, into := []byte(request), make([]byte, 4096)
	for left.Add(-1) >= 0 {
		if _, err := conn.Write(text); err != nil {
			b.Error(err)
			return
		}
		for read := 0; read < 1024+100; {
			n, err := conn.Read(into)
			if read += n; err != nil {
				b.Error(err)
				return
			}
		}
	}
}
