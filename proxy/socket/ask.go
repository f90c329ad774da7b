package socket

import "errors"

// ErrNotQuiet says that Ask has sent nothing: something has arrived that nobody has asked for, or the end, or the connection
// is closed.
var ErrNotQuiet = errors.New("socket: not quiet")

// talk is Ask without the look, one step after the other.
func (c *Conn) talk(request, into []byte, sent func()) (wrote, n int, err error) {
	if wrote, err = c.Write(request); err != nil {
		return wrote, 0, err
	}
	if sent != nil {
		sent()
	}
	n, err = c.Read(into)
	return wrote, n, err
}
