package proxywasm

import "strconv"

// fieldMap is one of the ABI's maps, as the context in effect sees it: a list of an exchange with its pseudo headers, or
// the read-only list of a call-out's answer.
type fieldMap struct {
	kind   MapKind
	x      Exchange // nil for a call-out's
	fields Fields   // nil for a call-out's
	list   []Field
	gone   bool // the fields have left: changes have no effect, as in Envoy
}

// fieldMap finds a map for a hostcall.
func (g *guest) fieldMap(n uint64) (fieldMap, status) {
	kind := MapKind(uint32(n))
	if uint32(n) >= uint32(mapKinds) {
		return fieldMap{}, statusBadArgument
	}
	m := fieldMap{kind: kind}
	switch c := g.effective; {
	case kind == callHeaders || kind == callTrailers:
		if g.answer == nil || g.answer.redis {
			return m, statusNotFound
		}
		m.list = g.answer.headers
		if kind == callTrailers {
			m.list = g.answer.trailers
		}
		return m, statusOK
	case kind > ResponseTrailers || c == nil || !c.here() || !c.hasMap(kind):
		return m, statusNotFound
	default:
		m.x, m.gone = c.x, c.left[kind]
		m.fields = m.x.Fields(kind)
		return m, statusOK
	}
}

// count returns the number of fields, pseudo headers included.
func (m *fieldMap) count() int {
	n := len(m.list)
	if m.fields != nil {
		n += m.fields.Len()
	}
	switch {
	case m.x == nil:
	case m.kind == RequestHeaders:
		n += 4
	case m.kind == ResponseHeaders:
		n++
	}
	return n
}

// all visits the fields, pseudo headers first. Names are as the exchange has them.
func (m *fieldMap) all(yield func(name, value string) bool) {
	for _, f := range m.list {
		if !yield(f.Name, f.Value) {
			return
		}
	}
	if m.x == nil {
		return
	}
	switch m.kind {
	case RequestHeaders:
		if !yield(":authority", m.x.Authority()) || !yield(":path", m.x.Path()) ||
			!yield(":method", m.x.Method()) || !yield(":scheme", m.x.Scheme()) {
			return
		}
	case ResponseHeaders:
		if !yield(":status", statusText(m.x.Status())) {
			return
		}
	}
	for i := range m.fields.Len() {
		if !yield(m.fields.At(i)) {
			return
		}
	}
}

// pseudo is one of the pseudo headers, or none.
type pseudo uint8

const (
	noPseudo pseudo = iota
	pseudoAuthority
	pseudoPath
	pseudoMethod
	pseudoScheme
	pseudoStatus
	unknownPseudo
)

// pseudo tells which pseudo header a name is in this map. Host is another name of :authority.
func (m *fieldMap) pseudo(name []byte) pseudo {
	if m.x == nil {
		return noPseudo
	}
	if len(name) == 0 || name[0] != ':' {
		if m.kind == RequestHeaders && sameName("host", name) {
			return pseudoAuthority
		}
		return noPseudo
	}
	switch {
	case m.kind == RequestHeaders && sameName(":authority", name):
		return pseudoAuthority
	case m.kind == RequestHeaders && sameName(":path", name):
		return pseudoPath
	case m.kind == RequestHeaders && sameName(":method", name):
		return pseudoMethod
	case m.kind == RequestHeaders && sameName(":scheme", name):
		return pseudoScheme
	case m.kind == ResponseHeaders && sameName(":status", name):
		return pseudoStatus
	default:
		return unknownPseudo
	}
}

// get returns a field's value; several are joined with commas, as in Envoy, in scratch, which it returns too.
func (m *fieldMap) get(name, scratch []byte) (value string, joined []byte, found bool) {
	switch m.pseudo(name) {
	case pseudoAuthority:
		return m.x.Authority(), scratch, true
	case pseudoPath:
		return m.x.Path(), scratch, true
	case pseudoMethod:
		return m.x.Method(), scratch, true
	case pseudoScheme:
		return m.x.Scheme(), scratch, true
	case pseudoStatus:
		return statusText(m.x.Status()), scratch, true
	case unknownPseudo:
		return "", scratch, false
	}
	scratch = scratch[:0]
	values := 0
	for n, v := range m.all {
		if !sameName(n, name) {
			continue
		}
		if values++; values == 1 {
			value = v
			continue
		}
		if values == 2 {
			scratch = append(scratch, value...)
		}
		scratch = append(append(scratch, ','), v...)
	}
	if values > 1 {
		value = ""
	}
	return value, scratch, values > 0
}

