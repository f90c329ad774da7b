//go:build !linux

package socket

// Ask sends a request if the connection is quiet, calls sent (nil: none) once all of it has been taken, and reads what
// comes then, as Read does. It returns how much of the request was taken, and how much was read into into, which may be the
// same memory. Errors: ErrNotQuiet, with nothing sent; those of Write, if not all of request was taken; those of Read.
func (c *Conn) Ask(request, into []byte, sent func()) (wrote, n int, err error) {
	if !c.Quiet() {
		return 0, 0, ErrNotQuiet
	}
	return c.talk(request, into, sent)
}
