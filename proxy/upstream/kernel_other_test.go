//go:build !linux

package upstream_test

// taken is for systems whose sockets can be asked.
func (c *conn) taken() {}
