package proxy

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"os/exec"
	"testing"
	"time"
)

// RedisServer is a real redis-server on a loopback port, for the tests of this package and of proxy_test.
type RedisServer struct {
	Address string

	t       testing.TB
	args    []string
	process *exec.Cmd
}

// StartRedis starts one, until the test ends. It skips the test where there is none, unless EDGE_TEST_REQUIRE is all.
func StartRedis(t testing.TB, args ...string) *RedisServer {
	t.Helper()
	if _, err := exec.LookPath("redis-server"); err != nil {
		if os.Getenv("EDGE_TEST_REQUIRE") == "all" {
			t.Fatal("redis-server is not here, and EDGE_TEST_REQUIRE is all")
		}
		t.Skip("redis-server is not here")
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback; it finds a free port
	if err != nil {
		t.Fatal(err)
	}
	address := listener.Addr().String()
	listener.Close()
	s := &RedisServer{Address: address, t: t, args: args}
	s.Start()
	t.Cleanup(s.Kill)
	return s
}

// Start starts it, again if it was killed, and waits until it answers.
func (s *RedisServer) Start() {
	s.t.Helper()
	_, port, _ := net.SplitHostPort(s.Address)
	args := append([]string{"--bind", "127.0.0.1", "--port", port, "--save", "", "--dir", s.t.TempDir(), "--daemonize", "no"}, s.args...)
	s.process = exec.Command("redis-server", args...) //nolint:noctx // Kill ends it
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); ; {
		conn, err := net.Dial("tcp", s.Address) //nolint:noctx // loopback
		if err == nil {
			conn.Close()
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("redis-server does not answer: %v", err)
		}
		<-time.After(5 * time.Millisecond)
	}
}

// Kill ends it at once.
func (s *RedisServer) Kill() {
	if s.process == nil {
		return
	}
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
	s.process = nil
}

// Do sends a command on a connection of its own, and returns the first line of the reply.
func (s *RedisServer) Do(words ...string) string {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.Address) //nolint:noctx // loopback
	if err != nil {
		s.t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(respCommand(words...)); err != nil {
		s.t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil {
		s.t.Fatal(err)
	}
	return line
}

// URL is what a plugin's redis_url says.
func (s *RedisServer) URL(credentials, path string) Secret {
	return Secret(fmt.Sprintf("redis://%s%s%s", credentials, s.Address, path))
}
