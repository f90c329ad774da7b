package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// authority is a CA that nobody else knows, and a certificate of it for 127.0.0.1.
type authority struct {
	roots *x509.CertPool
	leaf  tls.Certificate
}

var authorities = sync.OnceValue(func() (made [2]authority) {
	for i := range made {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			panic(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: fmt.Sprintf("test %d", i)},
			NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
			IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
			IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, DNSNames: []string{"provider.example"},
		}
		der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
		if err != nil {
			panic(err)
		}
		parsed, err := x509.ParseCertificate(der)
		if err != nil {
			panic(err)
		}
		made[i] = authority{x509.NewCertPool(), tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}}
		made[i].roots.AddCert(parsed)
	}
	return made
})

// corked holds back what is written while it is corked, so that several records leave as one packet.
type corked struct {
	net.Conn
	mu   sync.Mutex
	cork bool
	held []byte
}

func (c *corked) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cork {
		c.held = append(c.held, p...)
		return len(p), nil
	}
	return c.Conn.Write(p)
}

// together sends what f writes in one packet.
func (c *conn) together(f func()) {
	under := c.Conn.(*tls.Conn).NetConn().(*corked)
	under.mu.Lock()
	under.cork = true
	under.mu.Unlock()
	f()
	under.mu.Lock()
	defer under.mu.Unlock()
	_ = under.SetWriteDeadline(time.Time{}) // CloseWrite has set one
	_, _ = under.Conn.Write(under.held)
	under.cork, under.held = false, nil
}

type secureListener struct {
	net.Listener
	config *tls.Config
}

func (l secureListener) Accept() (net.Conn, error) {
	raw, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return tls.Server(&corked{Conn: raw}, l.config), nil
}

// serveTLS is serve under TLS, in one version of it.
func serveTLS(t *testing.T, version uint16, with func(*tls.Config), script func(c *conn)) *server {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // loopback
	if err != nil {
		t.Fatal(err)
	}
	config := &tls.Config{
		Certificates: []tls.Certificate{authorities()[0].leaf}, NextProtos: []string{"h2", "http/1.1"},
		MinVersion: tls.VersionTLS10, MaxVersion: version, DynamicRecordSizingDisabled: true,
	}
	if with != nil {
		with(config)
	}
	return serveOn(t, secureListener{listener, config}, "https", script)
}

func trusting(c *upstream.Config) { c.RootCAs = authorities()[0].roots }

// overTLS runs f with both versions of TLS that are in use.
func overTLS(t *testing.T, run func(*testing.T, func(*testing.T, maker)), f func(t *testing.T, m maker, version uint16)) {
	t.Helper()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			run(t, func(t *testing.T, m maker) { f(t, m, version) })
		})
	}
}

// instead is own with its text.
func instead(text string) func(*testing.T, func(*testing.T, maker)) {
	return func(t *testing.T, f func(*testing.T, maker)) { own(t, text, f) }
}

func TestTLS(t *testing.T) {
	overTLS(t, each, func(t *testing.T, m maker, version uint16) {
		offered := make(chan []string, 8)
		s := serveTLS(t, version, func(c *tls.Config) {
			c.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
				offered <- hello.SupportedProtos
				return nil, nil
			}
		}, func(c *conn) {
			for {
				q, more := c.request()
				if !more {
					return
				}
				c.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", len(q.content), q.content))
			}
		})
		client := m.client(t, s, trusting)
		for _, whole := range []string{"", "hello", strings.Repeat("x", 1<<20)} {
			for _, length := range []int64{int64(len(whole)), -1} {
				want(t, do(t, client, post(content(t, whole), length)), 200, whole)
			}
		}
		if got := receive(t, offered); !slices.Equal(got, []string{"http/1.1"}) && (m.own || len(got) > 0) {
			t.Errorf("offered %q, want http/1.1", got)
		}
		s.reuses(t, 6)
	})
}

func TestTLSServersThatAreNotTrusted(t *testing.T) {
	f := func(name string, version uint16, config func(*upstream.Config)) {
		t.Run(name, func(t *testing.T) {
			each(t, func(t *testing.T, m maker) {
				s := serveTLS(t, version, nil, func(c *conn) {
					if err := c.Conn.(*tls.Conn).HandshakeContext(t.Context()); err == nil {
						c.request()
					}
				})
				u := content(t, "hello")
				if r := do(t, m.client(t, s, config), post(u, 5)); r.err == nil {
					t.Errorf("got %v", r)
				}
				if wantClosed(t, u); s.requests.Load() != 0 {
					t.Error("a request was sent")
				}
			})
		})
	}
	f("another CA", tls.VersionTLS13, func(c *upstream.Config) { c.RootCAs = authorities()[1].roots })
	f("the system's CAs", tls.VersionTLS13, func(*upstream.Config) {})
	f("TLS 1.1", tls.VersionTLS11, trusting)
	f("another name", tls.VersionTLS13, func(c *upstream.Config) {
		trusting(c)
		c.BaseURL = strings.Replace(c.BaseURL, "127.0.0.1", "127.0.0.2", 1)
	})
}

