package translate

import (
	"encoding/json"
	"errors"
)

// Stream translates the events of one answer. What it returns does not depend on how they were cut into chunks.
type Stream struct {
	events  events
	chat    Chat
	head    chunk // what all chunks of the answer have in common
	usage   usage
	tools   int           // calls begun
	inputs  map[int]*call // by the index of their content block
	ending  bool          // the reason was told
	over    bool          // nothing more is said
	written []byte
}

// call is a tool's call under way.
type call struct {
	index int
	input json.RawMessage // that came with its beginning
	any   bool            // a piece of its arguments was passed on
}

// chunk is an event of OpenAI's.
type chunk struct {
	ID      string          `json:"id"`
	Object  string          `json:"object"`
	Created int64           `json:"created"`
	Model   string          `json:"model"`
	Choices []chunkChoice   `json:"choices"`
	Usage   json.RawMessage `json:"usage,omitempty"`
}

type chunkChoice struct {
	Index        int           `json:"index"`
	Delta        delta         `json:"delta"`
	Logprobs     *struct{}     `json:"logprobs"`
	FinishReason *finishReason `json:"finish_reason"`
}

type delta struct {
	Role      string      `json:"role,omitempty"`
	Content   *string     `json:"content,omitempty"`
	ToolCalls []callDelta `json:"tool_calls,omitempty"`
}

type callDelta struct {
	Index    int           `json:"index"`
	ID       string        `json:"id,omitempty"`
	Type     string        `json:"type,omitempty"`
	Function functionDelta `json:"function"`
}

type functionDelta struct {
	Name      string `json:"name,omitempty"`
	Arguments string `json:"arguments"`
}

// event is one of Anthropic's. Type says which of the fields it has.
type event struct {
	Type         string         `json:"type"`
	Message      *message       `json:"message"`
	Index        int            `json:"index"`
	ContentBlock *answerBlock   `json:"content_block"`
	Delta        eventDelta     `json:"delta"`
	Usage        *usage         `json:"usage"`
	Error        *anthropicFail `json:"error"`
}

type eventDelta struct {
	Type        string `json:"type"`
	Text        string `json:"text"`
	PartialJSON string `json:"partial_json"`
	StopReason  string `json:"stop_reason"`
}

// NewStream returns a translator for the answer to a request; created is when it begins, in seconds since 1970.
func NewStream(chat Chat, created int64) *Stream {
	s := &Stream{chat: chat, inputs: map[int]*call{}, head: chunk{Object: "chat.completion.chunk", Created: created}}
	if chat.IncludeUsage {
		s.head.Usage = json.RawMessage("null")
	}
	return s
}

// Translate appends to dst what OpenAI would have sent for the next chunk of the answer. end says that it is the last. What
// cannot be translated, and an answer that breaks off, end with an error event.
func (s *Stream) Translate(dst, chunk []byte, end bool) []byte {
	s.written = dst
	if !s.over {
		if err := s.events.feed(chunk, s.event); err != nil {
			s.fail(badAnswer(err.Error()))
		}
	}
	if end && !s.over {
		s.fail(badAnswer("it broke off"))
	}
	dst, s.written = s.written, nil
	return dst
}

var errNotJSON = errors.New("an event is not JSON of Anthropic's")

// event translates one event. Those that OpenAI does not have, such as ping, are dropped.
func (s *Stream) event(data []byte) error {
	if s.over {
		return nil
	}
	var e event
	if err := json.Unmarshal(data, &e); err != nil {
		return errNotJSON
	}
	switch e.Type {
	case "message_start":
		if e.Message != nil {
			s.begin(e.Message)
		}
	case "content_block_start":
		if e.ContentBlock != nil {
			s.beginBlock(e.Index, e.ContentBlock)
		}
	case "content_block_delta":
		s.addToBlock(e.Index, &e.Delta)
	case "content_block_stop":
		s.endBlock(e.Index)
	case "message_delta":
		if e.Usage != nil {
			s.usage.update(e.Usage)
		}
		if e.Delta.StopReason != "" {
			s.finish(e.Delta.StopReason)
		}
	case "message_stop":
		s.end()
	case "error":
		if e.Error == nil {
			return errors.New("an error without a word")
		}
		s.fail(e.Error.openAI())
	}
	return nil
}

func (s *Stream) begin(m *message) {
	s.head.ID, s.head.Model = m.ID, m.Model
	s.usage = m.Usage
	nothing := ""
	s.say(delta{Role: "assistant", Content: &nothing})
}

func (s *Stream) beginBlock(index int, b *answerBlock) {
	switch b.Type {
	case "text":
		s.text(b.Text)
	case "tool_use":
		c := &call{index: s.tools, input: b.Input}
		s.tools++
		s.inputs[index] = c
		s.say(delta{ToolCalls: []callDelta{{Index: c.index, ID: b.ID, Type: "function", Function: functionDelta{Name: b.Name}}}})
	}
}

func (s *Stream) addToBlock(index int, d *eventDelta) {
	switch d.Type {
	case "text_delta":
		s.text(d.Text)
	case "input_json_delta":
		if c := s.inputs[index]; c != nil && d.PartialJSON != "" {
			c.any = true
			s.arguments(c, d.PartialJSON)
		}
	}
}

// endBlock gives a call that got no arguments those it began with: OpenAI's clients parse them, and {} is the least.
func (s *Stream) endBlock(index int) {
	if c := s.inputs[index]; c != nil && !c.any {
		s.arguments(c, arguments(c.input))
	}
	delete(s.inputs, index)
}

func (s *Stream) text(text string) {
	if text != "" {
		s.say(delta{Content: &text})
	}
}

func (s *Stream) arguments(c *call, piece string) {
	s.say(delta{ToolCalls: []callDelta{{Index: c.index, Function: functionDelta{Arguments: piece}}}})
}

func (s *Stream) finish(stopReason string) {
	if s.ending {
		return
	}
	s.ending = true
	reason := finish(stopReason)
	s.send(chunkChoice{FinishReason: &reason})
}

func (s *Stream) end() {
	s.finish("end_turn")
	if s.chat.IncludeUsage {
		last := s.head
		last.Choices = []chunkChoice{}
		last.Usage = marshal(s.usage.openAI())
		s.write(marshal(last))
	}
	s.write([]byte("[DONE]"))
	s.over = true
}

// fail says what went wrong, as OpenAI's clients understand it, and ends the answer.
func (s *Stream) fail(e *Error) {
	s.write(ErrorBody(e))
	s.over = true
}

func (s *Stream) say(d delta) { s.send(chunkChoice{Delta: d}) }

func (s *Stream) send(c chunkChoice) {
	next := s.head
	next.Choices = []chunkChoice{c}
	s.write(marshal(next))
}

func (s *Stream) write(data []byte) {
	s.written = append(s.written, "data: "...)
	s.written = append(s.written, data...)
	s.written = append(s.written, "\n\n"...)
}

// update takes the counts that an event names: they are totals, and grow.
func (u *usage) update(now *usage) {
	u.Input = max(u.Input, now.Input)
	u.CacheWritten = max(u.CacheWritten, now.CacheWritten)
	u.CacheRead = max(u.CacheRead, now.CacheRead)
	u.Output = max(u.Output, now.Output)
}
