package proxy

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/edge-proxy/edge/proxy/upstream"
)

const (
	maxRefusal = 64 << 10 // bytes that are read of a refusal's content

	// dayRest is how long a day's quota that is spent is left alone. When the day ends is said nowhere.
	dayRest = time.Hour
)

// retryInfo reads what two providers say in the content of a 429 instead of its head: Google, how long to wait and that a
// quota of the day is spent (google.rpc.RetryInfo and QuotaFailure, https://google.aip.dev/193); OpenRouter, the fields that
// its head lacks. Content of another shape says nothing.
func retryInfo(content []byte, now time.Time) (a announcement) {
	type refusal struct {
		Error struct {
			Details []struct {
				Type       string `json:"@type"`
				RetryDelay string `json:"retryDelay"`
				Violations []struct {
					ID string `json:"quotaId"`
				} `json:"violations"`
			} `json:"details"`
			Metadata struct {
				Headers map[string]any `json:"headers"`
			} `json:"metadata"`
		} `json:"error"`
	}
	var said refusal
	content = bytes.TrimSpace(content)
	if bytes.HasPrefix(content, []byte("[")) { // as Google has it in streams and under its OpenAI path
		var list []refusal
		if json.Unmarshal(content, &list) != nil || len(list) == 0 {
			return a
		}
		said = list[0]
	} else if json.Unmarshal(content, &said) != nil {
		return a
	}
	if len(said.Error.Metadata.Headers) > 0 {
		var fields upstream.Fields
		for name, value := range said.Error.Metadata.Headers {
			switch value := value.(type) {
			case string:
				fields = append(fields, upstream.Field{Name: name, Value: value})
			case float64:
				text, err := json.Marshal(value)
				if err == nil {
					fields = append(fields, upstream.Field{Name: name, Value: string(text)})
				}
			}
		}
		a = announce(fields, http.StatusTooManyRequests, now)
	}
	for _, detail := range said.Error.Details {
		switch detail.Type {
		case "type.googleapis.com/google.rpc.RetryInfo":
			if wait, ok := goDuration(detail.RetryDelay); ok && detail.RetryDelay != "" && !a.never {
				a.wait, a.waits = wait, true
			}
		case "type.googleapis.com/google.rpc.QuotaFailure":
			for _, violation := range detail.Violations {
				if strings.Contains(violation.ID, "PerDay") { // then the wait that it says is too short
					a.wait, a.waits, a.never = dayRest, true, true
				}
			}
		}
	}
	return a
}

// readRefusal reads the beginning of a refusal's content, when its head does not say how long to wait, and puts it back. What
// it says is added to said.
func (x *exchange) readRefusal(said *announcement) error {
	a := &x.answer
	if said.waits || a.Body == nil || a.Length == 0 || !jsonType(a.Fields.Get("Content-Type")) {
		return nil
	}
	coding := a.Fields.Get("Content-Encoding")
	if coding != "" && coding != "gzip" {
		return nil
	}
	if err := x.watch(deadlineIdle, x.end.config.StreamIdleTimeout); err != nil {
		return err
	}
	stop := func() bool { return true }
	if x.course.several { // what does not come soon is not worth another attempt's time
		stop = x.inGoodTime()
	}
	content, err := io.ReadAll(io.LimitReader(a.Body, maxRefusal))
	stop()
	if err == nil && len(content) < maxRefusal {
		err = io.EOF
	}
	a.Body = &rereadBody{ReadCloser: a.Body, held: content, err: err}
	if err := x.unwatch(); err != nil {
		return err
	}
	if coding == "gzip" {
		unzip, err := gzip.NewReader(bytes.NewReader(content))
		if err != nil {
			return nil //nolint:nilerr // the caller's to find out
		}
		content, _ = io.ReadAll(io.LimitReader(unzip, maxRefusal)) // what is cut short is no JSON
	}
	more := retryInfo(content, time.Now())
	more.never = more.never || said.never
	if said.told {
		more.levels, more.told = said.levels, true
	}
	*said = more
	return nil
}

// rereadBody gives what was read of a content before the rest.
type rereadBody struct {
	io.ReadCloser
	held []byte
	err  error // what ended that read
}

func (b *rereadBody) Read(into []byte) (int, error) {
	if len(b.held) > 0 {
		n := copy(into, b.held)
		b.held = b.held[n:]
		return n, nil
	}
	if b.err != nil {
		return 0, b.err
	}
	return b.ReadCloser.Read(into)
}
