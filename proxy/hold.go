package proxy

import (
	"bytes"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

// localAnswer makes an answer that comes from no provider. What of a provider's there was is closed.
func (x *exchange) localAnswer(status int, fields upstream.Fields, content []byte) {
	a := &x.answer
	x.closeAnswer()
	x.leave()
	a.Status, a.Length, a.Upgraded = status, int64(len(content)), nil
	a.Body = io.NopCloser(bytes.NewReader(content))
	a.Fields = append(a.Fields[:0], fields...)
	a.TrailerNames, a.Trailer = a.TrailerNames[:0], noTrailer
}

func noTrailer() upstream.Fields { return nil }

// failedWith makes err the answer that plugins may still see and change.
func (x *exchange) failedWith(err error) {
	d := &x.draft
	status, r, fields, content := x.refusal(err)
	x.localAnswer(status, fields, content)
	x.reason, d.failure = r, err
	for _, b := range []**body{&d.prefix, &d.result} {
		if *b != nil {
			(*b).release()
			*b = nil
		}
	}
	d.trailing = d.trailing[:0]
	if d.holding {
		d.holding = x.collect(maxErrorBytes) == nil
	}
}

// maxErrorBytes is more than an error's own content ever has.
const maxErrorBytes = 1 << 20

// join puts into the answer what plugins have set before there was one: fields are added, content comes first.
func (x *exchange) join() {
	d, a := &x.draft, &x.answer
	if d.answered && d.failure == nil {
		x.localAnswer(d.status, nil, nil)
		if d.status == 0 {
			a.Status = http.StatusOK
		}
	}
	for _, field := range d.preset {
		if !hopByHop(field.Name) && field.Name != "Content-Length" {
			a.Fields = append(a.Fields, field)
		}
	}
	d.preset = d.preset[:0]
	if len(d.trailing) > 0 {
		own, before := slices.Clone(d.trailing), a.Trailer
		a.Trailer = func() upstream.Fields { return append(own, before()...) }
		a.Length = -1 // only chunked content has a trailer (RFC 9112, section 6.5)
		a.Fields.Del("Content-Length")
	}
	if d.prefix != nil {
		a.Body = &joined{first: d.prefix.reader(), second: a.Body}
		if a.Length >= 0 {
			a.Length += d.prefix.size
			a.Fields.Set("Content-Length", strconv.FormatInt(a.Length, 10))
		}
	}
}

// joined is two contents in a row.
type joined struct {
	first, second io.ReadCloser
	behind        bool // the first has ended
}

func (j *joined) Read(into []byte) (int, error) {
	if !j.behind {
		n, err := j.first.Read(into)
		if !errors.Is(err, io.EOF) {
			return n, err
		}
		j.behind = true
		if n > 0 {
			return n, nil
		}
	}
	return j.second.Read(into)
}

func (j *joined) Close() error {
	return errors.Join(j.first.Close(), j.second.Close())
}

// collect holds the answer's content and trailer for the plugins that want them. The permit goes back at the
// provider's last byte.
func (x *exchange) collect(limit int64) error {
	d, a := &x.draft, &x.answer
	d.holding = true
	d.result = newHeldBody(x)
	for {
		if err := x.watchAnswer(deadlineIdle, x.idleTimeout()); err != nil {
			return err
		}
		n, err := d.result.receive(a.Body)
		if d.result.size > limit {
			return errPluginAnswer
		}
		switch {
		case errors.Is(err, errMemory):
			return err
		case errors.Is(err, io.EOF):
			d.trailing = append(d.trailing[:0], a.Trailer()...)
			a.Body.Close()
			x.leave()
			return x.unwatchAnswer()
		case err != nil:
			return x.brokeOff(err)
		case n == 0:
			return io.ErrNoProgress
		}
	}
}

// settle makes the held content the answer's, with the length that it has now.
func (x *exchange) settle() {
	d, a := &x.draft, &x.answer
	if d.result == nil {
		return
	}
	head := x.r.Method == http.MethodHead && !d.wrote // its Content-Length says what GET would get
	if !head {
		a.Length = d.result.size
		a.Fields.Del("Content-Length")
	}
	a.Body = d.result.reader()
	if a.Status == http.StatusNoContent {
		a.Length = 0
	} else if len(d.trailing) > 0 {
		a.Length = -1
	} else if !head {
		a.Fields = append(a.Fields, upstream.Field{Name: "Content-Length", Value: strconv.FormatInt(a.Length, 10)})
	}
	trailing := slices.Clone(d.trailing) // the record's own list is used again
	a.TrailerNames = a.TrailerNames[:0]
	a.Trailer = func() upstream.Fields { return trailing }
	d.result.release() // the reader has its own use
	d.result, d.holding, d.wrote = nil, false, false
}

// bodyless reports whether an answer has no content (RFC 9110, section 6.4.1).
func bodyless(method string, status int) bool {
	return method == http.MethodHead || status == http.StatusNoContent || status == http.StatusNotModified
}

// idleTimeout is the provider's, or none for an answer that comes from no provider.
func (x *exchange) idleTimeout() time.Duration {
	if x.end == nil || x.draft.answered || x.draft.failure != nil {
		return 0
	}
	return x.end.config.StreamIdleTimeout
}

// watchAnswer is watch for an answer that may be Edge's own: that one is given although the exchange has ended.
func (x *exchange) watchAnswer(what deadline, d time.Duration) error {
	if x.draft.failure != nil {
		return nil
	}
	if total := x.course.total; !total.IsZero() && what != noDeadline {
		if left := max(time.Until(total), time.Microsecond); d == 0 || left < d {
			what, d = deadlineTotal, left
		}
	}
	return x.watch(what, d)
}

func (x *exchange) unwatchAnswer() error { return x.watchAnswer(noDeadline, 0) }
