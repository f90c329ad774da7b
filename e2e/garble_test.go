package e2e

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"testing"
)

// garblers are the malformed answers: what is sent to a request with this id whose answer is text, and whether the
// connection goes on.
var garblers = []func(id, text string) string{
	func(string, string) string { return "" },
	func(string, string) string { return "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" },
	func(string, string) string { return "SSH-2.0-OpenSSH_9.9\r\n" },
	func(_, text string) string { return "HTTP/1.1 2OO OK\r\nContent-Length: 2\r\n\r\nok" + text },
	func(_, text string) string { return "HTTP/2.0 200 OK\r\n\r\n" + text },
	func(_, text string) string { return "\r\n\r\nHTTP/1.1 200 OK\r\n\r\n" + text },
	func(id, text string) string { return head(id, "Content-Length", "12, 13") + text },
	func(id, text string) string { return head(id, "Content-Length", "-1") + text },
	func(id, text string) string { return head(id, "Content-Length", "+12") + text },
	func(id, text string) string { return head(id, "Content-Length", "99999999999999999999") + text },
	func(id, text string) string { return head(id, "Content-Length", "1", "Content-Length", "2") + text },
	func(id, text string) string { return head(id, "Content-Length", fmt.Sprint(len(text)+1)) + text }, // and no more
	func(id, text string) string { return head(id, "Transfer-Encoding", "gzip, chunked") + text },
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked") + "zz\r\n" + text + "\r\n0\r\n\r\n"
	},
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked") + "-5\r\n" + text + "\r\n0\r\n\r\n"
	},
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked") + "ffffffffffffffffff\r\n" + text
	},
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked") + fmt.Sprintf("%x\r\n%s0\r\n\r\n", len(text), text) // no CRLF
	},
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked") + fmt.Sprintf("%x\r\n%s\r\n", len(text), text) // no last chunk
	},
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked") + fmt.Sprintf("%x\r\n%s\r\n0\r\nX-Cut: y", len(text), text)
	},
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked") + "1;" + strings.Repeat("x", 64<<10) + "\r\n" + text
	},
	func(id, text string) string { return "HTTP/1.1 200 OK\r\nX-Id " + id + "\r\n\r\n" + text },
	func(id, text string) string { return "HTTP/1.1 200 OK\r\nX-Id: " + id + "\r\n folded\r\n\r\n" + text },
	func(id, text string) string { return "HTTP/1.1 200 OK\nX-Id: " + id + "\n\n" + text },
	func(id, text string) string { return "HTTP/1.1 200 OK\r\nX-Id: " + id + "\x00\r\n\r\n" + text },
	func(string, string) string { return strings.Repeat("HTTP/1.1 100 Continue\r\n\r\n", 1000) },
	func(id, _ string) string {
		return "HTTP/1.1 200 OK\r\nX-Id: " + id + "\r\n" + strings.Repeat("X-More: and more\r\n", 200_000)
	},
	func(string, string) string { return "HTTP/1.1 200 OK\r\nX-Long: " + strings.Repeat("x", 4<<20) },
	func(string, string) string { return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: else\r\n\r\nelse" },
	func(id, text string) string { // more than it says: what follows is an answer to nobody
		return head(id, "Content-Length", fmt.Sprint(len(text))) + text + head("nobody", "Content-Length", "6") + "nobody"
	},
	func(id, text string) string {
		return head(id, "Transfer-Encoding", "chunked", "Content-Length", "3") +
			fmt.Sprintf("%x\r\n%s\r\n0\r\n\r\n", len(text), text) + head("nobody", "Content-Length", "6") + "nobody"
	},
}

// head is that of a 200 with these fields.
func head(id string, fields ...string) string {
	var out strings.Builder
	fmt.Fprintf(&out, "HTTP/1.1 200 OK\r\nX-Id: %s\r\n", id)
	for i := 0; i+1 < len(fields); i += 2 {
		fmt.Fprintf(&out, "%s: %s\r\n", fields[i], fields[i+1])
	}
	return out.String() + "\r\n"
}

// garble is a provider of which each second answer is malformed. It returns its address.
func garble(t *testing.T, seen *sightings) string {
	t.Helper()
	return accepting(t, func(conn net.Conn) {
		reader := bufio.NewReader(conn)
		for {
			r, err := http.ReadRequest(reader)
			if err != nil {
				return
			}
			a := askedBy(r)
			seen.add(a.id)
			content, err := io.ReadAll(r.Body)
			if err != nil {
				return
			}
			text := answer(a.id, string(content), a.lines, a.stream)
			if rand.IntN(2) == 0 {
				if _, err := io.WriteString(conn, head(a.id, "Content-Length", fmt.Sprint(len(text)))+text); err != nil {
					return
				}
				continue
			}
			_, _ = io.WriteString(conn, garblers[rand.IntN(len(garblers))](a.id, text)) // who is told ends the connection
			if rand.IntN(2) == 0 {
				return
			} // else it waits for whoever trusts this connection
		}
	})
}
