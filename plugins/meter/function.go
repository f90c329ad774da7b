package meter

import "fmt"

// function is what the survey of a body finds, so that it can be written in one go.
type function struct {
	body      []byte // local declarations and code
	signature *signature
	locals    uint32 // parameters and declared locals: the index of the first one that is added
	groups    uint32 // of declared locals
	groupsAt  int    // where in body the groups begin
	codeAt    int    // and end
	callees   span   // its direct calls, in module.callees

	entry     bool // takes a unit at entry
	bulk      bool // has an operation on much memory: needs a local
	tries     bool // has a try_table: needs a local if there is room to restore
	calls     bool // has a call that is not a tail call
	tailCalls bool // has a tail call
	indirect  bool // has a call of a function that the code does not name
	counted   bool // takes room while it runs
}

// span is a part of a slice.
type span struct{ begin, end int }

// codeEntry reads and surveys the body of the defined function i.
func (m *module) codeEntry(r *reader, i uint32) {
	body := r.take(r.u32())
	if r.err != nil {
		return
	}
	if uint64(i) >= uint64(len(m.funcTypes)) {
		r.malformed("more bodies than functions")
		return
	}
	f, err := m.survey(body, &m.types[m.funcTypes[i]])
	if err != nil {
		r.fail(fmt.Errorf("function %d: %w", m.importedFuncs+i, err))
		return
	}
	m.functions = append(m.functions, f)
}

// room is what a call of the function takes of the room, if it is counted: about the bytes of its frame, where wazero
// keeps a return address, the frame's measures and those of its locals that do not fit into registers.
func (f *function) room() int64 { return 48 + 8*int64(f.locals) }

// declarations reads the declared locals.
func (f *function) declarations(r *reader) {
	f.groups = r.count()
	f.groupsAt = r.at
	for i := uint32(0); i < f.groups && r.err == nil; i++ {
		n := r.u32()
		if uint64(f.locals)+uint64(n) > maxLocals {
			r.malformed("too many locals")
			return
		}
		f.locals += n
		r.valueType()
	}
	f.codeAt = r.at
}

// survey reads a body to its end. It finds what must be known before the first byte is written, and refuses what could
// reach the globals and locals that are added.
func (m *module) survey(body []byte, s *signature) (function, error) {
	f := function{body: body, signature: s, locals: s.params}
	f.callees.begin = len(m.callees)
	r := &reader{data: body}
	if s.params > maxLocals {
		r.malformed("too many parameters")
	}
	f.declarations(r)
	straight := true // nothing so far could leave the way to the next loop
	looped := false  // the way from the entry leads into a loop
	for depth := 1; depth > 0 && r.err == nil; {
		in := r.instruction()
		switch in.op {
		case opLocalGet, opLocalSet, opLocalTee:
			if in.index >= f.locals {
				r.malformed("unknown local")
			}
		case opGlobalGet, opGlobalSet:
			if in.index >= m.globals {
				r.malformed("unknown global")
			}
		case opMisc:
			if isBulk(in.sub) {
				f.bulk = true
				m.growth += checkSize
			}
		case opMemoryGrow:
			m.growth += checkSize
		case opBlock:
			depth++
		case opLoop:
			depth++
			looped = looped || straight
			m.growth += checkSize
		case opIf:
			depth++
			straight = false
		case opTryTable:
			depth++
			straight, f.tries = false, true
		case opEnd:
			depth--
			straight = false
			if f.tries {
				m.growth += checkSize / 4
			}
		case opCall, opCallIndirect, opCallRef, opReturnCall, opReturnCallI, opReturnCallR:
			straight = false
			m.call(r, &f, in)
		case opUnreachable, opBr, opBrIf, opBrTable, opBrOnNull, opBrOnNonNull, opReturn, opThrow, opThrowRef:
			straight = false
		}
	}
	f.callees.end = len(m.callees)
	f.entry = !looped && (f.calls || f.tailCalls)
	return f, r.done()
}

// call takes note of a call.
func (m *module) call(r *reader, f *function, in instruction) {
	switch in.op {
	case opReturnCall, opReturnCallI, opReturnCallR:
		f.tailCalls, m.tailCalls = true, true
		m.growth += checkSize / 2
		return
	case opCallIndirect, opCallRef:
		f.calls, f.indirect = true, true
		return
	}
	f.calls = true
	if uint64(in.index) >= uint64(m.importedFuncs)+uint64(len(m.funcTypes)) {
		r.malformed("unknown function")
	}
	if in.index < m.importedFuncs {
		return
	}
	callee := in.index - m.importedFuncs
	if n := len(m.callees); n == f.callees.begin || m.callees[n-1] != callee {
		m.callees = append(m.callees, callee)
	}
}
