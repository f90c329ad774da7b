package proxywasm

import (
	"encoding/binary"
	"log/slog"
	"slices"
	"time"

	"github.com/tetratelabs/wazero/api"
)

// levels are the ABI's log levels: trace, debug, info, warn, error, critical.
var levels = [...]slog.Level{slog.LevelDebug - 4, slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError, slog.LevelError}

// log: (level, text, n).
func log(g *guest, mem api.Memory, stack []uint64) status {
	text, ok := read(mem, stack[1], stack[2])
	if !ok {
		return statusInvalidMemory
	}
	level := uint32(stack[0])
	if level >= uint32(len(levels)) {
		return statusBadArgument
	}
	if g.in.LogEnabled(levels[level]) {
		g.in.Log(levels[level], text)
	}
	return statusOK
}

// level returns the lowest of the ABI's levels that reaches the log.
func (g *guest) level() uint32 {
	for n, level := range levels {
		if g.in.LogEnabled(level) {
			return uint32(n)
		}
	}
	return uint32(len(levels) - 1)
}

// getLogLevel: (*level).
func getLogLevel(g *guest, mem api.Memory, stack []uint64) status {
	if !mem.WriteUint32Le(uint32(stack[0]), g.level()) {
		return statusInvalidMemory
	}
	return statusOK
}

// getCurrentTime: (*nanoseconds).
func getCurrentTime(_ *guest, mem api.Memory, stack []uint64) status {
	if !mem.WriteUint64Le(uint32(stack[0]), uint64(time.Now().UnixNano())) {
		return statusInvalidMemory
	}
	return statusOK
}

// setTickPeriod: (milliseconds). 0 stops.
func setTickPeriod(g *guest, _ api.Memory, stack []uint64) status {
	if g.retiring {
		return statusOK
	}
	g.period.Store(int64(time.Duration(uint32(stack[0])) * minTick))
	signal(g.plugin.kick)
	return statusOK
}

// getConfiguration: (**bytes, *n).
func getConfiguration(g *guest, mem api.Memory, stack []uint64) status {
	return g.give(mem, g.plugin.module.Settings(), stack[0], stack[1])
}

// continueStream: (stream).
func continueStream(g *guest, _ api.Memory, stack []uint64) status {
	switch n := uint32(stack[0]); {
	case n >= streamKinds:
		return statusBadArgument
	case n > streamResponse:
		return statusUnimplemented
	default:
		return g.resume(side(n))
	}
}

func continueRequest(g *guest, _ api.Memory, _ []uint64) status  { return g.resume(request) }
func continueResponse(g *guest, _ api.Memory, _ []uint64) status { return g.resume(response) }

func (g *guest) resume(d side) status {
	if g.effective == nil {
		return statusBadArgument
	}
	g.effective.resume(d)
	return statusOK
}

// closeStream: (stream).
func closeStream(g *guest, _ api.Memory, stack []uint64) status {
	switch n := uint32(stack[0]); {
	case n >= streamKinds || n <= streamResponse && g.effective == nil:
		return statusBadArgument
	case n > streamResponse:
		return statusUnimplemented
	default:
		g.effective.closed = true
		g.effective.rouse()
		return statusOK
	}
}

func clearRouteCache(*guest, api.Memory, []uint64) status { return statusOK }

// sendLocalResponse: (code, details, n, body, n, headers, size, grpc status). The first one counts.
func sendLocalResponse(g *guest, mem api.Memory, stack []uint64) status {
	details, ok1 := read(mem, stack[1], stack[2])
	body, ok2 := read(mem, stack[3], stack[4])
	serial, ok3 := read(mem, stack[5], stack[6])
	if !ok1 || !ok2 || !ok3 {
		return statusInvalidMemory
	}
	c, code := g.effective, int(uint32(stack[0]))
	p, err := parsePairs(serial)
	if c == nil || c.x == nil || err != nil || code < 200 || code > 999 || c.left[ResponseHeaders] {
		return statusBadArgument
	}
	if c.reply != nil {
		return statusOK
	}
	fields, st := fieldsOf(&g.words, p)
	if st != statusOK {
		return st
	}
	if !c.spend(len(serial)+len(details)) || int64(len(body)) > g.plugin.options.MaxBody {
		return statusInternal
	}
	fields = slices.DeleteFunc(fields, func(f Field) bool { return f.Name[0] == ':' })
	c.reply = &LocalReply{
		Status: code, Details: string(details), Fields: fields, GRPCStatus: int32(uint32(stack[7])),
		Body: append([]byte(nil), body...),
	}
	c.direct = c.answered
	c.rouse()
	return statusOK
}

// setEffectiveContext: (id).
func setEffectiveContext(g *guest, _ api.Memory, stack []uint64) status {
	id := uint32(stack[0])
	if id == rootID {
		g.effective = nil
		return statusOK
	}
	c := g.streams[id]
	if c == nil {
		return statusBadArgument
	}
	g.effective = c
	return statusOK
}

// done: (). Ends what on_done has put off.
func done(g *guest, _ api.Memory, _ []uint64) status {
	c := g.effective
	switch {
	case c == nil && !g.ending || c != nil && !c.ending:
		return statusNotFound
	case c == nil:
		g.rootDone = true
	case c.lingering == nil:
		c.finished = true // in on_done itself
	case !c.finished:
		c.finished = true
		g.finished = append(g.finished, c)
	}
	return statusOK
}

// getStatus: (*code, **message, *n).
func getStatus(g *guest, mem api.Memory, stack []uint64) status {
	if g.answer == nil {
		return statusNotFound
	}
	if !mem.WriteUint32Le(uint32(stack[0]), g.answer.code) {
		return statusInvalidMemory
	}
	return g.giveString(mem, g.answer.message, stack[1], stack[2])
}

// noGRPC answers all calls of gRPC.
func noGRPC(g *guest, _ api.Memory, _ []uint64) status {
	g.plugin.noGRPC.Do(func() {
		g.plugin.tell(slog.LevelWarn, "plugin wants to make gRPC calls, which are not implemented", nil)
	})
	return statusUnimplemented
}

// callForeignFunction: (name, n, args, n, **result, *n).
func callForeignFunction(g *guest, mem api.Memory, stack []uint64) status {
	name, ok1 := read(mem, stack[0], stack[1])
	_, ok2 := read(mem, stack[2], stack[3])
	if !ok1 || !ok2 {
		return statusInvalidMemory
	}
	switch string(name) {
	case "get_log_level":
		g.scratch = binary.LittleEndian.AppendUint32(g.scratch[:0], g.level())
		return g.give(mem, g.scratch, stack[4], stack[5])
	case "clear_route_cache":
		return g.give(mem, nil, stack[4], stack[5])
	default:
		return statusNotFound
	}
}
