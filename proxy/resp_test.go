package proxy

import (
	"bufio"
	"bytes"
	"errors"
	"strings"
	"testing"
	"testing/iotest"
)

// FuzzReplyReader reads replies in pieces: what it returns must be the bytes that came, cut where the next one begins.
func FuzzReplyReader(f *testing.F) {
	for _, seed := range []string{"+OK\r\n", "-ERR x\r\n:1\r\n", "$-1\r\n$0\r\n\r\n", "*2\r\n*1\r\n:5\r\n$3\r\na\r\n\r\n", "*-1\r\n", "*2147483648\r\n", "$9\r\nx", "*0\r\n+x\n", "+" + strings.Repeat("x", 40) + "\r\n"} {
		f.Add([]byte(seed), 1)
		f.Add([]byte(seed+seed), 2)
	}
	f.Fuzz(func(t *testing.T, sent []byte, count int) {
		if count < 1 || count > 100 {
			return
		}
		whole := &replyReader{from: bufio.NewReaderSize(bytes.NewReader(sent), 1<<16), most: 1 << 16}
		want, wrong := whole.next(count)
		for most, reader := range map[int]*bufio.Reader{1 << 16: bufio.NewReaderSize(iotest.OneByteReader(bytes.NewReader(sent)), 16), 8: bufio.NewReaderSize(bytes.NewReader(sent), 32)} {
			r := &replyReader{from: reader, most: most}
			got, err := r.next(count)
			switch {
			case len(sent) > 1<<15: // a number's line may be longer than a small buffer
			case wrong == nil && len(want) > most && !errors.Is(err, errRedisLarge):
				t.Errorf("%q: got %v, want %v", sent, err, errRedisLarge)
			case wrong == nil && len(want) <= most && (err != nil || !bytes.Equal(got, want)):
				t.Errorf("%q: got %q, %v, want %q", sent, got, err, want)
			case wrong != nil && err == nil:
				t.Errorf("%q: got %q, want an error", sent, got)
			}
		}
		if wrong == nil && !bytes.HasPrefix(sent, want) {
			t.Errorf("%q: got %q", sent, want)
		}
	})
}

// A number that no int of 32 bits holds, or that would not with what is added to it, is an error on every machine.
func TestRESPNumbersThatDoNotFit(t *testing.T) {
	for _, number := range []string{"2147483646", "2147483647", "2147483648", "4294967296", "4294967297", "9223372036854775807", "9223372036854775808", "-2147483648"} {
		for _, query := range []string{"*1\r\n$" + number + "\r\nx\r\n", "*" + number + "\r\n$1\r\nx\r\n"} {
			if count, _, err := respCommands([]byte(query)); err == nil {
				t.Errorf("%q: %d commands", query, count)
			}
			r := &replyReader{from: bufio.NewReader(strings.NewReader(query)), most: 1 << 10}
			if reply, err := r.next(1); err == nil {
				t.Errorf("%q: got the reply %q", query, reply)
			}
		}
	}
}

// FuzzRESPCommands reads what guests send.
func FuzzRESPCommands(f *testing.F) {
	f.Add(respCommand("GET", "a"))
	f.Add(append(respCommand("MULTI"), respCommand("EXEC")...))
	f.Add(append(respCommand("XREAD", "COUNT", "1", "BLOCK", "0"), "*1\r\n$0\r\n\r\n"...))
	f.Add([]byte("*2\r\n$4\r\nPING"))
	f.Fuzz(func(t *testing.T, query []byte) {
		count, refused, err := respCommands(query)
		if err != nil {
			return
		}
		// A query is a reply that is an array, too: the reader must cut as many.
		r := &replyReader{from: bufio.NewReaderSize(bytes.NewReader(query), 64), most: len(query)}
		if got, err := r.next(count); err != nil || !bytes.Equal(got, query) {
			t.Errorf("%q: %d commands; got %q, %v", query, count, got, err)
		}
		if _, again, _ := respCommands(append(bytes.Clone(query), respCommand("PING")...)); refused != "" && again == "" {
			t.Errorf("%q: %s is refused no more", query, refused)
		}
	})
}
