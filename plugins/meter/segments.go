package meter

// What follows is copied as it stands. It is read all the same, as wazero 1.12.0 makes lists of the lengths it finds in
// these sections before it looks for their elements: a dozen bytes could take all memory.

// elementEntry reads an element segment. The bits of its flags: not active; declared, or of a table with a number;
// of expressions instead of function indices.
func (r *reader) elementEntry() {
	flags := r.u32()
	if flags > 7 {
		r.unsupported("element segment", flags)
	}
	passive, numbered, expressions := flags&1 != 0, flags&2 != 0, flags&4 != 0
	if !passive {
		if numbered {
			r.u32()
		}
		r.constant()
	}
	switch {
	case !passive && !numbered:
	case expressions:
		r.valueType()
	default:
		r.byte()
	}
	for n := r.count(); n > 0 && r.err == nil; n-- {
		if expressions {
			r.constant()
		} else {
			r.u32()
		}
	}
}

// dataEntry reads a data segment.
func (r *reader) dataEntry() {
	flags := r.u32()
	switch flags {
	case 0:
		r.constant()
	case 1:
	case 2:
		r.u32()
		r.constant()
	default:
		r.unsupported("data segment", flags)
	}
	r.take(r.u32())
}

// custom returns the name of a custom section and what follows it.
func custom(body []byte) (name string, contents []byte, err error) {
	r := &reader{data: body}
	name = string(r.take(r.u32()))
	return name, r.data[r.at:], r.err
}

// namesAreSound reports whether the contents of a name section hold what they say.
func namesAreSound(contents []byte) bool {
	r := &reader{data: contents}
	for r.left() > 0 {
		id := r.byte()
		part := &reader{data: r.take(r.u32())}
		switch id {
		case 0: // of the module
			part.take(part.u32())
		case 1: // of functions
			part.names()
		case 2: // of the locals of functions
			for n := part.count(); n > 0 && part.err == nil; n-- {
				part.u32()
				part.names()
			}
		default:
			continue
		}
		if part.done() != nil {
			return false
		}
	}
	return r.err == nil
}

// names reads a list of indices with their names.
func (r *reader) names() {
	for n := r.count(); n > 0 && r.err == nil; n-- {
		r.u32()
		r.take(r.u32())
	}
}