// change is what a hostcall does to a field.
type change uint8

const (
	addField change = iota
	replaceField
	removeField
)

// set changes a field.
func (m *fieldMap) set(w *words, what change, name, value []byte) status {
	if m.x == nil {
		return statusBadArgument // a call-out's answer is to be read
	}
	if p := m.pseudo(name); p != noPseudo {
		if what == removeField {
			return statusBadArgument
		}
		return m.setPseudo(w, p, value)
	}
	n := w.name(name)
	if n == "" {
		return statusBadArgument
	}
	v, valid := "", true
	if what != removeField {
		v, valid = w.value(value)
	}
	switch {
	case !valid:
		return statusBadArgument
	case m.gone:
	case what == addField:
		m.fields.Add(n, v)
	case what == replaceField:
		m.fields.Set(n, v)
	default:
		m.fields.Del(n)
	}
	return statusOK
}

// setPseudo changes a pseudo header. The scheme stays what it is.
func (m *fieldMap) setPseudo(w *words, p pseudo, value []byte) status {
	v, valid := w.value(value)
	if !valid || v == "" || p == unknownPseudo {
		return statusBadArgument
	}
	code := 0
	switch p {
	case pseudoMethod:
		if canonical(value) == "" {
			return statusBadArgument
		}
	case pseudoStatus:
		var err error
		if code, err = strconv.Atoi(v); err != nil || code < 200 || code > 999 {
			return statusBadArgument
		}
	}
	if m.gone {
		return statusOK
	}
	switch p {
	case pseudoAuthority:
		m.x.SetAuthority(v)
	case pseudoMethod:
		m.x.SetMethod(v)
	case pseudoStatus:
		m.x.SetStatus(code)
	case pseudoPath:
		if m.x.SetPath(v) != nil {
			return statusBadArgument
		}
	}
	return statusOK
}

// setAll replaces all fields, or none of them when one is not valid. Pseudo headers that p lacks stay.
func (m *fieldMap) setAll(w *words, p pairs) status {
	if m.x == nil {
		return statusBadArgument
	}
	for name, value := range p.all {
		if m.pseudo(name) == unknownPseudo || m.pseudo(name) == noPseudo && w.name(name) == "" || !validValue(value) {
			return statusBadArgument
		}
	}
	if m.gone {
		return statusOK
	}
	for n := m.fields.Len(); n > 0; n = m.fields.Len() {
		name, _ := m.fields.At(n - 1)
		m.fields.Del(name)
		if m.fields.Len() >= n {
			panic("bug: proxywasm: Fields.Del left " + name)
		}
	}
	for name, value := range p.all {
		if st := m.set(w, addField, name, value); st != statusOK {
			return st
		}
	}
	return statusOK
}

// digits are the texts of 0 to 999, one after the other.
var digits = func() string {
	var b []byte
	for code := range 1000 {
		b = append(b, byte('0'+code/100), byte('0'+code/10%10), byte('0'+code%10))
	}
	return string(b)
}()

// statusText is the value of :status.
func statusText(code int) string {
	if code < 0 || code > 999 {
		return strconv.Itoa(code)
	}
	return digits[3*code : 3*code+3]
}

// fieldsOf makes a list of pairs that a guest hands over, names canonical. Pseudo headers keep their names.
func fieldsOf(w *words, p pairs) ([]Field, status) {
	fields := make([]Field, 0, p.len())
	for name, value := range p.all {
		n, v := "", string(value)
		if len(name) > 0 && name[0] == ':' {
			n = string(name)
		} else {
			n = w.name(name)
		}
		if n == "" || !validValue(value) {
			return nil, statusBadArgument
		}
		fields = append(fields, Field{n, v})
	}
	return fields, statusOK
}
