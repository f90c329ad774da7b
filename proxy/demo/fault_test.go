package demo_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/edge-proxy/edge/proxy/demo"
)

var (
	streamed        = strings.Replace(hello, "{", `{"stream":true,`, 1)
	streamedMessage = strings.Replace(hello, "{", `{"stream":true,"max_tokens":9,`, 1)
)

// TestSilenceLastsUntilTheCallerLeaves waits an hour for the head or the rest of an answer, and leaves.
func TestSilenceLastsUntilTheCallerLeaves(t *testing.T) {
	f := func(fault, path, body string, began bool) {
		t.Helper()
		bubble(t, demo.Config{}, func(t *testing.T, p *demo.Provider, client *http.Client) {
			start := time.Now()
			ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
			defer cancel()
			time.AfterFunc(time.Minute, func() {
				if s := p.Stats(); s.InFlight != 1 || s.Cancelled != 0 {
					t.Errorf("%s %s: in the silence: %+v, want 1 in flight", fault, path, s)
				}
			})
			resp, err := client.Do(newPost(ctx, path, body, "X-Demo-Fault", fault))
			if err == nil {
				defer resp.Body.Close()
				_, err = io.Copy(io.Discard, resp.Body)
			}
			if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != time.Hour || began != (resp != nil) {
				t.Errorf("%s %s: after %v: %v, begun: %v; want 1h, and begun: %v", fault, path, took, err, resp != nil, began)
			}
			synctest.Wait()
			if s := p.Stats(); s.InFlight != 0 || s.Cancelled != 1 || s.Failures != 1 {
				t.Errorf("%s %s: %+v, want 1 failure, cancelled", fault, path, s)
			}
		})
	}
	f("silence", chatPath, hello, false)
	f("silence", messagesPath, streamedMessage, false)
	f("stall", chatPath, hello, true)
	f("stall", chatPath, streamed, true)
	f("stall", messagesPath, streamedMessage, true)
	f("stall", embeddingsPath, `{"model":"m","input":"x"}`, true)
	f("stall", embeddingsPath, `{"model":"m","input":["a","b","c","d","e"],"dimensions":4096}`, true)
}

