package demo_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

var update = flag.Bool("update", false, "rewrite testdata")

// varying is what differs between runs.
var varying = regexp.MustCompile(`(Date: |"created":)(\w[^\r\n,]*, [^\r\n]*|\d{10})`)

// TestGolden sends each testdata/*.txt as it stands (line ends become CR LF in the head) and compares every byte
// of the reply, chunk sizes included: a stream's events travel in a chunk each.
func TestGolden(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no testdata: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			request, want, ok := strings.Cut(string(text), "-- reply --\n")
			request, ok2 := strings.CutPrefix(request, "-- request --\n")
			if !ok || !ok2 {
				t.Fatal("want -- request -- and -- reply --")
			}
			s := start(t, demo.Config{APIKey: "sk-demo", Seed: 1, Trickle: time.Microsecond})
			got := strings.ReplaceAll(varying.ReplaceAllString(send(t, s, request), "${1}0"), "\r\n", "\n")
			if *update {
				if err := os.WriteFile(file, []byte("-- request --\n"+request+"-- reply --\n"+got), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got != want {
				t.Errorf("got:\n%s\nwant:\n%s", got, want)
			}
		})
	}
}

// send writes one request, whose body runs to the end of text less its last line end, and returns all that
// comes back, with a last line more when the connection is reset.
func send(t *testing.T, s *demo.Server, text string) string {
	t.Helper()
	conn := dial(t, s)
	head, body, _ := strings.Cut(text, "\n\n")
	body = strings.TrimSuffix(body, "\n")
	_, err := fmt.Fprintf(conn, "%s\r\nHost: demo\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s",
		strings.ReplaceAll(strings.TrimSuffix(head, "\n"), "\n", "\r\n"), len(body), body)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := io.ReadAll(conn)
	if errors.Is(err, syscall.ECONNRESET) {
		return string(reply) + "-- reset --\n"
	}
	if err != nil {
		t.Fatal(err)
	}
	return string(reply)
}

func start(t *testing.T, c demo.Config) *demo.Server {
	t.Helper()
	s, err := demo.Start("", c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func dial(t *testing.T, s *demo.Server) net.Conn {
	t.Helper()
	conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", strings.TrimPrefix(s.URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	return conn
}

// post is do with a server.
func post(t *testing.T, s *demo.Server, path, body string, header ...string) (int, http.Header, string) {
	t.Helper()
	return do(t, http.DefaultClient, s.URL+path, body, header...)
}

const chatPath, messagesPath, embeddingsPath = "/v1/chat/completions", "/v1/messages", "/v1/embeddings"

const hello = `{"model":"gpt-4o","messages":[{"role":"user","content":"hello there"}]}`
