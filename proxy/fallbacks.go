package proxy

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"
)

const (
	maxFallbacks     = 8        // in one request
	maxFallbackBytes = 512      // of one, decoded
	maxFallbackText  = 64 << 10 // of all of them as the body spells them
)

var errFallbacks = errors.New(`"fallbacks" is not what Edge reads`)

// decodeFallbacks reads the array that a request's "fallbacks" is, as text. Each element is "<provider>/<model>", or
// {"provider": ..., "model": ...}, which is returned in the first form. Names are compared exactly, and none may come
// twice. The errors wrap errFallbacks and show none of the text.
func decodeFallbacks(text []byte) (list []string, err error) {
	if !utf8.Valid(text) {
		return nil, fmt.Errorf("%w: it is not valid UTF-8", errFallbacks)
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()                        // one that float64 cannot hold is no other fault
	if _, err := d.Token(); err != nil { // the bracket
		return nil, fmt.Errorf("%w: it is not JSON", errFallbacks)
	}
	for i := 0; d.More(); i++ {
		if i == maxFallbacks {
			return nil, fmt.Errorf("%w: it has more than %d elements", errFallbacks, maxFallbacks)
		}
		one, err := decodeFallback(d)
		if err != nil {
			return nil, fmt.Errorf("%w: element %d %w", errFallbacks, i, err)
		}
		list = append(list, one)
	}
	return list, nil
}

var (
	errFallbackType   = errors.New(`is neither a string nor an object`)
	errFallbackMember = errors.New(`has other members than "provider" and "model", each once and a string`)
	errFallbackLong   = fmt.Errorf("is longer than %d bytes", maxFallbackBytes)
	errFallbackText   = errors.New("is not valid Unicode")
)

// decodeFallback reads one element.
func decodeFallback(d *json.Decoder) (string, error) {
	token, err := d.Token()
	if err != nil {
		return "", err
	}
	one, ok := token.(string)
	if token == json.Delim('{') {
		if one, err = decodeFallbackObject(d); err != nil {
			return "", err
		}
	} else if !ok {
		return "", errFallbackType
	}
	switch {
	case len(one) > maxFallbackBytes:
		return "", errFallbackLong
	case strings.ContainsRune(one, utf8.RuneError): // also what encoding/json makes of lone surrogates
		return "", errFallbackText
	}
	return one, nil
}

// decodeFallbackObject reads the rest of an object.
func decodeFallbackObject(d *json.Decoder) (string, error) {
	found := map[string]string{}
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return "", err
		}
		value, err := d.Token()
		if err != nil {
			return "", err
		}
		text, ok := value.(string)
		_, twice := found[name.(string)]
		if name != "provider" && name != "model" || !ok || twice {
			return "", errFallbackMember
		}
		found[name.(string)] = text
	}
	if _, err := d.Token(); err != nil { // the brace
		return "", err
	}
	return found["provider"] + "/" + found["model"], nil
}
