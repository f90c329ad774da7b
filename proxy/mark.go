package proxy

import (
	"slices"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// mark is where an exchange stood before a plugin's guest ran, for a plugin that may be skipped. It is one of restored
// and dropped, once; a nil mark is neither.
type mark struct {
	draft  draft
	query  upstream.Request
	answer upstream.Response
	lists  [7]upstream.Fields
}

// lists are the lists of fields that a guest may change.
func (x *exchange) lists() [7]*upstream.Fields {
	d := &x.draft
	return [7]*upstream.Fields{&d.fields, &d.sent, &d.trailer, &d.preset, &d.trailing, &x.query.Fields, &x.answer.Fields}
}

// bodies are the contents that a guest may replace.
func (d *draft) bodies() [3]*body { return [3]*body{d.content, d.prefix, d.result} }

// mark copies what a guest may change. Content is kept by its count, since a guest can replace it and not change it.
func (x *exchange) mark() *mark {
	m := &mark{draft: x.draft, query: x.query, answer: x.answer}
	for i, list := range x.lists() {
		m.lists[i] = slices.Clone(*list)
	}
	for _, b := range m.draft.bodies() {
		if b != nil {
			b.refs.Add(1)
		}
	}
	return m
}

// restore undoes what was done since m. The visits stay.
func (x *exchange) restore(m *mark) {
	visits := x.draft.visits
	for _, f := range x.draft.piped[len(m.draft.piped):] {
		f.detach()
	}
	x.draft.release()
	x.draft, x.query, x.answer = m.draft, m.query, m.answer
	x.draft.visits = visits
	for i, list := range x.lists() {
		*list = m.lists[i]
	}
}

// drop forgets m.
func (m *mark) drop() {
	if m != nil {
		m.draft.release()
	}
}

// release ends the use of the contents.
func (d *draft) release() {
	for _, b := range d.bodies() {
		if b != nil {
			b.release()
		}
	}
	d.content, d.prefix, d.result = nil, nil, nil
}
