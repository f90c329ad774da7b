package proxy

import (
	"cmp"
	"fmt"
	"slices"
)

// edit puts other bytes in the place of some that are held. Nobody changes with any more.
type edit struct {
	from, to int64 // in what is held
	with     []byte
}

// edit makes readers give the content with these changes, in place of those made before; a reader that is there
// already goes on as it was. They may come in any order but must not overlap, and concern held bytes only. Up to two
// cost no allocation, unless there is a reader.
func (b *body) edit(edits ...edit) {
	list := b.few[:0]
	if b.refs.Load() > 1 { // a reader may still be at the edits before
		list = make([]edit, 0, len(edits))
	}
	list = append(list, edits...)
	slices.SortStableFunc(list, func(a, b edit) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(a.to, b.to)) })
	last := int64(0)
	for _, e := range list {
		if e.from < last || e.to < e.from || e.to > b.size {
			panic(fmt.Sprintf("bug: an edit of bytes %d to %d after %d, of %d", e.from, e.to, last, b.size))
		}
		last = e.to
	}
	b.edits = list
}

// growth is how many bytes edits add, less those that they take out.
func growth(edits []edit) (n int64) {
	for i := range edits {
		n += int64(len(edits[i].with)) - (edits[i].to - edits[i].from)
	}
	return n
}
