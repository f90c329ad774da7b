package httpwasm

import (
	"slices"

	"github.com/tetratelabs/wazero/api"
)

// maxNames is how many names the scratch space of an idle guest may have room for.
const maxNames = 1024

// fieldKind checks a guest's header kind.
func (g *guest) fieldKind(k uint64) Kind {
	kind := Kind(k)
	if kind >= kinds {
		g.trap("unknown header kind %d: want 0 to 3", kind)
	}
	return kind
}

// fieldName reads a guest's field name.
func (g *guest) fieldName(mem api.Memory, ptr, n uint64) []byte {
	if uint32(n) == 0 {
		g.trap("the name is empty")
	}
	return g.read(mem, "name", ptr, n)
}

// readable returns the list of a kind, or nil for trailers that the guest did not ask for.
func (g *guest) readable(k uint64) Fields {
	kind := g.fieldKind(k)
	if kind.trailer() && g.enabled&trailers == 0 {
		return nil
	}
	return g.exchange.Fields(kind)
}

// changeable returns the list of a kind, and traps if the guest may not change it now.
func (g *guest) changeable(k uint64) Fields {
	kind := g.fieldKind(k)
	if kind.response() {
		g.mustChangeResponse(kind.String())
	} else {
		g.mustChangeRequest(kind.String())
	}
	if kind.trailer() && g.enabled&trailers == 0 {
		g.trap("trailers may be changed only with the feature trailers")
	}
	return g.exchange.Fields(kind)
}

// getHeaderNames: (kind, buf, limit) -> count<<32 | len, of names in lower case, each once and in order.
func getHeaderNames(g *guest, mem api.Memory, stack []uint64) {
	fields := g.readable(stack[0])
	if fields == nil {
		stack[0] = 0
		return
	}
	names := g.names[:0]
	for i := range fields.Len() {
		name, _ := fields.At(i)
		names = append(names, name)
	}
	// A list that a caller filled with thousands of names must not cost their square.
	slices.SortFunc(names, compareNames)
	names = slices.CompactFunc(names, sameName[string])
	size := 0
	for _, name := range names {
		size += len(name) + 1
	}
	if uint64(size) <= uint64(uint32(stack[2])) {
		into := g.read(mem, "buf", stack[1], uint64(size))
		for _, name := range names {
			for i := range len(name) {
				into[i] = lower(name[i])
			}
			into[len(name)] = 0
			into = into[len(name)+1:]
		}
	}
	stack[0] = uint64(len(names))<<32 | uint64(size)
	clear(names[:cap(names)]) // keep no exchange's strings alive
	if cap(names) <= maxNames {
		g.names = names
	}
}

// getHeaderValues: (kind, name, len, buf, limit) -> count<<32 | len, of all values in order.
func getHeaderValues(g *guest, mem api.Memory, stack []uint64) {
	fields := g.readable(stack[0])
	name := g.fieldName(mem, stack[1], stack[2])
	if fields == nil {
		stack[0] = 0
		return
	}
	count, size, found := 0, 0, ""
	for i := range fields.Len() {
		if n, value := fields.At(i); sameName(n, name) {
			count, size, found = count+1, size+len(value)+1, n
		}
	}
	if count > 0 && uint64(size) <= uint64(uint32(stack[4])) {
		// From here on the guest's name is not looked at: it may lie where the values go.
		into := g.read(mem, "buf", stack[3], uint64(size))
		for i := range fields.Len() {
			if n, value := fields.At(i); sameName(n, found) {
				end := copy(into, value)
				into[end] = 0
				into = into[end+1:]
			}
		}
	}
	stack[0] = uint64(count)<<32 | uint64(size)
}

// setHeaderValue: (kind, name, len, value, len).
func setHeaderValue(g *guest, mem api.Memory, stack []uint64) {
	fields := g.changeable(stack[0])
	name, value := g.field(mem, stack)
	fields.Set(name, value)
}

// addHeaderValue: (kind, name, len, value, len).
func addHeaderValue(g *guest, mem api.Memory, stack []uint64) {
	fields := g.changeable(stack[0])
	name, value := g.field(mem, stack)
	fields.Add(name, value)
}

// field reads and checks the field that a guest wants to have.
func (g *guest) field(mem api.Memory, stack []uint64) (name, value string) {
	rawName := g.fieldName(mem, stack[1], stack[2])
	rawValue := g.read(mem, "value", stack[3], stack[4])
	g.spend(len(rawName) + len(rawValue) + fieldOverhead)
	if name = g.words.name(rawName); name == "" {
		g.trap("%.40q is not a field name", rawName)
	}
	value, ok := g.words.value(rawValue)
	if !ok {
		g.trap("the value for %.40s has a control character", name)
	}
	return name, value
}

// removeHeader: (kind, name, len).
func removeHeader(g *guest, mem api.Memory, stack []uint64) {
	fields := g.changeable(stack[0])
	if name := g.words.name(g.fieldName(mem, stack[1], stack[2])); name != "" { // else it cannot be there
		fields.Del(name)
	}
}