// TestFaultsStrikeBeforeTheEnd asks for faults later than there are bytes; no answer may come whole.
func TestFaultsStrikeBeforeTheEnd(t *testing.T) {
	s := start(t, demo.Config{FaultAfter: 1 << 20})
	f := func(path, body string) {
		t.Helper()
		_, _, whole := post(t, s, path, body)
		for _, fault := range []string{"body-reset", "short", "short-chunked", "cut-event"} {
			resp, err := http.DefaultClient.Do(newPost(t.Context(), s.URL+path, body, "X-Demo-Fault", fault))
			if err != nil {
				t.Fatal(err)
			}
			text, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			if len(text) >= len(whole) || len(text) == 0 || (err == nil) != (fault == "cut-event") {
				t.Errorf("%s %s: got %d of %d bytes, %v", path, fault, len(text), len(whole), err)
			}
		}
	}
	f(chatPath, hello)
	f(chatPath, streamed)
	f(messagesPath, streamedMessage)
	f(embeddingsPath, `{"model":"m","input":"x","dimensions":2}`)
	f(embeddingsPath, `{"model":"m","input":["a","b","c","d","e"],"dimensions":4096}`)
	until(t, "nothing is in flight", func() bool { return s.Provider.Stats().InFlight == 0 })
	want := demo.Stats{Requests: 25, Failures: 20, MaxInFlight: 1, MaxStreams: 1}
	if got := s.Provider.Stats(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
}

// TestFaultAfter counts the bytes that come before the fault.
func TestFaultAfter(t *testing.T) {
	s := start(t, demo.Config{})
	for _, want := range []int{0, 1, 255, 1000, 5000} {
		resp, err := http.DefaultClient.Do(newPost(t.Context(), s.URL+chatPath, streamed,
			"X-Demo-Fault", "body-reset", "X-Demo-Fault-After", fmt.Sprint(want)))
		if err != nil {
			if want == 0 {
				continue // the reset has overtaken the head
			}
			t.Fatal(err)
		}
		text, err := io.ReadAll(resp.Body)
		resp.Body.Close()
		if len(text) != want || err == nil {
			t.Errorf("got %d bytes and %v, want %d and an error", len(text), err, want)
		}
	}
}

func TestTrickle(t *testing.T) {
	f := func(path, body string) {
		t.Helper()
		bubble(t, demo.Config{Trickle: time.Second}, func(t *testing.T, p *demo.Provider, client *http.Client) {
			_, _, whole := do(t, client, path, body)
			start := time.Now()
			resp, err := client.Do(newPost(t.Context(), path, body, "X-Demo-Fault", "trickle"))
			if err != nil {
				t.Fatal(err)
			}
			defer resp.Body.Close()
			got, b := 0, make([]byte, 4096)
			for {
				n, err := resp.Body.Read(b)
				if got += n; n > 0 && time.Since(start) != time.Duration(got)*time.Second {
					t.Fatalf("%s: %d bytes after %v", path, got, time.Since(start))
				}
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			if got != len(whole) {
				t.Errorf("%s: got %d bytes, want %d", path, got, len(whole))
			}
			if s := p.Stats(); s.InFlight != 0 || s.Cancelled != 0 {
				t.Errorf("%s: %+v", path, s)
			}
		})
	}
	f(chatPath, hello)
	f(chatPath, streamed)
	f(messagesPath, streamedMessage)
}

// TestHeadWithoutEnd reads more of a head than any client takes, or for longer than any waits.
func TestHeadWithoutEnd(t *testing.T) {
	s := start(t, demo.Config{})
	conn := dial(t, s)
	write(t, conn, "POST %s HTTP/1.1\r\nHost: demo\r\nX-Demo-Fault: endless-head\r\nContent-Length: %d\r\n\r\n%s", chatPath, len(hello), hello)
	r, read := bufio.NewReader(conn), 0
	for read < 8<<20 {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			t.Fatalf("after %d bytes: %q, %v", read, line, err)
		}
		read += len(line)
	}
	_ = conn.Close()
	until(t, "it is cancelled", func() bool {
		return s.Provider.Stats() == demo.Stats{Requests: 1, MaxInFlight: 1, Cancelled: 1, Failures: 1}
	})

	bubble(t, demo.Config{}, func(t *testing.T, p *demo.Provider, client *http.Client) {
		start := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		resp, err := client.Do(newPost(ctx, chatPath, hello, "X-Demo-Fault", "slow-head", "X-Demo-Trickle", "1s"))
		if err == nil {
			resp.Body.Close()
		}
		if took := time.Since(start); !errors.Is(err, context.DeadlineExceeded) || took != time.Hour {
			t.Errorf("after %v: %v", took, err)
		}
		time.Sleep(time.Second) // the next byte finds nobody
		synctest.Wait()
		if s := p.Stats(); s.InFlight != 0 || s.Cancelled != 1 {
			t.Errorf("%+v", s)
		}
	})
}

// TestCloseEndsFaults holds one of each fault that lasts; Close must not wait for their callers.
func TestCloseEndsFaults(t *testing.T) {
	s, err := demo.Start("", demo.Config{Trickle: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer // by net/http
	log.SetOutput(&said)
	defer log.SetOutput(os.Stderr)
	faults := []string{"silence", "stall", "trickle", "endless-head", "slow-head"}
	for _, fault := range faults {
		conn := dial(t, s)
		write(t, conn, "POST %s HTTP/1.1\r\nHost: demo\r\nX-Demo-Fault: %s\r\nContent-Length: %d\r\n\r\n%s", chatPath, fault, len(hello), hello)
	}
	n := int64(len(faults))
	until(t, "all have begun", func() bool { return s.Provider.Stats().Failures == n })
	s.Close()
	if got := s.Provider.Stats(); got.InFlight != 0 || got.Cancelled != n || said.Len() > 0 {
		t.Errorf("%+v, want %d cancelled; net/http said %q", got, n, said.String())
	}
}

// TestFaultsWithoutConnection wants each fault to abort the answer where there is no connection to break.
func TestFaultsWithoutConnection(t *testing.T) {
	for _, fault := range []string{"reset", "close", "head-reset", "bad-status", "endless-head", "body-reset", "short"} {
		func() {
			defer func() {
				if got, _ := recover().(error); !errors.Is(got, http.ErrAbortHandler) {
					t.Errorf("%s: panic %v, want http.ErrAbortHandler", fault, got)
				}
			}()
			p, writes := demo.New(demo.Config{Fault: fault, ErrorRate: 1}), 0
			p.ServeHTTP(&brittle{answer{header: http.Header{}}, &writes, -1}, newPost(t.Context(), chatPath, hello))
		}()
	}
}

// outcomes sends n requests and says what became of each: its status, or cut when there is none.
func outcomes(t *testing.T, client *http.Client, n int, header ...string) string {
	t.Helper()
	var list []string
	for range n {
		resp, err := client.Do(newPost(t.Context(), chatPath, hello, header...))
		if err != nil {
			list = append(list, "cut")
			continue
		}
		resp.Body.Close()
		list = append(list, fmt.Sprint(resp.StatusCode))
	}
	return strings.Join(list, " ")
}

func TestScript(t *testing.T) {
	c := demo.Config{
		Script: "429*2, close,ok,529", APIKey: "sk-other",
		Keys: []demo.Key{{Value: "sk-bad", Script: "401*1000"}, {Value: "sk-good"}},
	}
	bubble(t, c, func(t *testing.T, p *demo.Provider, client *http.Client) {
		f := func(n int, want string, header ...string) {
			t.Helper()
			if got := outcomes(t, client, n, header...); got != want {
				t.Errorf("%q: got %s, want %s", header, got, want)
			}
		}
		f(7, "429 429 cut 200 529 200 200", "Authorization", "Bearer sk-other")
		f(3, "401 401 401", "Authorization", "Bearer sk-bad")
		f(3, "200 200 200", "Authorization", "Bearer sk-good")
		f(2, "401 401", "Authorization", "Bearer sk-unknown") // no step is taken
		f(4, "429 429 cut 200", "Authorization", "Bearer sk-other", "X-Demo-Id", "a")
		f(2, "429 429", "Authorization", "Bearer sk-other", "X-Demo-Id", "b")
		f(4, "529 200 403 200", "Authorization", "Bearer sk-other", "X-Demo-Id", "c", "X-Demo-Script", "529,ok,403")
		f(2, "503 503", "Authorization", "Bearer sk-other", "X-Demo-Id", "c", "X-Demo-Fault", "503")
		f(1, "418", "Authorization", "Bearer sk-other", "X-Demo-Id", "b", "X-Demo-Status", "418")
		f(1, "cut", "Authorization", "Bearer sk-other", "X-Demo-Id", "b") // goes on where it was
		if s := p.Stats(); s.Failures != 18 || s.Cancelled != 0 {
			t.Errorf("%+v, want 18 failures", s)
		}
	})
}

// TestScriptBoundsCallers fills the table of callers; further ones share one place until the others are idle.
func TestScriptBoundsCallers(t *testing.T) {
	bubble(t, demo.Config{Script: "503"}, func(t *testing.T, p *demo.Provider, _ *http.Client) {
		f := func(id string, want int) {
			t.Helper()
			w := &answer{header: http.Header{}}
			p.ServeHTTP(w, newPost(t.Context(), embeddingsPath, `{"model":"m","input":"x","dimensions":1}`, "X-Demo-Id", id))
			if w.status != want && (want != 200 || w.status != 0) {
				t.Errorf("%s: got %d, want %d", id, w.status, want)
			}
		}
		for i := range 10_000 {
			f(fmt.Sprint(i), 503)
		}
		f("one more", 503)
		f("and another", 200)
		f("0", 200)
		time.Sleep(time.Minute)
		f("and another", 503)
	})
}

func TestFaultRate(t *testing.T) {
	bubble(t, demo.Config{ErrorRate: 0.5, Fault: "close", Seed: 3}, func(t *testing.T, p *demo.Provider, client *http.Client) {
		const calls = 200
		got := strings.Fields(outcomes(t, client, calls))
		cut := 0
		for _, outcome := range got {
			if outcome == "cut" {
				cut++
			}
		}
		if s := p.Stats(); cut < 70 || cut > 130 || int64(cut) != s.Failures || slices.Contains(got, "500") {
			t.Errorf("%d of %d were cut, want half; %+v", cut, calls, s)
		}
	})
}

func TestRetryAfterForms(t *testing.T) {
	bubble(t, demo.Config{RetryAfter: "date:2500ms"}, func(t *testing.T, _ *demo.Provider, client *http.Client) {
		f := func(want string, header ...string) {
			t.Helper()
			_, h, _ := do(t, client, chatPath, hello, append(header, "X-Demo-Status", "503")...)
			var got []string
			for _, name := range []string{"Retry-After", "Retry-After-Ms", "X-Ms-Retry-After-Ms"} {
				if value := h.Get(name); value != "" {
					got = append(got, name+"="+value)
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("%q: got %q, want %q", header, got, want)
			}
		}
		f("Retry-After=Sat, 01 Jan 2000 00:00:03 GMT")
		f("Retry-After=Fri, 31 Dec 1999 23:00:00 GMT", "X-Demo-Retry-After", "date:-1h")
		f("Retry-After=2", "X-Demo-Retry-After", "2")
		f("Retry-After=1.5", "X-Demo-Retry-After", "1.5")
		f("Retry-After=31536000", "X-Demo-Retry-After", "31536000")
		f("Retry-After=NaN", "X-Demo-Retry-After", "NaN")
		f("Retry-After-Ms=1500", "X-Demo-Retry-After", "ms:1500")
		f("X-Ms-Retry-After-Ms=-1", "X-Demo-Retry-After", "x-ms:-1")
		if status, h, _ := do(t, client, chatPath, `{}`); status != 400 || h.Get("Retry-After") != "" {
			t.Errorf("got %d with Retry-After %q; what was not injected has none", status, h.Get("Retry-After"))
		}
	})
}

func TestValidateWords(t *testing.T) {
	f := func(c demo.Config, want string) {
		t.Helper()
		if err := c.Validate(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q in it", err, want)
		}
	}
	f(demo.Config{Announce: "OpenAI"}, `demo: Announce: got "OpenAI", want one of anthropic, azure`)
	f(demo.Config{Fault: "ok"}, `demo: Fault: got "ok", want a status of 400 to 599 or one of bad-chunk`)
	f(demo.Config{Fault: "200"}, `demo: Fault: got "200"`)
	f(demo.Config{RetryAfter: "date:soon"}, `demo: RetryAfter: got "date:soon"`)
	f(demo.Config{RetryAfter: "date:9223372036s"}, `demo: RetryAfter: got "date:9223372036s"`)
	f(demo.Config{RetryAfter: strings.Repeat("9", 129)}, `demo: RetryAfter: got "999`)
	f(demo.Config{Script: "503,,ok"}, `demo: Script: step "": want ok`)
	f(demo.Config{Script: "503*0"}, `demo: Script: step "503*0": want 1 to 1000000 after *`)
	f(demo.Config{Script: "503*many"}, `demo: Script: step "503*many"`)
	f(demo.Config{Script: strings.Repeat("503,", 1025)}, `demo: Script: got 4100 bytes, want at most 4096`)
	f(demo.Config{Keys: []demo.Key{{Value: "a"}, {Script: "ok"}}}, `demo: Keys[1].Value: is empty`)
	f(demo.Config{Keys: []demo.Key{{Value: "a", Script: "nothing"}}}, `demo: Keys[0].Script: step "nothing"`)
	f(demo.Config{Window: time.Millisecond}, `demo: Window: got 1ms, want 10ms to 24h0m0s`)
	f(demo.Config{Window: 25 * time.Hour}, `demo: Window: got 25h`)
	f(demo.Config{RequestsPerWindow: 100_001}, `demo: RequestsPerWindow: got 100001, want 0 to 100000`)
	f(demo.Config{InputTokensPerMinute: -1}, `demo: InputTokensPerMinute: got -1`)
	f(demo.Config{OutputTokensPerMinute: -1}, `demo: OutputTokensPerMinute: got -1`)
	f(demo.Config{AnnouncedPerMinute: -1}, `demo: AnnouncedPerMinute: got -1`)
	f(demo.Config{FaultAfter: -1}, `demo: FaultAfter: got -1`)
	f(demo.Config{Trickle: -1}, `demo: Trickle: got -1ns`)
}

// TestKeyForms wants a key in each form that one of the providers has.
func TestKeyForms(t *testing.T) {
	s := start(t, demo.Config{Keys: []demo.Key{{Value: "sk-demo"}}})
	f := func(path string, want int, header ...string) {
		t.Helper()
		body := strings.Replace(hello, "{", `{"max_tokens":1,`, 1)
		if got, _, text := post(t, s, path, body, header...); got != want {
			t.Errorf("%s %q: got %d %s, want %d", path, header, got, text, want)
		}
	}
	f(chatPath, 200, "Authorization", "bearer sk-demo")
	f(chatPath, 200, "Api-Key", "sk-demo")
	f(chatPath, 200, "X-Goog-Api-Key", "sk-demo")
	f(chatPath+"?key=sk-demo", 200)
	f(chatPath+"?key=sk-other", 401)
	f(chatPath, 401)
	f(chatPath, 401, "X-Api-Key", "sk-demo")
	f(messagesPath, 200, "X-Api-Key", "sk-demo")
	f(messagesPath+"?key=sk-demo", 401, "Api-Key", "sk-demo")
}