func TestTLSServerThatSpeaksSomethingElse(t *testing.T) {
	each(t, func(t *testing.T, m maker) {
		s := serve(t, func(c *conn) {
			c.tested = true
			c.send("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
		})
		u := content(t, "hello")
		client := m.client(t, s, trusting, func(c *upstream.Config) { c.BaseURL = strings.Replace(c.BaseURL, "http", "https", 1) })
		if r := do(t, client, post(u, 5)); r.err == nil {
			t.Errorf("got %v, want an error", r)
		}
		wantClosed(t, u)
	})
}

func TestCancelOfAHandshake(t *testing.T) {
	own(t, "net/http goes on with it: somebody else may want the connection", func(t *testing.T, m maker) {
		for _, ctx := range m.endings(t) {
			v := watching(t, func(c *conn) { _, _ = c.r.Peek(1) })
			client := m.client(t, v.server, trusting, func(c *upstream.Config) { c.BaseURL = strings.Replace(c.BaseURL, "http", "https", 1) })
			u := uploading(t)
			call := start(ctx.Context, client, post(u, -1))
			receive(t, v.ready)
			before := time.Now()
			ctx.end(errGone)
			if r := call.wait(t); !errors.Is(r.err, errGone) || time.Since(before) > soon {
				t.Errorf("%s: got %v after %v, want %v", ctx.name, r, time.Since(before), errGone)
			}
			wantClosed(t, u)
			v.wantClosedSoon(t, before)
		}
	})
}

func TestCancelUnderTLS(t *testing.T) {
	overTLS(t, each, func(t *testing.T, m maker, version uint16) {
		for _, ctx := range m.endings(t) {
			closed := make(chan time.Time, 1)
			s := serveTLS(t, version, nil, func(c *conn) {
				if _, more := c.request(); more {
					c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")
					c.tested = true
					c.wait()
					closed <- time.Now()
				}
			})
			var a upstream.Response
			if err := m.client(t, s, trusting).Do(ctx.Context, get("/"), &a); err != nil {
				t.Fatal(err)
			}
			read(t, a.Body, 5)
			before := time.Now()
			ctx.end(errGone)
			if took := receive(t, closed).Sub(before); took > soon {
				t.Errorf("the server saw it after %v, want at most %v", took, soon)
			}
			if _, err := io.ReadAll(a.Body); !errors.Is(err, errGone) {
				t.Errorf("%s: got %v, want %v", ctx.name, err, errGone)
			}
			a.Body.Close()
			ctx.check(t, "TLS")
		}
	})
}

func TestTLSSessionIsResumed(t *testing.T) {
	overTLS(t, instead("net/http was given no cache of sessions"), func(t *testing.T, m maker, version uint16) {
		resumed := make(chan bool, 8)
		s := serveTLS(t, version, nil, func(c *conn) {
			if _, more := c.request(); more {
				resumed <- c.Conn.(*tls.Conn).ConnectionState().DidResume
				c.send("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
			}
		})
		client := m.client(t, s, trusting)
		for i := range 3 {
			want(t, do(t, client, get("/")), 200, "ok")
			if got := receive(t, resumed); got != (i > 0) {
				t.Errorf("connection %d: resumed: %v", i, got)
			}
		}
	})
}

// How a TLS server may give up a connection that carries no request.
func TestIdleTLSConnectionThatTheServerClosed(t *testing.T) {
	for name, end := range map[string]func(*conn){
		"close_notify": (*conn).finish, "close_notify and FIN": func(c *conn) { c.Close() }, "FIN": (*conn).cut, "RST": (*conn).reset,
	} {
		t.Run(name, func(t *testing.T) {
			overTLS(t, instead("net/http finds out in another goroutine"), func(t *testing.T, m maker, version uint16) {
				answered, ended := make(chan struct{}), make(chan struct{})
				s := serveTLS(t, version, nil, func(c *conn) {
					if _, more := c.request(); !more {
						return
					}
					if c.send(ok); c.n == 0 {
						<-answered
						end(c)
						ended <- struct{}{}
					}
				})
				client := m.client(t, s, trusting)
				want(t, do(t, client, get("/")), 200, "ok")
				answered <- struct{}{}
				<-ended
				want(t, do(t, client, post(content(t, "hello"), 5)), 200, "ok")
				if a, r := s.accepted.Load(), s.requests.Load(); a != 2 || r != 2 {
					t.Errorf("%d requests on %d connections, want 2 on 2", r, a)
				}
			})
		})
	}
}

// The farewell may come with the answer, and is then not in the kernel any more when the next request looks.
func TestTLSConnectionThatIsClosedWithItsAnswer(t *testing.T) {
	overTLS(t, instead("net/http finds out in another goroutine"), func(t *testing.T, m maker, version uint16) {
		for _, size := range []int{2, 8000, 20_000} {
			s := serveTLS(t, version, nil, func(c *conn) {
				if _, more := c.request(); more {
					c.together(func() {
						c.send(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size)))
						c.finish()
					})
				}
			})
			client := m.client(t, s, trusting)
			for range 3 {
				want(t, do(t, client, post(content(t, "hello"), 5)), 200, strings.Repeat("x", size))
			}
		}
	})
}

