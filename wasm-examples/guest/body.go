//go:build wasip1

package guest

import (
	"io"
	"unsafe"
)

// Body is content as a stream: what was read is not read again.
type Body struct{ kind uint32 }

// Read fills p, at the end less of it; the error is nil or io.EOF.
func (b Body) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil // the host traps
	}
	result := readBody(b.kind, unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p)))
	n := int(uint32(result))
	if result>>32 != 0 {
		return n, io.EOF
	}
	return n, nil
}

// ReadAll returns the whole body, which the host bounds.
func (b Body) ReadAll() []byte {
	content := make([]byte, 0, bufferSize)
	for {
		n, err := b.Read(content[len(content):cap(content)])
		content = content[:len(content)+n]
		if err != nil {
			return content
		}
		if len(content) == cap(content) {
			content = append(content, 0)[:len(content)]
		}
	}
}

// Write replaces the body at the first call in a handler and appends to it at later ones. The error is nil.
func (b Body) Write(p []byte) (int, error) {
	writeBody(b.kind, unsafe.Pointer(unsafe.SliceData(p)), uint32(len(p)))
	return len(p), nil
}

// WriteString is like Write.
func (b Body) WriteString(s string) (int, error) {
	writeBody(b.kind, unsafe.Pointer(unsafe.StringData(s)), uint32(len(s)))
	return len(s), nil
}
