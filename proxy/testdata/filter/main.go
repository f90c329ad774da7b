//go:build wasip1

// Command filter is a Proxy-Wasm guest that does what its configuration says, for the tests of package proxy: one word,
// and perhaps the name of a provider.
package main

import (
	"bytes"
	"strconv"
	"strings"

	"github.com/edge-proxy/edge/wasm-examples/proxyguest"
)

func init() {
	proxyguest.Configure(func(config []byte) (proxyguest.Plugin, error) {
		mode, rest, _ := strings.Cut(string(config), " ")
		if mode == "broken" {
			return proxyguest.Plugin{}, proxyguest.Status(10)
		}
		hits, err := proxyguest.NewCounter("hits")
		if err != nil {
			return proxyguest.Plugin{}, err
		}
		return proxyguest.Plugin{Stream: func() proxyguest.Stream {
			_ = hits.Add(1)
			return streams[mode](rest)
		}}, nil
	})
}

func main() {}

var streams = map[string]func(string) proxyguest.Stream{
	"headers": func(string) proxyguest.Stream {
		return proxyguest.Stream{
			RequestHeaders: func(bool) proxyguest.Action {
				seen := ""
				for _, name := range []string{":method", ":path", ":authority", ":scheme", "authorization", "host", "x-extra"} {
					seen += name + "=" + proxyguest.RequestHeaders.Get(name) + " "
				}
				_ = proxyguest.RequestHeaders.Set("x-seen", seen)
				_ = proxyguest.RequestHeaders.Set(":path", "/changed?x=1")
				route, _ := proxyguest.Property("cluster_name")
				_ = proxyguest.RequestHeaders.Set("x-provider", string(route))
				return proxyguest.Continue
			},
			ResponseHeaders: func(bool) proxyguest.Action {
				_ = proxyguest.ResponseHeaders.Set("x-answer", proxyguest.ResponseHeaders.Get(":status")+" "+proxyguest.RequestHeaders.Get("authorization"))
				_ = proxyguest.ResponseHeaders.Set(":status", "201")
				return proxyguest.Continue
			},
		}
	},
	"upper": func(string) proxyguest.Stream {
		up := func(b proxyguest.Buffer) func(int, bool) proxyguest.Action {
			return func(size int, _ bool) proxyguest.Action {
				if size > 0 {
					content, _ := b.Bytes()
					_ = b.Set(bytes.ToUpper(content))
				}
				return proxyguest.Continue
			}
		}
		return proxyguest.Stream{
			RequestHeaders: func(bool) proxyguest.Action {
				return proxyguest.Continue
			},
			RequestBody:  up(proxyguest.RequestBody),
			ResponseBody: up(proxyguest.ResponseBody),
		}
	},
	"whole": func(string) proxyguest.Stream {
		frame := func(b proxyguest.Buffer) func(int, bool) proxyguest.Action {
			return func(_ int, end bool) proxyguest.Action {
				if !end {
					return proxyguest.Pause
				}
				_ = b.Prepend([]byte("["))
				_ = b.Append([]byte("]"))
				return proxyguest.Continue
			}
		}
		return proxyguest.Stream{
			RequestHeaders: func(bool) proxyguest.Action {
				_ = proxyguest.RequestHeaders.Remove("content-length")
				return proxyguest.Continue
			},
			ResponseHeaders: func(bool) proxyguest.Action {
				_ = proxyguest.ResponseHeaders.Remove("content-length")
				return proxyguest.Continue
			},
			RequestBody:  frame(proxyguest.RequestBody),
			ResponseBody: frame(proxyguest.ResponseBody),
		}
	},
	"observe": func(string) proxyguest.Stream {
		in, out := 0, 0
		return proxyguest.Stream{
			RequestBody:  func(size int, _ bool) proxyguest.Action { in += size; return proxyguest.Continue },
			ResponseBody: func(size int, _ bool) proxyguest.Action { out += size; return proxyguest.Continue },
			End: func() {
				proxyguest.Log(proxyguest.Info, "observed "+strconv.Itoa(in)+" "+strconv.Itoa(out))
			},
		}
	},
	"reply": func(string) proxyguest.Stream {
		return proxyguest.Stream{
			RequestHeaders: func(bool) proxyguest.Action {
				_ = proxyguest.Reply(403, []proxyguest.Field{{Name: "x-own", Value: "yes"}}, []byte("no entry"))
				return proxyguest.Continue
			},
			ResponseHeaders: func(bool) proxyguest.Action {
				_ = proxyguest.ResponseHeaders.Set("x-back", proxyguest.ResponseHeaders.Get(":status"))
				return proxyguest.Continue
			},
		}
	},
	"reply-body": func(string) proxyguest.Stream {
		return proxyguest.Stream{RequestBody: func(int, bool) proxyguest.Action {
			_ = proxyguest.Reply(422, nil, []byte("not this content"))
			return proxyguest.Continue
		}}
	},
	"reply-response": func(string) proxyguest.Stream {
		return proxyguest.Stream{ResponseHeaders: func(bool) proxyguest.Action {
			_ = proxyguest.Reply(451, nil, []byte("not this answer"))
			return proxyguest.Continue
		}}
	},
	"callout": func(upstream string) proxyguest.Stream {
		return proxyguest.Stream{RequestHeaders: func(bool) proxyguest.Action {
			err := proxyguest.Call(upstream, []proxyguest.Field{
				{Name: ":method", Value: "GET"}, {Name: ":path", Value: "/auth"}, {Name: ":authority", Value: "auth.example"},
			}, nil, 5000, func(ok bool) {
				if status := proxyguest.CallHeaders.Get(":status"); !ok || status != "200" {
					_ = proxyguest.Reply(401, nil, []byte("refused "+status))
					return
				}
				content, _ := proxyguest.CallBody.Bytes()
				_ = proxyguest.RequestHeaders.Set("x-user", string(content))
				_ = proxyguest.Resume(proxyguest.Request)
			})
			if err != nil {
				_ = proxyguest.Reply(503, nil, []byte("call: "+err.Error()))
			}
			return proxyguest.Pause
		}}
	},
	"trap-headers": func(string) proxyguest.Stream {
		return proxyguest.Stream{RequestHeaders: func(bool) proxyguest.Action { panic("the guest's own words") }}
	},
	"trap-body": func(string) proxyguest.Stream {
		return proxyguest.Stream{RequestBody: func(int, bool) proxyguest.Action { panic("the guest's own words") }}
	},
	"trap-response": func(string) proxyguest.Stream {
		return proxyguest.Stream{ResponseHeaders: func(bool) proxyguest.Action { panic("the guest's own words") }}
	},
	"trap-response-body": func(string) proxyguest.Stream {
		return proxyguest.Stream{ResponseBody: func(int, bool) proxyguest.Action { panic("the guest's own words") }}
	},
	"pause": func(string) proxyguest.Stream {
		return proxyguest.Stream{RequestHeaders: func(bool) proxyguest.Action { return proxyguest.Pause }}
	},
	"reset": func(string) proxyguest.Stream {
		return proxyguest.Stream{RequestHeaders: func(bool) proxyguest.Action {
			_ = proxyguest.Reset(proxyguest.Request)
			return proxyguest.Pause
		}}
	},
	"trailers": func(string) proxyguest.Stream {
		return proxyguest.Stream{
			RequestTrailers: func() proxyguest.Action {
				_ = proxyguest.RequestTrailers.Set("x-sum", proxyguest.RequestTrailers.Get("x-sum")+"-in")
				return proxyguest.Continue
			},
			ResponseTrailers: func() proxyguest.Action {
				_ = proxyguest.ResponseTrailers.Set("x-sum", proxyguest.ResponseTrailers.Get("x-sum")+"-out")
				return proxyguest.Continue
			},
		}
	},
	"peek": func(string) proxyguest.Stream {
		look := func(when string) {
			seen := when
			for _, name := range []string{"authorization", "x-extra", ":authority", "x-mark"} {
				seen += " " + name + "=" + proxyguest.RequestHeaders.Get(name)
			}
			proxyguest.Log(proxyguest.Info, seen)
		}
		return proxyguest.Stream{
			RequestHeaders:  func(bool) proxyguest.Action { look("head"); return proxyguest.Continue },
			RequestBody:     func(int, bool) proxyguest.Action { look("body"); return proxyguest.Continue },
			ResponseHeaders: func(bool) proxyguest.Action { look("answer"); return proxyguest.Continue },
			End:             func() { look("end") },
		}
	},
	"trap-end": func(string) proxyguest.Stream {
		return proxyguest.Stream{
			RequestHeaders: func(bool) proxyguest.Action { return proxyguest.Pause },
			RequestBody: func(_ int, end bool) proxyguest.Action {
				if end {
					panic("the guest's own words")
				}
				return proxyguest.Pause
			},
		}
	},
	"hold-request": func(string) proxyguest.Stream { // head and content, to the content's end
		return proxyguest.Stream{
			RequestHeaders: func(bool) proxyguest.Action { return proxyguest.Pause },
			RequestBody:    untilEnd,
		}
	},
	"hold-response": func(string) proxyguest.Stream {
		return proxyguest.Stream{
			ResponseHeaders: func(bool) proxyguest.Action { return proxyguest.Pause },
			ResponseBody:    untilEnd,
		}
	},
	"keep-body": func(string) proxyguest.Stream { // and never lets it go
		return proxyguest.Stream{RequestBody: func(int, bool) proxyguest.Action { return proxyguest.Pause }}
	},
	"reset-response": func(string) proxyguest.Stream {
		return proxyguest.Stream{ResponseHeaders: func(bool) proxyguest.Action {
			_ = proxyguest.Reset(proxyguest.Response)
			return proxyguest.Pause
		}}
	},
	"reply-length": func(string) proxyguest.Stream {
		return proxyguest.Stream{ResponseHeaders: func(bool) proxyguest.Action {
			_ = proxyguest.Reply(451, []proxyguest.Field{
				{Name: "content-length", Value: "999"}, {Name: "transfer-encoding", Value: "chunked"}, {Name: "x-own", Value: "yes"},
			}, []byte("not this answer"))
			return proxyguest.Continue
		}}
	},
}

func untilEnd(_ int, end bool) proxyguest.Action {
	if end {
		return proxyguest.Continue
	}
	return proxyguest.Pause
}
