package meter

import "slices"

// cat joins bytes and strings of bytes: the assembler of these tests.
func cat(parts ...any) []byte {
	var p []byte
	for _, part := range parts {
		switch part := part.(type) {
		case int:
			p = append(p, byte(part))
		case []byte:
			p = append(p, part...)
		case string:
			p = append(p, part...)
		}
	}
	return p
}

// sized puts the length of its parts before them.
func sized(parts ...any) []byte {
	p := cat(parts...)
	return append(appendU32(nil, uint32(len(p))), p...)
}

// vec puts the count of its elements before them.
func vec(elements ...[]byte) []byte {
	return append(appendU32(nil, uint32(len(elements))), slices.Concat(elements...)...)
}

// sec is a section.
func sec(id int, contents ...any) []byte { return cat(id, sized(contents...)) }

// mod is a module of sections.
func mod(sections ...[]byte) []byte {
	return append([]byte("\x00asm\x01\x00\x00\x00"), slices.Concat(sections...)...)
}

// typ is a function type.
func typ(params, results string) []byte { return cat(typeFunc, sized(params), sized(results)) }

// fn is a body without locals; its end is added.
func fn(code ...any) []byte { return sized(0, cat(code...), opEnd) }

// exp is an export of a function.
func exp(name string, index int) []byte { return cat(sized(name), 0, index) }

// one is a module of one function, exported as "f", with a memory.
func one(params, results string, body []byte) []byte {
	return mod(sec(secType, vec(typ(params, results))), sec(secFunction, vec([]byte{0})), sec(secMemory, vec([]byte{0, 1})),
		sec(secExport, vec(exp("f", 0))), sec(secCode, vec(body)))
}

const (
	i32 = "\x7f"
	i64 = "\x7e"
)
