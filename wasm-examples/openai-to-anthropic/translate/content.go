package translate

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"unicode/utf8"
)

// chatMessage is a message of OpenAI's.
type chatMessage struct {
	Role       string         `json:"role"`
	Content    content        `json:"content"`
	Refusal    string         `json:"refusal"`
	ToolCalls  []chatToolCall `json:"tool_calls"`
	ToolCallID string         `json:"tool_call_id"`
}

type chatToolCall struct {
	ID       string `json:"id"`
	Type     string `json:"type"`
	Function struct {
		Name      string `json:"name"`
		Arguments string `json:"arguments"`
	} `json:"function"`
}

// content is a string, which is one part, or parts. A missing one, null and "" have none.
type content []part

type part struct {
	Type     string `json:"type"`
	Text     string `json:"text"`
	Refusal  string `json:"refusal"`
	ImageURL struct {
		URL string `json:"url"`
	} `json:"image_url"`
	File struct {
		Data string `json:"file_data"`
		Name string `json:"filename"`
	} `json:"file"`
}

// UnmarshalJSON reads valid JSON, as encoding/json promises.
func (c *content) UnmarshalJSON(b []byte) error {
	*c = nil
	switch b[0] {
	case 'n':
		return nil
	case '"':
		*c = content{{Type: "text"}}
		text := &(*c)[0].Text
		if inner := b[1 : len(b)-1]; bytes.IndexByte(inner, '\\') < 0 && utf8.Valid(inner) {
			*text = string(inner) // most text is plain, and another pass of encoding/json is not free
			return nil
		}
		return json.Unmarshal(b, text)
	case '[':
		return json.Unmarshal(b, (*[]part)(c))
	}
	return &json.UnmarshalTypeError{Value: "neither a string nor an array", Type: reflect.TypeFor[string]()}
}

// converse translates the conversation: what the system says goes in front of it, and what comes from one side in a row
// becomes one message, so that the results of tools stand right after their calls.
func (m *messagesRequest) converse(messages []chatMessage) error {
	m.Messages = []turn{} // an empty list is not null
	var system, said blocks
	side := "" // who says it
	finish := func() {
		if side != "" {
			m.Messages = append(m.Messages, turn{side, said.plain()})
		}
		said = nil
	}
	for i := range messages {
		role, next, err := messages[i].translate(fmt.Sprintf("messages[%d]", i))
		switch {
		case err != nil:
			return err
		case role == "system":
			system = append(system, next...)
			continue
		case role == "assistant" && len(next) == 0: // says nothing
			continue
		case role != side:
			finish()
			side = role
		}
		said = append(said, next...)
	}
	finish()
	if len(system) > 0 {
		m.System = system.plain()
	}
	return nil
}

// translate returns who says what, in Anthropic's words.
func (c *chatMessage) translate(place string) (role string, said blocks, err error) {
	switch c.Role {
	case "system", "developer":
		role = "system"
		said, err = c.Content.text(place)
	case "user":
		role = "user"
		said, err = c.Content.blocks(place)
	case "assistant":
		role = "assistant"
		said, err = c.assistant(place)
	case "tool":
		role = "user"
		said, err = c.result(place)
	case "function":
		err = unsupported(place+".role", "the role 'function' is not translated; use 'tool'.")
	case "":
		err = invalid(place+".role", "missing_required_parameter", "Missing required parameter: '%s.role'.", place)
	default:
		err = invalid(place+".role", "invalid_value", "Invalid value: '%.64s'. Supported values are: 'system', 'assistant', 'user', 'function', 'tool', and 'developer'.", c.Role)
	}
	return role, said, err
}

// text returns content that may only be text. Anthropic wants no empty pieces.
func (c content) text(place string) (blocks, error) {
	var list blocks
	for i := range c {
		p := &c[i]
		switch {
		case p.Type != "text" && p.Type != "refusal":
			return nil, invalid(fmt.Sprintf("%s.content[%d].type", place, i), "invalid_value", "Invalid value: '%.64s'. Supported values are: 'text'.", p.Type)
		case p.Text+p.Refusal != "":
			list = append(list, block{Type: "text", Text: p.Text + p.Refusal})
		}
	}
	return list, nil
}

