package proxywasm

import (
	"sync"

	"github.com/tetratelabs/wazero/api"
)

// Store is shared data and shared queues of plugins, by VM id (Options.VMID). It outlives plugins, so that a reload loses
// nothing. Safe for concurrent use.
type Store struct {
	max int64

	mu     sync.Mutex
	used   int64
	data   map[place]*datum
	cas    uint32 // of the last write
	names  map[place]uint32
	queues []*queue // by id-1
}

// place is a name within a VM id.
type place struct{ vm, name string }

type datum struct {
	value []byte
	cas   uint32
}

type queue struct {
	items  [][]byte
	plugin *Plugin // that is told of items; nil when it is closed
	guest  *guest
}

const (
	defaultStoreBytes = 16 << 20
	pieceOverhead     = 96 // of a datum or item, beside its bytes
	maxQueues         = 1024
)

// NewStore returns a store that holds so many bytes; 0 is 16 MiB.
func NewStore(maxBytes int64) *Store {
	if maxBytes <= 0 {
		maxBytes = defaultStoreBytes
	}
	return &Store{max: maxBytes, data: map[place]*datum{}, names: map[place]uint32{}}
}

// Bytes returns how much the store holds.
func (s *Store) Bytes() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.used
}

// spend counts bytes that come, or go when n is negative.
func (s *Store) spend(n int) bool {
	if n > 0 && s.used+int64(n) > s.max {
		return false
	}
	s.used += int64(n)
	return true
}

// set writes a value. A cas that is not 0 must be the one that get told.
func (s *Store) set(at place, value []byte, cas uint32) status {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.data[at]
	if d == nil {
		if !s.spend(len(at.name) + len(value) + pieceOverhead) {
			return statusInternal
		}
		d = &datum{}
		s.data[at] = d
	} else {
		if cas != 0 && cas != d.cas {
			return statusCASMismatch
		}
		if !s.spend(len(value) - len(d.value)) {
			return statusInternal
		}
	}
	if s.cas++; s.cas == 0 {
		s.cas++
	}
	d.value, d.cas = append([]byte(nil), value...), s.cas // not in place: get lends it
	return statusOK
}

// get returns a value, which is not to be changed.
func (s *Store) get(vm string, key []byte) (value []byte, cas uint32, st status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.data[place{vm, string(key)}]
	if d == nil {
		return nil, 0, statusNotFound
	}
	return d.value, d.cas, statusOK
}

// register returns the id of a queue, makes it if need be, and lets it wake g.
func (s *Store) register(at place, g *guest) (id uint32, st status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	id = s.names[at]
	if id == 0 {
		if len(s.queues) == maxQueues || !s.spend(len(at.name)+pieceOverhead) {
			return 0, statusInternal
		}
		s.queues = append(s.queues, &queue{})
		id = uint32(len(s.queues))
		s.names[at] = id
	}
	q := s.queues[id-1]
	q.plugin, q.guest = g.plugin, g
	return id, statusOK
}

// resolve returns the id of a queue that is there.
func (s *Store) resolve(at place) (id uint32, st status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if id = s.names[at]; id == 0 {
		return 0, statusNotFound
	}
	return id, statusOK
}

// queue finds a queue.
func (s *Store) queue(id uint64) *queue {
	if n := uint32(id); n > 0 && uint64(n) <= uint64(len(s.queues)) {
		return s.queues[n-1]
	}
	return nil
}

// enqueue appends an item and wakes whoever registered the queue last.
func (s *Store) enqueue(id uint64, item []byte) status {
	s.mu.Lock()
	q := s.queue(id)
	if q == nil {
		s.mu.Unlock()
		return statusNotFound
	}
	if len(q.items) == maxWakeUps || !s.spend(len(item)+pieceOverhead) {
		s.mu.Unlock()
		return statusInternal
	}
	q.items = append(q.items, append([]byte(nil), item...))
	p, g := q.plugin, q.guest
	s.mu.Unlock()
	if p != nil {
		p.queued(g, uint32(id))
	}
	return statusOK
}

