package proxy_test

import (
	"flag"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/edge-proxy/edge/proxy"
)

// framed answers with how the content was framed, and the content.
func framed(name string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			panic(http.ErrAbortHandler)
		}
		length := r.ContentLength
		if length >= 0 && length == int64(len(body)) {
			length = 0 // right
		}
		fmt.Fprintf(w, "%s %d %s|%s", name, length, r.RequestURI, body)
	}
}

// several is a configuration with providers a, b and c, who speak alike, and anthropic, who does not.
func several(t *testing.T, change ...func(*proxy.Config)) proxy.Config {
	t.Helper()
	c := proxy.DefaultConfig()
	c.InitialPoolSize = 16
	c.Providers = map[string]proxy.Provider{}
	for _, name := range []string{"a", "b", "c", "anthropic"} {
		p := proxy.DefaultProvider()
		p.BaseURL = provider(t, framed(name))
		c.Providers[name] = p
	}
	for _, do := range change {
		do(&c)
	}
	return c
}

// send posts JSON, in chunks or with a length.
func send(t *testing.T, c *http.Client, url, body string, chunked bool) (answer, string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), "POST", url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if chunked {
		request.Body, request.ContentLength = io.NopCloser(dribble{strings.NewReader(body)}), -1
	}
	request.Header.Set("Content-Type", "application/json")
	got, err := c.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	return whole(t, got)
}

func TestFallbacksNeverReachTheProvider(t *testing.T) {
	e := start(t, several(t))
	c := client(t)
	f := func(body, want string) {
		t.Helper()
		for _, chunked := range []bool{false, true} {
			length := 0
			if chunked {
				length = -1
			}
			got, text := send(t, c, e.url+"/v1/x", body, chunked)
			if wanted := fmt.Sprintf("a %d /v1/x|%s", length, want); got.StatusCode != http.StatusOK || text != wanted {
				t.Errorf("%.100s, chunked %v: got %d %.200s, want %.200s", body, chunked, got.StatusCode, text, wanted)
			}
		}
	}
	for _, value := range []string{`[]`, `["b/m"]`, `[ "b/m" , {"provider":"c","model":"x"} ]`, `["a/m","a/m","b/m","b/m"]`} {
		f(`{"model":"a/m","fallbacks":`+value+`,"n":1}`, `{"model":"m","n":1}`)
		f(`{"fallbacks":`+value+`,"model":"a/m"}`, `{"model":"m"}`)
		f(`{"fallbacks":`+value+`,"n":{"a":1,"b":2},"model":"a/m"}`, `{"n":{"a":1,"b":2},"model":"m"}`)
		f(`{ "n" : [1, {"fallbacks":2}],  "fallb\u0061cks":`+value+`, "model" : "\u0061\/m\u0020" }`, `{ "n" : [1, {"fallbacks":2}], "model" : "m\u0020" }`)
		f(`{"model":"a/m" , "fallbacks" : `+value+` }`, `{"model":"m"  }`)
		f("{\n  \"fallbacks\" :\t"+value+"\r\n,\n  \"model\": \"a/m\"\n}\n", "{\n  \"model\": \"m\"\n}\n")
	}
	for _, pad := range []int{16<<10 - 40, 16<<10 - 30, 16<<10 - 20, 32<<10 - 25, 64 << 10, 200 << 10} { // across blocks
		text := strings.Repeat("p", pad)
		f(`{"p":"`+text+`","fallbacks":["b/m",  "c/other"],"model":"a/m","q":"`+text+`"}`, `{"p":"`+text+`","model":"m","q":"`+text+`"}`)
		f(`{"p":"`+text+`","model":"a/m","q":"`+text+`","fallbacks":["b/m"]}`, `{"p":"`+text+`","model":"m","q":"`+text+`"}`)
		f(`{"fallbacks":["b/m"],"p":"`+text+`","model":"a/m"}`, `{"p":"`+text+`","model":"m"}`)
		f(`{"model":"a/m","fallbacks":["b/m"`+strings.Repeat(" ", pad/4)+`],"p":1}`, `{"model":"m","p":1}`)
	}
}

func TestFallbacksOfBareModels(t *testing.T) {
	e := start(t, one(provider(t, framed("up"))))
	f := func(body, want string) {
		t.Helper()
		if got, text := send(t, client(t), e.url+"/v1/x", body, false); text != "up 0 /v1/x|"+want {
			t.Errorf("%s: got %d %s", body, got.StatusCode, text)
		}
	}
	f(`{"model":"m","fallbacks":["up/n"]}`, `{"model":"m"}`)
	f(`{"fallbacks":["up/n"]}`, `{}`)
}

