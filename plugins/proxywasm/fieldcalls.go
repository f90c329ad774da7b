package proxywasm

import "github.com/tetratelabs/wazero/api"

// getHeaderMapSize: (map, *size). Bytes of the serial form.
func getHeaderMapSize(g *guest, mem api.Memory, stack []uint64) status {
	m, st := g.fieldMap(stack[0])
	if st != statusOK {
		return st
	}
	if !mem.WriteUint32Le(uint32(stack[1]), uint32(m.size())) {
		return statusInvalidMemory
	}
	return statusOK
}

// getHeaderMapPairs: (map, **pairs, *size).
func getHeaderMapPairs(g *guest, mem api.Memory, stack []uint64) status {
	m, st := g.fieldMap(stack[0])
	if st != statusOK {
		return st
	}
	serial := m.append(g.scratch[:0])
	defer g.keep(serial)
	return g.give(mem, serial, stack[1], stack[2])
}

// setHeaderMapPairs: (map, pairs, size).
func setHeaderMapPairs(g *guest, mem api.Memory, stack []uint64) status {
	m, st := g.fieldMap(stack[0])
	if st != statusOK {
		return st
	}
	serial, ok := read(mem, stack[1], stack[2])
	if !ok {
		return statusInvalidMemory
	}
	p, err := parsePairs(serial)
	if err != nil {
		return statusBadArgument
	}
	if m.x != nil && !m.gone && !g.effective.spend(len(serial)) {
		return statusInternal
	}
	return m.setAll(&g.words, p)
}

// getHeaderMapValue: (map, name, n, **value, *n).
func getHeaderMapValue(g *guest, mem api.Memory, stack []uint64) status {
	m, st := g.fieldMap(stack[0])
	if st != statusOK {
		return st
	}
	name, ok := read(mem, stack[1], stack[2])
	if !ok {
		return statusInvalidMemory
	}
	value, joined, found := m.get(name, g.scratch)
	defer g.keep(joined)
	switch {
	case !found && g.plugin.version == v010:
		return g.give(mem, nil, stack[3], stack[4])
	case !found:
		return statusNotFound
	case value == "":
		return g.give(mem, joined, stack[3], stack[4])
	default:
		return g.giveString(mem, value, stack[3], stack[4])
	}
}

// addHeaderMapValue: (map, name, n, value, n).
func addHeaderMapValue(g *guest, mem api.Memory, stack []uint64) status {
	return g.setField(mem, addField, stack)
}

// replaceHeaderMapValue: (map, name, n, value, n).
func replaceHeaderMapValue(g *guest, mem api.Memory, stack []uint64) status {
	return g.setField(mem, replaceField, stack)
}

// removeHeaderMapValue: (map, name, n).
func removeHeaderMapValue(g *guest, mem api.Memory, stack []uint64) status {
	return g.setField(mem, removeField, stack)
}

func (g *guest) setField(mem api.Memory, what change, stack []uint64) status {
	m, st := g.fieldMap(stack[0])
	if st != statusOK {
		return st
	}
	name, ok := read(mem, stack[1], stack[2])
	if !ok {
		return statusInvalidMemory
	}
	var value []byte
	if what != removeField {
		if value, ok = read(mem, stack[3], stack[4]); !ok {
			return statusInvalidMemory
		}
		if m.x != nil && !m.gone && !g.effective.spend(len(name)+len(value)) {
			return statusInternal
		}
	}
	return m.set(&g.words, what, name, value)
}

// getBufferBytes: (buffer, start, max, **bytes, *n).
func getBufferBytes(g *guest, mem api.Memory, stack []uint64) status {
	content, _, st := g.buffer(stack[0])
	if st != statusOK {
		return st
	}
	start, most := uint64(uint32(stack[1])), uint64(uint32(stack[2]))
	if start > uint64(len(content)) {
		return statusBadArgument
	}
	content = content[start:]
	return g.give(mem, content[:min(most, uint64(len(content)))], stack[3], stack[4])
}

// getBufferStatus: (buffer, *length, *flags).
func getBufferStatus(g *guest, mem api.Memory, stack []uint64) status {
	content, _, st := g.buffer(stack[0])
	if st != statusOK {
		return st
	}
	if !mem.WriteUint32Le(uint32(stack[1]), uint32(len(content))) || !mem.WriteUint32Le(uint32(stack[2]), 0) {
		return statusInvalidMemory
	}
	return statusOK
}

// injectEncodedData: (bytes, n, end). The bytes go on in the response now, paused or not.
func injectEncodedData(g *guest, mem api.Memory, stack []uint64) status {
	p, ok := read(mem, stack[0], stack[1])
	if !ok {
		return statusInvalidMemory
	}
	c := g.effective
	if c == nil || c.x == nil || !c.answered || c.reply != nil {
		return statusBadArgument
	}
	if int64(len(c.injected)+len(p)) > g.plugin.options.MaxBody {
		return statusInternal
	}
	c.injected = append(c.injected, p...)
	if uint32(stack[2]) != 0 {
		c.resume(response)
	}
	return statusOK
}

// setBufferBytes: (buffer, start, size, bytes, n). Replaces size bytes from start; what is beyond the end is clipped.
func setBufferBytes(g *guest, mem api.Memory, stack []uint64) status {
	content, b, st := g.buffer(stack[0])
	if st != statusOK {
		return st
	}
	p, ok := read(mem, stack[3], stack[4])
	if !ok {
		return statusInvalidMemory
	}
	if b == nil {
		return statusBadArgument // only to be read
	}
	start := min(uint64(uint32(stack[1])), uint64(len(content)))
	size := min(uint64(uint32(stack[2])), uint64(len(content))-start)
	if b.edit(g.effective, int(start), int(size), p) != nil {
		return statusInternal
	}
	return statusOK
}
