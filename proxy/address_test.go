package proxy

import (
	"net/http"
	"testing"
)

func TestCallerAddress(t *testing.T) {
	f := func(remote string, forwarded []string, want string) {
		t.Helper()
		r := &http.Request{RemoteAddr: remote, Header: http.Header{"X-Forwarded-For": forwarded}}
		if got := callerAddress(r, networks([]string{"10.0.0.0/8", "192.0.2.1", "fd00::/8"})); got != want {
			t.Errorf("%s %q: got %s, want %s", remote, forwarded, got, want)
		}
	}
	f("198.51.100.7:1", nil, "198.51.100.7")
	f("198.51.100.7:1", []string{"1.2.3.4"}, "198.51.100.7") // not trusted: it may say what it likes
	f("10.1.1.1:1", []string{"1.2.3.4"}, "1.2.3.4")
	f("10.1.1.1:1", []string{"6.6.6.6, 1.2.3.4, 10.2.2.2"}, "1.2.3.4")
	f("10.1.1.1:1", []string{"6.6.6.6", "1.2.3.4", "192.0.2.1"}, "1.2.3.4")
	f("[::ffff:10.1.1.1]:1", []string{"1.2.3.4"}, "1.2.3.4")
	f("[fd00::1]:1", []string{"2001:db8::1"}, "2001:db8::1")
	f("10.1.1.1:1", []string{"nonsense"}, "10.1.1.1")
	f("10.1.1.1:1", nil, "10.1.1.1")
	f("10.1.1.1:1", []string{"10.3.3.3"}, "10.3.3.3")
	f("@", nil, "@")
}