// blocks returns what a user says and shows.
func (c content) blocks(place string) (blocks, error) {
	var list blocks
	for i := range c {
		p := &c[i]
		place := fmt.Sprintf("%s.content[%d]", place, i)
		switch p.Type {
		case "text":
			if p.Text != "" {
				list = append(list, block{Type: "text", Text: p.Text})
			}
		case "image_url":
			s, err := image(p.ImageURL.URL, place+".image_url.url")
			if err != nil {
				return nil, err
			}
			list = append(list, block{Type: "image", Source: s})
		case "file":
			s, ok := dataURL(p.File.Data)
			if !ok || s.MediaType != "application/pdf" {
				return nil, unsupported(place+".file", "only 'file_data' with a PDF as a data: URL in base64 is translated.")
			}
			list = append(list, block{Type: "document", Source: s, Title: p.File.Name})
		default:
			return nil, invalid(place+".type", "invalid_value", "Invalid value: '%.64s'. Supported values are: 'text', 'image_url' and 'file'.", p.Type)
		}
	}
	return list, nil
}

func image(url, place string) (*source, error) {
	if strings.HasPrefix(url, "https://") {
		return &source{Type: "url", URL: url}, nil
	}
	if s, ok := dataURL(url); ok && strings.HasPrefix(s.MediaType, "image/") {
		return s, nil
	}
	return nil, invalid(place, "invalid_image_url", "Invalid '%s': expected an https: URL, or an image as a data: URL in base64.", place)
}

// dataURL takes data:<media type>;base64,<data> apart.
func dataURL(url string) (*source, bool) {
	url, ok := strings.CutPrefix(url, "data:")
	head, data, comma := strings.Cut(url, ",")
	head, base64 := strings.CutSuffix(head, ";base64")
	mediaType, _, _ := strings.Cut(strings.ToLower(head), ";")
	if mediaType == "image/jpg" { // often seen, and refused by Anthropic
		mediaType = "image/jpeg"
	}
	return &source{Type: "base64", MediaType: mediaType, Data: data}, ok && comma && base64 && data != ""
}

// assistant returns what a model has said, and the tools it has called.
func (c *chatMessage) assistant(place string) (blocks, error) {
	list, err := c.Content.text(place)
	if err != nil {
		return nil, err
	}
	if c.Refusal != "" {
		list = append(list, block{Type: "text", Text: c.Refusal})
	}
	for i := range c.ToolCalls {
		call := &c.ToolCalls[i]
		place := fmt.Sprintf("%s.tool_calls[%d]", place, i)
		if call.Type != "function" && call.Type != "" {
			return nil, unsupported(place+".type", "only functions are translated.")
		}
		input, ok := object(call.Function.Arguments)
		if !ok {
			return nil, invalid(place+".function.arguments", "invalid_value", "Invalid '%s.function.arguments': expected a JSON object.", place)
		}
		list = append(list, block{Type: "tool_use", ID: call.ID, Name: call.Function.Name, Input: input})
	}
	return list, nil
}

// result returns what a tool has given.
func (c *chatMessage) result(place string) (blocks, error) {
	if c.ToolCallID == "" {
		return nil, invalid(place+".tool_call_id", "missing_required_parameter", "Missing required parameter: '%s.tool_call_id'.", place)
	}
	list, err := c.Content.text(place)
	if err != nil {
		return nil, err
	}
	b := block{Type: "tool_result", ToolUseID: c.ToolCallID}
	if len(list) > 0 {
		b.Content = list.plain()
	}
	return blocks{b}, nil
}

// object returns a text that is a JSON object; none is an empty one.
func object(text string) (json.RawMessage, bool) {
	text = strings.TrimSpace(text)
	if text == "" {
		return json.RawMessage("{}"), true
	}
	return json.RawMessage(text), text[0] == '{' && json.Valid([]byte(text))
}
