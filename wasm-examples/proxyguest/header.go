//go:build wasip1

package proxyguest

import "encoding/binary"

// Header is a list of headers or trailers of the exchange. Names match in any case. The pseudo headers are in it: :method,
// :path, :scheme and :authority of a request, :status of an answer.
type Header uint32

// The lists. Those of an answer can be changed until it goes on, and those of a call's answer only be read, in its callback.
const (
	RequestHeaders   Header = 0
	RequestTrailers  Header = 1
	ResponseHeaders  Header = 2
	ResponseTrailers Header = 3
	CallHeaders      Header = 6
	CallTrailers     Header = 7
)

// Field is a header or a trailer.
type Field struct{ Name, Value string }

// Get returns a value, or nothing. Hosts join several values with commas.
func (h Header) Get(name string) string {
	value, _ := h.Lookup(name)
	return value
}

// Lookup returns a value, and whether there is one.
func (h Header) Lookup(name string) (string, bool) {
	value, err := take(proxyGetHeaderMapValue(uint32(h), name, &address, &size))
	return string(value), err == nil
}

// All returns all fields in order, names in lower case.
func (h Header) All() ([]Field, error) {
	b, err := take(proxyGetHeaderMapPairs(uint32(h), &address, &size))
	if err != nil {
		return nil, err
	}
	return parseFields(b)
}

// Set replaces all values by one.
func (h Header) Set(name, value string) error {
	return proxyReplaceHeaderMapValue(uint32(h), name, value).err()
}

// Add adds a value.
func (h Header) Add(name, value string) error {
	return proxyAddHeaderMapValue(uint32(h), name, value).err()
}

// Remove removes all values; none is no error.
func (h Header) Remove(name string) error { return proxyRemoveHeaderMapValue(uint32(h), name).err() }

// Replace replaces the whole list.
func (h Header) Replace(fields []Field) error {
	p, n := pointer(appendFields(nil, fields))
	return proxySetHeaderMapPairs(uint32(h), p, n).err()
}

// appendFields appends a list as the ABI has it: a count, the lengths, then each name and value with a NUL after it.
func appendFields(b []byte, fields []Field) []byte {
	b = binary.LittleEndian.AppendUint32(b, uint32(len(fields)))
	for _, f := range fields {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Name)))
		b = binary.LittleEndian.AppendUint32(b, uint32(len(f.Value)))
	}
	for _, f := range fields {
		b = append(append(b, f.Name...), 0)
		b = append(append(b, f.Value...), 0)
	}
	return b
}

func parseFields(b []byte) ([]Field, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < 4 {
		return nil, ParseFailure
	}
	count := binary.LittleEndian.Uint32(b)
	lengths := b[4:]
	if uint64(count)*8 > uint64(len(lengths)) {
		return nil, ParseFailure
	}
	text := string(lengths[count*8:])
	cut := func(n uint32) (s string, ok bool) {
		if uint64(n)+1 > uint64(len(text)) {
			return "", false
		}
		s, text = text[:n], text[n+1:]
		return s, true
	}
	fields := make([]Field, 0, count)
	for i := range count {
		name, ok := cut(binary.LittleEndian.Uint32(lengths[i*8:]))
		value, ok2 := cut(binary.LittleEndian.Uint32(lengths[i*8+4:]))
		if !ok || !ok2 {
			return nil, ParseFailure
		}
		fields = append(fields, Field{name, value})
	}
	return fields, nil
}
