package translate

import (
	"bytes"
	"encoding/json"
)

// messagesRequest is what is sent to Anthropic.
type messagesRequest struct {
	Model         string         `json:"model"`
	MaxTokens     int            `json:"max_tokens"`
	System        any            `json:"system,omitempty"` // blocks.plain
	Messages      []turn         `json:"messages"`
	Tools         []tool         `json:"tools,omitempty"`
	ToolChoice    *toolChoice    `json:"tool_choice,omitempty"`
	Temperature   *float64       `json:"temperature,omitempty"`
	TopP          *float64       `json:"top_p,omitempty"`
	StopSequences []string       `json:"stop_sequences,omitempty"`
	Stream        bool           `json:"stream,omitempty"`
	Metadata      *messagesOwner `json:"metadata,omitempty"`
}

type messagesOwner struct {
	UserID string `json:"user_id"`
}

// turn is a message.
type turn struct {
	Role    string `json:"role"`
	Content any    `json:"content"` // blocks.plain
}

type blocks []block

// plain returns what every provider of this API understands: a string if there is but text in one block, or none at all.
func (b blocks) plain() any {
	switch {
	case len(b) == 0:
		return ""
	case len(b) == 1 && b[0].Type == "text":
		return b[0].Text
	}
	return b
}

// block is a piece of content. Type says which of the fields it has.
type block struct {
	Type      string          `json:"type"`
	Text      string          `json:"text,omitempty"`
	Source    *source         `json:"source,omitempty"` // of an image or a document
	Title     string          `json:"title,omitempty"`  // of a document
	ID        string          `json:"id,omitempty"`     // of a tool_use, with Name and Input
	Name      string          `json:"name,omitempty"`
	Input     json.RawMessage `json:"input,omitempty"`
	ToolUseID string          `json:"tool_use_id,omitempty"` // of a tool_result, with Content
	Content   any             `json:"content,omitempty"`     // blocks.plain
}

type source struct {
	Type      string `json:"type"` // base64 or url
	MediaType string `json:"media_type,omitempty"`
	Data      string `json:"data,omitempty"`
	URL       string `json:"url,omitempty"`
}

type tool struct {
	Name        string          `json:"name"`
	Description string          `json:"description,omitempty"`
	InputSchema json.RawMessage `json:"input_schema"`
}

type toolChoice struct {
	Type            string `json:"type"` // auto, any, tool or none
	Name            string `json:"name,omitempty"`
	DisableParallel bool   `json:"disable_parallel_tool_use,omitempty"`
}

// message is Anthropic's answer, and what a stream begins with.
type message struct {
	ID         string        `json:"id"`
	Type       string        `json:"type"`
	Model      string        `json:"model"`
	Content    []answerBlock `json:"content"`
	StopReason string        `json:"stop_reason"`
	Usage      usage         `json:"usage"`
}

// answerBlock is what is read of a block in an answer.
type answerBlock struct {
	Type  string          `json:"type"`
	Text  string          `json:"text"`
	ID    string          `json:"id"`
	Name  string          `json:"name"`
	Input json.RawMessage `json:"input"`
}

// usage counts tokens. Those read from a cache or written to it are not among the input.
type usage struct {
	Input        int `json:"input_tokens"`
	CacheWritten int `json:"cache_creation_input_tokens"`
	CacheRead    int `json:"cache_read_input_tokens"`
	Output       int `json:"output_tokens"`
}

// marshal is json.Marshal for values that always can be, and leaves <, > and & as they are.
func marshal(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic("bug: translate: " + err.Error())
	}
	return bytes.TrimSuffix(b.Bytes(), []byte("\n"))
}
