package plugins

import "slices"

// tableSlot is the bytes that one element of a table takes in the host.
const tableSlot = 8

// boundTables returns code with tables that cannot grow beyond most elements. wazero has a limit for memory only: table.grow
// would let a guest take 32 GiB of the host's. The code must have passed Inspect.
func boundTables(code []byte, in Info, most uint64) []byte {
	if !slices.ContainsFunc(in.Tables, func(l Limits) bool { return !l.HasMax || l.Max > most }) {
		return code
	}
	r := reader{bytes: code, at: len(magic) + len(version)}
	for r.left() > 0 {
		begin := r.at
		id, size := r.byte(), r.u32()
		body := r.take(size)
		if id != sectionTable {
			continue
		}
		section, ok := boundSection(body, most)
		if !ok {
			return code // wazero refuses such a table
		}
		return slices.Concat(code[:begin], appendUint([]byte{sectionTable}, uint64(len(section))), section, code[r.at:])
	}
	return code
}

// boundSection rewrites the table section; it is not ok for a table with an initial value, which is of a later
// WebAssembly.
func boundSection(body []byte, most uint64) (section []byte, ok bool) {
	r := reader{bytes: body}
	n := r.count()
	section = appendUint(nil, uint64(n))
	for range n {
		kind := r.byte()
		flags := r.byte()
		if kind == 0x40 || kind == 0x63 || kind == 0x64 || flags > 1 {
			return nil, false
		}
		least, limit := r.u64(), most
		if flags == 1 {
			limit = min(r.u64(), most)
		}
		section = appendUint(appendUint(append(section, kind, 1), least), limit)
	}
	return section, r.err == nil
}

// appendUint appends an unsigned LEB128 number.
func appendUint(b []byte, v uint64) []byte {
	for ; v >= 0x80; v >>= 7 {
		b = append(b, byte(v)|0x80)
	}
	return append(b, byte(v))
}
