package meter

// body writes one function.
func (w *writer) body(out []byte, f *function) []byte {
	b := bodyWriter{writer: w, f: f, counted: w.counts(f), bulkLocal: f.locals, roomLocal: f.locals}
	added := uint32(0)
	if f.bulk {
		added++
		b.roomLocal++
	}
	if b.restores = b.counted && f.tries; b.restores {
		added++
	}
	if added > 0 {
		out = appendU32(out, f.groups+1)
		out = append(out, f.body[f.groupsAt:f.codeAt]...)
		out = append(appendU32(out, added), typeI32)
	} else {
		out = append(out, f.body[:f.codeAt]...)
	}
	return b.code(b.entry(out))
}

// bodyWriter writes the code of one function.
type bodyWriter struct {
	*writer
	f         *function
	counted   bool
	restores  bool   // sets the room wherever an exception may have been caught
	bulkLocal uint32 // how much an operation moves
	roomLocal uint32 // the room there was after the entry
}

// entry writes what comes first.
func (b *bodyWriter) entry(out []byte) []byte {
	switch {
	case b.counted && b.f.entry:
		out = b.appendTake(out, 1)
		out = b.appendRoom(out, opI32Sub, b.f.room())
		out = appendGet(appendGet(out, b.fuel), b.room)
		out = b.appendSlow(append(out, opI32Or), false)
	case b.counted:
		out = b.appendRoom(out, opI32Sub, b.f.room())
		out = b.appendSlow(appendGet(out, b.room), false)
	case b.f.entry:
		return append(out, b.check...)
	default:
		return out
	}
	if b.restores {
		out = appendU32(append(appendGet(out, b.room), opLocalSet), b.roomLocal)
	}
	// The code becomes a block with the label of the function, so that its branches out of the function, and its
	// returns as branches, come to where the room is given back.
	out = append(out, opBlock)
	switch s := b.f.signature; s.n {
	case 0:
		return append(out, blockEmpty)
	case 1:
		return append(out, s.results...)
	default:
		return appendS33(out, int64(b.typeFor(s)))
	}
}

// code writes the instructions of the body, with what is to be added.
func (b *bodyWriter) code(out []byte) []byte {
	body := b.f.body
	r := &reader{data: body, at: b.f.codeAt}
	copied := r.at // of body, up to here
	flush := func(to int) {
		out = append(out, body[copied:to]...)
		copied = to
	}
	for depth := 1; r.left() > 0; {
		begin := r.at
		switch in := r.instruction(); in.op {
		case opBlock, opIf, opTryTable:
			depth++
		case opLoop:
			depth++
			flush(r.at)
			out = b.restore(out)
			if in.plain {
				out = append(out, b.loopCheck...)
			} else {
				out = append(out, b.check...)
			}
		case opEnd:
			if depth--; depth > 0 && b.restores {
				flush(r.at)
				out = b.restore(out)
			}
		case opReturn:
			if b.counted {
				flush(begin)
				out = appendU32(append(out, opBr), uint32(depth-1))
				copied = r.at
			}
		case opReturnCall, opReturnCallI, opReturnCallR:
			if b.counted {
				flush(begin)
				out = b.appendRoom(out, opI32Add, b.f.room())
			}
		case opMemoryGrow:
			flush(begin)
			out = b.appendRefill(b.appendTake(out, growUnits), false)
		case opMisc:
			if isBulk(in.sub) {
				flush(begin)
				out = b.appendBulk(out, b.bulkLocal)
			}
		}
	}
	flush(len(body))
	if b.counted {
		out = b.restore(out)
		out = append(b.appendRoom(out, opI32Add, b.f.room()), opEnd)
	}
	return out
}

// restore sets the room to what it was after the entry, in a function that may have caught an exception.
func (b *bodyWriter) restore(out []byte) []byte {
	if !b.restores {
		return out
	}
	return appendSet(appendU32(append(out, opLocalGet), b.roomLocal), b.room)
}
