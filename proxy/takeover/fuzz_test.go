package takeover

import (
	"bufio"
	"bytes"
	"context"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"
)

// pieces is a connection that gives its bytes a few at a time.
type pieces struct {
	net.Conn
	left []byte
	size int
}

func (p *pieces) Read(into []byte) (int, error) {
	if len(p.left) == 0 {
		return 0, io.EOF
	}
	n := copy(into, p.left[:min(p.size, len(p.left))])
	p.left = p.left[n:]
	return n, nil
}

func (p *pieces) Write(b []byte) (int, error)     { return len(b), nil }
func (p *pieces) SetReadDeadline(time.Time) error { return nil }

// message is all that is told of one message.
type message struct {
	Method, RequestURI, Proto, URL, Host string
	Major, Minor                         int
	Header, Trailer                      http.Header
	Coding                               []string
	Length                               int64
	Close, NoBody                        bool
	Content, Rest                        string
}

func messageOf(r *http.Request, content []byte, rest []byte) message {
	return message{
		r.Method, r.RequestURI, r.Proto, r.URL.String(), r.Host, r.ProtoMajor, r.ProtoMinor, r.Header, r.Trailer, r.TransferEncoding,
		r.ContentLength, r.Close, r.Body == http.NoBody, string(content), string(rest),
	}
}

// ours reads the messages of a connection with the parser here, until one is refused, in its head or later.
func ours(t *testing.T, data []byte, size int) (all []message) {
	rwc := &pieces{left: bytes.Clone(data), size: size}
	c := newConn(New(Config{MaxHeaderBytes: 64 << 10}), new(http.Request).WithContext(t.Context()))
	c.begin(context.Background(), rwc, bufio.NewReadWriter(bufio.NewReader(rwc), bufio.NewWriter(rwc)))
	defer c.cancel()
	for len(all) < mostMessages {
		c.header = http.Header{} // kept here, where a connection uses it again
		x, head, err := c.read()
		if err != nil {
			break
		}
		r, content := with(c.ctx, head), []byte{}
		if r.ContentLength != 0 {
			r.Body, x.content.request = &x.content, r
			if content, err = io.ReadAll(r.Body); err != nil {
				break
			}
		}
		all = append(all, messageOf(r, content, append(bytes.Clone(c.in[c.from:c.to]), rwc.left...)))
		c.values = nil
	}
	return all
}

const mostMessages = 4

// theirs reads count messages with net/http, or as many as it takes.
func theirs(data []byte, count int) (all []message) {
	source := bytes.NewReader(data)
	buffered := bufio.NewReader(source)
	for len(all) < count {
		if len(all) > 0 && all[len(all)-1].Method == http.MethodPost { // as its server does
			for range 4 {
				if c, err := buffered.Peek(1); err == nil && (c[0] == '\r' || c[0] == '\n') {
					_, _ = buffered.Discard(1)
				}
			}
		}
		r, err := http.ReadRequest(buffered)
		if err != nil {
			break
		}
		content, err := io.ReadAll(r.Body)
		if err != nil {
			break
		}
		rest := data[len(data)-source.Len()-buffered.Buffered():]
		all = append(all, messageOf(r, content, rest))
	}
	return all
}

// FuzzRequest: the messages that are accepted here, net/http accepts too, and they mean the same there, their ends
// included. However the bytes come, it is the same.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		"GET / HTTP/1.1\r\nHost: h\r\n\r\n",
		"GET /a?b HTTP/1.0\r\nconnection: Keep-Alive\r\nPragma: no-cache\r\n\r\nGET",
		"POST http://h/x HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\nContent-Length: 3\r\n\r\nabcGET",
		"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\nGET",
		"CONNECT h:1 HTTP/1.1\r\nHost: h:1\r\nX-y-Z: \xff\r\nExpect: 100-continue\r\n\r\n",
		"OPTIONS * HTTP/1.1\r\nHost:\r\nX: a\r\n b\r\n\r\n",
		"PUT / HTTP/1.1\nHost: h\nContent-Length: 1\nTransfer-Encoding: chunked\n\n0\n\n",
		"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\nPOST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHEAD / HTTP/1.0\r\n\r\n",
		"GET /%zz HTTP/1.2\r\nHost: a\r\nHost: b\r\nX : y\r\n\r\n",
	} {
		f.Add([]byte(seed), 1)
		f.Add([]byte(seed), 5000)
	}
	f.Fuzz(func(t *testing.T, data []byte, size int) {
		size = max(1, size)
		got := ours(t, data, size)
		if again := ours(t, data, 1<<20); !reflect.DeepEqual(got, again) {
			t.Fatalf("in parts of %d: %+v\nas a whole: %+v", size, got, again)
		}
		if want := theirs(data, len(got)); !reflect.DeepEqual(got, want) {
			t.Fatalf("%q:\ngot  %+v\nwant %+v", data, got, want)
		}
		for _, m := range got {
			for name := range m.Header {
				if http.CanonicalHeaderKey(name) != name || strings.ContainsAny(name, " :\r\n") {
					t.Fatalf("%q: the name %q", data, name)
				}
			}
		}
	})
}