// On a provider's own path "fallbacks" is the provider's, whatever it is.
func TestFallbacksOnAProvidersPathAreTheProviders(t *testing.T) {
	e := start(t, several(t))
	for _, body := range []string{`{"fallbacks":7}`, `{"model":"a/m","fallbacks":["b/m"]}`, `{"fallbacks":[],"fallbacks":["x"]`} {
		if got, text := send(t, client(t), e.url+"/a/v1/x", body, false); text != "a 0 /v1/x|"+body {
			t.Errorf("%s: got %d %s", body, got.StatusCode, text)
		}
	}
}

func TestFallbacksThatAPluginHasWritten(t *testing.T) {
	long := strings.Repeat("x", 40<<10)
	for _, pad := range []string{"", long} {
		e := start(t, several(t, func(c *proxy.Config) {
			before(script(t, "pick", `q: literal 0 {"model":"b/big","fallbacks":["c/n"],"p":"`+pad+`"}`, requestOnly))(c, nil)
		}))
		if got, text := send(t, client(t), e.url+"/v1/x", `{"model":"a/m","fallbacks":7}`, false); text != `b 0 /v1/x|{"model":"big","p":"`+pad+`"}` {
			t.Errorf("got %d %.100s", got.StatusCode, text)
		}
	}
	// What a filter has passed on, whole or in pieces, and what provider plugins see.
	for _, chunked := range []bool{false, true} {
		e := start(t, several(t, func(c *proxy.Config) {
			before(filter(t, "out", "observe"))(c, nil)
			p := c.Providers["b"]
			around(filter(t, "in", "observe"), script(t, "read", "q: log {body}"))(c, &p)
			c.Providers["b"] = p
		}))
		body := `{"p":"` + long + `","fallbacks":["c/n"],"model":"b/m"}`
		got, text := send(t, client(t), e.url+"/v1/x", body, chunked)
		if _, content, _ := strings.Cut(text, "|"); got.StatusCode != http.StatusOK || content != `{"p":"`+long+`","model":"m"}` {
			t.Errorf("chunked %v: got %d %.100s", chunked, got.StatusCode, text)
		}
	}
}

// The words for each fault are in testdata/fallbacks/refusals.txt: a body, what is answered, an empty line. LONG is 600
// letters, SPACE 65 KiB of it.
func TestFallbacksThatAreRefused(t *testing.T) {
	e := start(t, several(t, func(c *proxy.Config) {
		c.CacheDir = compiled()
		c.Plugins = []proxy.Plugin{script(t, "translate", "q: log x")}
		translated := c.Providers["anthropic"]
		translated.Plugins = []string{"translate"}
		translated.Dialect = "anthropic"
		c.Providers["claude"] = translated
	}))
	const file = "testdata/fallbacks/refusals.txt"
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	long, deep := strings.Repeat("m", 600), strings.Repeat(" ", 65<<10)
	var anew []string
	update := flag.Lookup("update").Value.String() == "true"
	for i, paragraph := range strings.Split(strings.TrimSpace(string(golden)), "\n\n") {
		body, want, _ := strings.Cut(paragraph, "\n")
		got, text := send(t, client(t), e.url+"/v1/x", strings.NewReplacer("LONG", long, "SPACE", deep).Replace(body), false)
		found := fmt.Sprintf("%d %s", got.StatusCode, strings.TrimSpace(text))
		if anew = append(anew, body+"\n"+found); found != want && !update {
			t.Errorf("case %d: %s\n got %s\nwant %s", i, body, found, want)
		}
	}
	if update {
		if err := os.WriteFile(file, []byte(strings.Join(anew, "\n\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestRequestsFallbackIsAsked(t *testing.T) {
	e := start(t, several(t, func(c *proxy.Config) {
		down := c.Providers["a"]
		down.BaseURL = provider(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
		c.Providers["a"] = down
	}))
	got, text := send(t, client(t), e.url+"/v1/x", `{"model":"a/m","n":1,"fallbacks":["a/m","b/n","c/m"]}`, false)
	if got.StatusCode != http.StatusOK || text != `b 0 /v1/x|{"model":"n","n":1}` {
		t.Errorf("got %d %s", got.StatusCode, text)
	}
}