// Nor is what a server sends behind its answer in the kernel any more, when it was in the same record.
func TestBytesBehindAnAnswerReachNobodyUnderTLS(t *testing.T) {
	const evil = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil"
	overTLS(t, instead("net/http finds out in another goroutine"), func(t *testing.T, m maker, version uint16) {
		for _, size := range []int{0, 2, 3000, 4096, 8000, 16_000} {
			for _, apart := range []bool{false, true} {
				s := serveTLS(t, version, nil, func(c *conn) {
					if _, more := c.request(); !more {
						return
					}
					answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s", size, strings.Repeat("x", size))
					if apart {
						c.together(func() { c.send(answer, evil) })
					} else {
						c.send(answer + evil)
					}
				})
				client := m.client(t, s, trusting)
				for range 2 {
					q := get("/")
					q.Scratch = make([]byte, 4096)
					if r := do(t, client, q); r.failure() != nil || len(r.content) != size {
						t.Errorf("size %d: got %d with %.10q, %v", size, r.Status, r.content, r.failure())
					}
				}
			}
		}
	})
}

// Without a farewell an end may be anybody's doing.
func TestTLSAnswerThatIsCutOffIsNeverWhole(t *testing.T) {
	overTLS(t, each, func(t *testing.T, m maker, version uint16) {
		for _, answer := range []string{
			"HTTP/1.1 200 OK\r\n\r\nhello", "HTTP/1.0 200 OK\r\n\r\nhello", "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n", "HTTP/1.1 200 OK\r\nContent-",
		} {
			if strings.HasSuffix(answer, "0 OK\r\n\r\nhello") && !m.own {
				continue // crypto/tls calls it a good end when no record was cut, and net/http believes that
			}
			s := serveTLS(t, version, nil, func(c *conn) {
				if _, more := c.request(); more {
					c.send(answer)
					c.cut()
				}
			})
			if r := do(t, m.client(t, s, trusting), get("/")); r.failure() == nil {
				t.Errorf("%q: got %v, want an error", answer, r)
			}
		}
		s := serveTLS(t, version, nil, func(c *conn) {
			if _, more := c.request(); more {
				c.send("HTTP/1.1 200 OK\r\n\r\nhello")
				c.finish()
			}
		})
		want(t, do(t, m.client(t, s, trusting), get("/")), 200, "hello")
	})
}

func TestAnswerInTheMidstOfAnUploadUnderTLS(t *testing.T) {
	overTLS(t, each, func(t *testing.T, m maker, version uint16) {
		answered := make(chan struct{}, 1)
		s := serveTLS(t, version, nil, func(c *conn) {
			if c.n > 0 {
				c.request()
				c.send(ok)
				return
			}
			c.tested = true
			c.head()
			_, _ = io.CopyN(io.Discard, c.r, 64<<10)
			c.send(tooLarge)
			<-answered
			c.wait()
		})
		client := m.client(t, s, trusting, atMost(1))
		u := content(t, strings.Repeat("x", 10<<20))
		want(t, do(t, client, post(u, -1)), 413, "large")
		answered <- struct{}{}
		wantClosed(t, u)
		want(t, do(t, client, get("/")), 200, "ok")
	})
}

func TestUpgradeUnderTLS(t *testing.T) {
	overTLS(t, each, func(t *testing.T, m maker, version uint16) {
		s := serveTLS(t, version, nil, func(c *conn) {
			if _, more := c.head(); more {
				c.send(switched + strings.Repeat("x", 10_000))
				_, _ = io.Copy(c, io.LimitReader(c.r, 5))
			}
		})
		conn := upgraded(t, m.client(t, s, trusting), upgrade())
		exchange(t, conn, "hello", strings.Repeat("x", 10_000)+"hello")
		conn.Close()
	})
}
