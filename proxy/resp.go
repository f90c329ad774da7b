package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// What follows reads RESP, the protocol of Redis, as far as it must be read to cut one command or reply from the next:
// https://redis.io/docs/latest/develop/reference/protocol-spec/. No HELLO is ever sent, so all is RESP2.

const maxRESPNumber = math.MaxInt32 // of a length or a count; an int of any machine holds it

var errRESP = errors.New("not the protocol of Redis")

// respCommands counts the commands in a query, and names the first that a shared connection cannot take.
func respCommands(query []byte) (count int, refused string, err error) {
	open := false // between MULTI and EXEC
	for len(query) > 0 {
		var words [2]string // in capitals: the name and what follows it
		args, rest, err := respNumber(query, '*')
		if err != nil || args < 1 {
			return 0, "", errRESP
		}
		blocks, streams := false, false
		query = rest
		for n := range args {
			size, rest, err := respNumber(query, '$')
			if err != nil || size < 0 || len(rest)-2 < size || rest[size] != '\r' || rest[size+1] != '\n' {
				return 0, "", errRESP
			}
			word := rest[:size]
			if n < len(words) {
				words[n] = strings.ToUpper(string(word[:min(size, 32)]))
			}
			streams = streams || bytes.EqualFold(word, []byte("STREAMS")) // keys follow
			blocks = blocks || !streams && bytes.EqualFold(word, []byte("BLOCK"))
			query = rest[size+2:]
		}
		count++
		switch name := words[0]; {
		case name == "MULTI" && args == 1 && !open:
			open = true
		case (name == "EXEC" || name == "DISCARD") && args == 1 && open:
			open = false
		case refused == "" && (unshared[name] || name == "SCRIPT" && words[1] == "DEBUG" ||
			blocks && (name == "XREAD" || name == "XREADGROUP")):
			refused = name
		}
	}
	if open && refused == "" {
		refused = "MULTI" // of which the end would be in another's query
	}
	if count == 0 {
		err = errRESP
	}
	return count, refused, err
}

// unshared are the commands that would change what others on the connection get, or make them wait for long. MULTI, EXEC
// and DISCARD are here for those that do not stand as a pair in one query.
var unshared = func() map[string]bool {
	all := map[string]bool{}
	for name := range strings.FieldsSeq(`
		SELECT AUTH HELLO QUIT RESET CLIENT MONITOR SYNC PSYNC REPLCONF ASKING READONLY READWRITE
		SUBSCRIBE PSUBSCRIBE SSUBSCRIBE UNSUBSCRIBE PUNSUBSCRIBE SUNSUBSCRIBE
		MULTI EXEC DISCARD WATCH UNWATCH
		BLPOP BRPOP BRPOPLPUSH BLMOVE BLMPOP BZPOPMIN BZPOPMAX BZMPOP`) {
		all[name] = true
	}
	return all
}()

// respNumber reads a line that is a length or a count of the given kind.
func respNumber(b []byte, kind byte) (n int, rest []byte, err error) {
	end := bytes.Index(b[:min(len(b), 32)], []byte("\r\n"))
	if end < 2 || b[0] != kind {
		return 0, nil, errRESP
	}
	n, err = strconv.Atoi(string(b[1:end]))
	if err != nil || n < -1 || n > maxRESPNumber || len(strconv.Itoa(n)) != end-1 { // Redis takes neither +1 nor 01
		return 0, nil, errRESP
	}
	return n, b[end+2:], nil
}

// respCommand is a command as it goes over the wire.
func respCommand(words ...string) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(words))
	for _, word := range words {
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(word), word)
	}
	return b
}

// replyReader cuts replies out of what a server sends.
type replyReader struct {
	from *bufio.Reader

	reply []byte // so far
	large bool   // more than the reader keeps; the rest is read all the same, so that the next reply can be
	most  int
}

// next reads so many replies, and returns their bytes, or errRedisLarge when there are too many. Another error means that
// nothing more can be read.
func (r *replyReader) next(count int) ([]byte, error) {
	r.reply, r.large = nil, false
	for pending := int64(count); pending > 0; pending-- {
		kind, n, err := r.line()
		switch {
		case err != nil:
			return nil, err
		case kind == '*':
			pending += int64(max(n, 0))
		case kind == '$' && n >= 0:
			err = r.content(n)
		}
		if err != nil {
			return nil, err
		}
	}
	if r.large {
		return nil, errRedisLarge
	}
	return r.reply, nil
}

// line reads a line, and the number in it if it is that of a bulk string or an array.
func (r *replyReader) line() (kind byte, n int, err error) {
	line, err := r.from.ReadSlice('\n')
	if len(line) == 0 {
		return 0, 0, err
	}
	switch kind = line[0]; {
	case (kind == '$' || kind == '*') && err == nil:
		if n, _, err = respNumber(line, kind); err == nil {
			r.keep(line)
		}
		return kind, n, err
	case kind != '+' && kind != '-' && kind != ':':
		return 0, 0, errRESP
	}
	for r.keep(line); errors.Is(err, bufio.ErrBufferFull); r.keep(line) {
		line, err = r.from.ReadSlice('\n')
	}
	return kind, 0, err
}

// content reads the bytes of a bulk string and the end of its line.
func (r *replyReader) content(n int) error {
	for n > 0 {
		some, err := r.from.Peek(min(n, max(r.from.Buffered(), 1)))
		if err != nil {
			return err
		}
		r.keep(some)
		_, _ = r.from.Discard(len(some)) // they are there
		n -= len(some)
	}
	end, err := r.from.Peek(2)
	if err == nil && string(end) != "\r\n" {
		err = errRESP
	}
	r.keep(end)
	_, _ = r.from.Discard(len(end))
	return err
}

func (r *replyReader) keep(b []byte) {
	if r.large = r.large || len(r.reply)+len(b) > r.most; r.large {
		r.reply = nil
		return
	}
	r.reply = append(r.reply, b...)
}
