package translate

import (
	"encoding/json"
	"fmt"
)

type chatTool struct {
	Type     string `json:"type"`
	Function struct {
		Name        string          `json:"name"`
		Description string          `json:"description"`
		Parameters  json.RawMessage `json:"parameters"`
	} `json:"function"`
}

// equip translates the tools, and which of them may or must be called.
func (m *messagesRequest) equip(q *chatRequest) error {
	for i := range q.Tools {
		t := &q.Tools[i]
		place := fmt.Sprintf("tools[%d]", i)
		if t.Type != "function" {
			return unsupported(place+".type", "only functions are translated.")
		}
		if t.Function.Name == "" {
			return invalid(place+".function.name", "missing_required_parameter", "Missing required parameter: '%s.function.name'.", place)
		}
		schema := t.Function.Parameters
		switch {
		case len(schema) == 0 || string(schema) == "null":
			schema = json.RawMessage(`{"type":"object","properties":{}}`)
		case schema[0] != '{':
			return invalid(place+".function.parameters", "invalid_type", "Invalid type for '%s.function.parameters': expected an object.", place)
		}
		m.Tools = append(m.Tools, tool{Name: t.Function.Name, Description: t.Function.Description, InputSchema: schema})
	}
	choice, err := chooseTool(q.ToolChoice)
	if err != nil {
		return err
	}
	single := q.ParallelToolCalls != nil && !*q.ParallelToolCalls
	switch {
	case len(m.Tools) == 0:
		if choice != nil && choice.Type != "none" && choice.Type != "auto" {
			return invalid("tool_choice", "invalid_value", "Invalid value for 'tool_choice': 'tool_choice' is only allowed when 'tools' are specified.")
		}
		return nil
	case choice == nil && single:
		choice = &toolChoice{Type: "auto"}
	}
	if choice != nil {
		choice.DisableParallel = single && choice.Type != "none"
	}
	m.ToolChoice = choice
	return nil
}

// chooseTool translates tool_choice, which is a word or an object; nil for none.
func chooseTool(raw json.RawMessage) (*toolChoice, error) {
	if len(raw) == 0 || string(raw) == "null" {
		return nil, nil
	}
	var word string
	if json.Unmarshal(raw, &word) == nil {
		types := map[string]string{"none": "none", "auto": "auto", "required": "any"}
		if types[word] == "" {
			return nil, invalid("tool_choice", "invalid_value", "Invalid value: '%.64s'. Supported values are: 'none', 'auto', and 'required'.", word)
		}
		return &toolChoice{Type: types[word]}, nil
	}
	var named chatTool
	if err := json.Unmarshal(raw, &named); err != nil || named.Type != "function" || named.Function.Name == "" {
		return nil, unsupported("tool_choice", `only a word, or {"type":"function","function":{"name":...}}, is translated.`)
	}
	return &toolChoice{Type: "tool", Name: named.Function.Name}, nil
}
