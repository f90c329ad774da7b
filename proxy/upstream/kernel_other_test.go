//go:build !linux

package upstream_test

import "testing"

// taken is for systems whose sockets can be asked.
func (c *conn) taken() {}

// unreachable returns an address that answers no attempt to connect.
func unreachable(t *testing.T) string {
	t.Helper()
	t.Skip("how to fill a listener's queue is known for Linux only")
	return ""
}
