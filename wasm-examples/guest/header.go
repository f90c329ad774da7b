//go:build wasip1

package guest

import "unsafe"

// Header is a list of headers or trailers. Names match in any case; an empty name traps.
type Header struct{ kind uint32 }

// Names returns the names, in lower case, each once.
func (h Header) Names() []string {
	return list(func(buffer unsafe.Pointer, limit uint32) uint64 { return getHeaderNames(h.kind, buffer, limit) })
}

// Get returns the first value, or nothing.
func (h Header) Get(name string) string {
	if values := h.Values(name); len(values) > 0 {
		return values[0]
	}
	return ""
}

// Values returns all values in order.
func (h Header) Values(name string) []string {
	return list(func(buffer unsafe.Pointer, limit uint32) uint64 { return getHeaderValues(h.kind, name, buffer, limit) })
}

// Set replaces all values by one.
func (h Header) Set(name, value string) { setHeaderValue(h.kind, name, value) }

// Add adds a value.
func (h Header) Add(name, value string) { addHeaderValue(h.kind, name, value) }

// Remove removes all values.
func (h Header) Remove(name string) { removeHeader(h.kind, name) }
