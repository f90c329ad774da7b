package demo

import (
	"net/http"
	"strconv"
)

// messagesRequest is what else is read of a request to Anthropic's.
type messagesRequest struct {
	request
	System content `json:"system"`
}

// messages is POST /v1/messages.
func (x *exchange) messages() error {
	var q messagesRequest
	if err := x.read(&q); err != nil {
		return err
	}
	if q.MaxTokens == nil {
		return missing("max_tokens")
	}
	t, err := x.turn(&q.request, anthropicRoles, textTokens(q.System.text))
	if err != nil {
		return err
	}
	if q.Stream {
		return x.messageStream(t)
	}
	b := x.appendMessageHead(x.out[:0], t)
	b = append(b, `[{"type":"text","text":"`...)
	for t.answer.more() {
		b = t.answer.appendWord(b)
	}
	b = append(b, `"}],"stop_reason":"`...)
	b = append(b, t.stopReason()...)
	b = t.appendInput(append(b, `","stop_sequence":null,"usage":{`...))
	b = strconv.AppendInt(append(b, `,"output_tokens":`...), int64(t.answer.tokens), 10)
	b = append(b, "}}\n"...)
	x.out = b
	return x.reply(http.StatusOK, b)
}

// messageStream sends the events of one text block in Anthropic's order.
func (x *exchange) messageStream(t *turn) error {
	x.openStream()
	b := append(x.out[:0], "event: message_start\ndata: {\"type\":\"message_start\",\"message\":"...)
	b = x.appendMessageHead(b, t)
	b = append(b, `[],"stop_reason":null,"stop_sequence":null,"usage":{`...)
	b = t.appendInput(b)
	b = append(b, ",\"output_tokens\":1}}}\n\n"...)
	x.event(b)
	b = append(b[:0], "event: content_block_start\n"+
		`data: {"type":"content_block_start","index":0,"content_block":{"type":"text","text":""}}`+"\n\n"...)
	x.event(b)
	x.event(append(b[:0], "event: ping\ndata: {\"type\":\"ping\"}\n\n"...))
	for i := 0; t.answer.more() && x.pace(i); i++ {
		b = append(b[:0], "event: content_block_delta\n"+
			`data: {"type":"content_block_delta","index":0,"delta":{"type":"text_delta","text":"`...)
		b = append(t.answer.appendWord(b), "\"}}\n\n"...)
		x.event(b)
	}
	b = append(b[:0], "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"...)
	x.event(b)
	b = append(b[:0], "event: message_delta\n"+`data: {"type":"message_delta","delta":{"stop_reason":"`...)
	b = append(b, t.stopReason()...)
	b = append(b, `","stop_sequence":null},"usage":{"output_tokens":`...)
	b = strconv.AppendInt(b, int64(t.answer.tokens), 10)
	b = append(b, "}}\n\n"...)
	x.event(b)
	x.out = b
	return x.lastEvent(append(b[:0], "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n"...))
}

// appendMessageHead appends a message up to the value of content.
func (x *exchange) appendMessageHead(b []byte, t *turn) []byte {
	b = x.appendID(append(b, `{"id":"`...), "msg_")
	b = appendString(append(b, `","type":"message","role":"assistant","model":`...), t.model)
	return append(b, `,"content":`...)
}

// appendInput appends what the prompt counts; what was cached comes apart.
func (t *turn) appendInput(b []byte) []byte {
	b = strconv.AppendInt(append(b, `"input_tokens":`...), int64(t.prompt-t.cached), 10)
	if t.cached > 0 {
		b = strconv.AppendInt(append(b, `,"cache_read_input_tokens":`...), int64(t.cached), 10)
	}
	return b
}

func (t *turn) stopReason() string {
	if t.cut {
		return "max_tokens"
	}
	return "end_turn"
}