// dequeue takes the oldest item.
func (s *Store) dequeue(id uint64) (item []byte, st status) {
	s.mu.Lock()
	defer s.mu.Unlock()
	q := s.queue(id)
	switch {
	case q == nil:
		return nil, statusNotFound
	case len(q.items) == 0:
		return nil, statusEmpty
	}
	item = q.items[0]
	q.items[0] = nil
	if q.items = q.items[1:]; len(q.items) == 0 {
		q.items = nil
	}
	s.spend(-len(item) - pieceOverhead)
	return item, statusOK
}

// forget ends the wake-ups of a plugin.
func (s *Store) forget(p *Plugin) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.queues {
		if q.plugin == p {
			q.plugin, q.guest = nil, nil
		}
	}
}

// setSharedData: (key, n, value, n, cas).
func setSharedData(g *guest, mem api.Memory, stack []uint64) status {
	key, ok1 := read(mem, stack[0], stack[1])
	value, ok2 := read(mem, stack[2], stack[3])
	if !ok1 || !ok2 {
		return statusInvalidMemory
	}
	o := g.plugin.options
	return o.Store.set(place{o.VMID, string(key)}, value, uint32(stack[4]))
}

// getSharedData: (key, n, **value, *n, *cas).
func getSharedData(g *guest, mem api.Memory, stack []uint64) status {
	key, ok := read(mem, stack[0], stack[1])
	if !ok {
		return statusInvalidMemory
	}
	value, cas, st := g.plugin.options.Store.get(g.plugin.options.VMID, key)
	if st != statusOK {
		return st
	}
	if !mem.WriteUint32Le(uint32(stack[4]), cas) {
		return statusInvalidMemory
	}
	return g.give(mem, value, stack[2], stack[3])
}

// registerSharedQueue: (name, n, *id).
func registerSharedQueue(g *guest, mem api.Memory, stack []uint64) status {
	name, ok := read(mem, stack[0], stack[1])
	if !ok || !mem.WriteUint32Le(uint32(stack[2]), 0) {
		return statusInvalidMemory
	}
	id, st := g.plugin.options.Store.register(place{g.plugin.options.VMID, string(name)}, g)
	if st == statusOK {
		g.listens = true
		mem.WriteUint32Le(uint32(stack[2]), id)
	}
	return st
}

// resolveSharedQueue: (vm id, n, name, n, *id). Without a VM id it is the plugin's own.
func resolveSharedQueue(g *guest, mem api.Memory, stack []uint64) status {
	vm, ok1 := read(mem, stack[0], stack[1])
	name, ok2 := read(mem, stack[2], stack[3])
	if !ok1 || !ok2 || !mem.WriteUint32Le(uint32(stack[4]), 0) {
		return statusInvalidMemory
	}
	at := place{g.plugin.options.VMID, string(name)}
	if len(vm) > 0 {
		at.vm = string(vm)
	}
	id, st := g.plugin.options.Store.resolve(at)
	if st == statusOK {
		mem.WriteUint32Le(uint32(stack[4]), id)
	}
	return st
}

// enqueueSharedQueue: (id, item, n).
func enqueueSharedQueue(g *guest, mem api.Memory, stack []uint64) status {
	item, ok := read(mem, stack[1], stack[2])
	if !ok {
		return statusInvalidMemory
	}
	return g.plugin.options.Store.enqueue(stack[0], item)
}

// dequeueSharedQueue: (id, **item, *n).
func dequeueSharedQueue(g *guest, mem api.Memory, stack []uint64) status {
	if _, ok := mem.ReadUint32Le(uint32(stack[1])); !ok {
		return statusInvalidMemory // before the item is gone
	}
	if _, ok := mem.ReadUint32Le(uint32(stack[2])); !ok {
		return statusInvalidMemory
	}
	item, st := g.plugin.options.Store.dequeue(stack[0])
	if st != statusOK {
		return st
	}
	return g.give(mem, item, stack[1], stack[2])
}
