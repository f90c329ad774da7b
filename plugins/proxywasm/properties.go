package proxywasm

import (
	"bytes"
	"encoding/binary"
	"math"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// properties are what a guest has set itself, by their dotted paths. The zero value is ready.
type properties struct {
	values map[string][]byte
	bytes  int // of paths and values
}

func (p *properties) get(path []byte) (value []byte, ok bool) {
	value, ok = p.values[string(path)]
	return value, ok
}

// set keeps a copy of value. It reports false when that would be more than maxStreamBytes in all.
func (p *properties) set(path, value []byte) bool {
	grown := len(value)
	if old, ok := p.values[string(path)]; ok {
		grown -= len(old)
	} else {
		grown += len(path) + pieceOverhead
	}
	if p.bytes+grown > maxStreamBytes {
		return false
	}
	if p.values == nil {
		p.values = map[string][]byte{}
	}
	p.bytes += grown
	p.values[string(path)] = append([]byte(nil), value...)
	return true
}

func (p *properties) clear() {
	clear(p.values)
	p.bytes = 0
}

// dotted joins the segments of a path, which the guest parts by NUL, with dots.
func (g *guest) dotted(path []byte) []byte {
	g.scratch = append(g.scratch[:0], bytes.TrimRight(path, "\x00")...)
	for i, c := range g.scratch {
		if c == 0 {
			g.scratch[i] = '.'
		}
	}
	return g.scratch
}

// setProperty: (path, n, value, n).
func setProperty(g *guest, mem api.Memory, stack []uint64) status {
	path, ok1 := read(mem, stack[0], stack[1])
	value, ok2 := read(mem, stack[2], stack[3])
	if !ok1 || !ok2 {
		return statusInvalidMemory
	}
	name := g.dotted(path)
	if len(name) == 0 {
		return statusBadArgument
	}
	own := &g.properties
	if g.effective != nil {
		own = &g.effective.properties
	}
	if !own.set(name, value) {
		return statusInternal
	}
	return statusOK
}

// getProperty: (path, n, **value, *n).
func getProperty(g *guest, mem api.Memory, stack []uint64) status {
	path, ok := read(mem, stack[0], stack[1])
	if !ok {
		return statusInvalidMemory
	}
	name := g.dotted(path)
	own := &g.properties
	if g.effective != nil {
		own = &g.effective.properties
	}
	if value, ok := own.get(name); ok {
		return g.give(mem, value, stack[2], stack[3])
	}
	switch v := g.attribute(string(name)).(type) {
	case string:
		return g.giveString(mem, v, stack[2], stack[3])
	case []byte:
		return g.give(mem, v, stack[2], stack[3])
	case bool:
		b := [1]byte{}
		if v {
			b[0] = 1
		}
		return g.give(mem, b[:], stack[2], stack[3])
	case int:
		return g.giveNumber(mem, int64(v), stack[2], stack[3])
	case int64:
		return g.giveNumber(mem, v, stack[2], stack[3])
	case uint64:
		return g.giveNumber(mem, int64(v), stack[2], stack[3])
	case float64:
		return g.giveNumber(mem, int64(math.Float64bits(v)), stack[2], stack[3])
	case time.Time:
		return g.giveNumber(mem, v.UnixNano(), stack[2], stack[3])
	case time.Duration:
		return g.giveNumber(mem, int64(v), stack[2], stack[3])
	default:
		return statusNotFound
	}
}

// giveNumber gives a number as Envoy does, in 8 bytes.
func (g *guest) giveNumber(mem api.Memory, n int64, at, size uint64) status {
	g.scratch = binary.LittleEndian.AppendUint64(g.scratch[:0], uint64(n))
	return g.give(mem, g.scratch, at, size)
}

// attribute returns one of Envoy's attributes, nil if it is not known.
func (g *guest) attribute(name string) any {
	switch name {
	case "plugin_name":
		return g.plugin.Name()
	case "plugin_root_id":
		return g.plugin.options.RootID
	case "plugin_vm_id":
		return g.plugin.options.VMID
	}
	c := g.effective
	if c == nil || !c.here() {
		return nil
	}
	group, rest, _ := strings.Cut(name, ".")
	var v any
	switch group {
	case "request":
		v = c.requestAttribute(rest)
	case "response":
		v = c.responseAttribute(rest)
	}
	if v != nil {
		return v
	}
	if v, ok := c.x.Attribute(name); ok {
		return v
	}
	switch name {
	case "source.port", "destination.port":
		if address, ok := c.x.Attribute(group + ".address"); ok {
			return portOf(address)
		}
	case "x_request_id":
		return c.x.RequestID()
	}
	return nil
}

// requestAttribute derives what it can from the request.
func (c *stream) requestAttribute(name string) any {
	switch name {
	case "path":
		return c.x.Path()
	case "url_path":
		path, _, _ := strings.Cut(c.x.Path(), "?")
		return path
	case "query":
		_, query, _ := strings.Cut(c.x.Path(), "?")
		return query
	case "host":
		return c.x.Authority()
	case "scheme":
		return c.x.Scheme()
	case "method":
		return c.x.Method()
	case "id":
		return c.field(RequestHeaders, "x-request-id")
	case "referer":
		return c.field(RequestHeaders, "referer")
	case "useragent":
		return c.field(RequestHeaders, "user-agent")
	case "headers":
		return c.serial(RequestHeaders)
	}
	if name, ok := strings.CutPrefix(name, "headers."); ok {
		return c.field(RequestHeaders, name)
	}
	return nil
}

// responseAttribute derives what it can from the answer.
func (c *stream) responseAttribute(name string) any {
	if !c.answered {
		return nil
	}
	switch name {
	case "code":
		return c.x.Status()
	case "code_details":
		if c.reply != nil {
			return c.reply.Details
		}
	case "headers":
		return c.serial(ResponseHeaders)
	case "trailers":
		if c.trailing[response] {
			return c.serial(ResponseTrailers)
		}
	}
	if name, ok := strings.CutPrefix(name, "headers."); ok {
		return c.field(ResponseHeaders, name)
	}
	if name, ok := strings.CutPrefix(name, "trailers."); ok && c.trailing[response] {
		return c.field(ResponseTrailers, name)
	}
	return nil
}

// field returns a field as an attribute, nil if it is not there.
func (c *stream) field(k MapKind, name string) any {
	m := fieldMap{kind: k, x: c.x, fields: c.x.Fields(k)}
	value, joined, found := m.get([]byte(name), nil)
	switch {
	case !found:
		return nil
	case value == "":
		return joined
	default:
		return value
	}
}

func (c *stream) serial(k MapKind) []byte {
	m := fieldMap{kind: k, x: c.x, fields: c.x.Fields(k)}
	return m.append(nil)
}

// portOf returns the port of an address, nil if there is none.
func portOf(address any) any {
	s, _ := address.(string)
	_, port, err := net.SplitHostPort(s)
	if err != nil {
		return nil
	}
	n, err := strconv.ParseInt(port, 10, 64)
	if err != nil {
		return nil
	}
	return n
}
