package demo

import (
	"cmp"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"math"
	"net/http"
	"reflect"
	"strconv"
)

const (
	defaultDimensions = 1536
	maxDimensions     = 4096
	maxInputs         = 2048
	writeSize         = 64 << 10 // an answer of many vectors is sent in pieces of about this size
)

// embeddingRequest is what is read of a request; all else is ignored.
type embeddingRequest struct {
	Model          string `json:"model"`
	Input          inputs `json:"input"`
	Dimensions     *int   `json:"dimensions"`
	EncodingFormat string `json:"encoding_format"`

	Fallbacks json.RawMessage `json:"fallbacks"`
}

// embeddings is POST /v1/embeddings.
func (x *exchange) embeddings() error {
	var q embeddingRequest
	if err := x.read(&q); err != nil {
		return err
	}
	q.Model = cmp.Or(q.Model, x.deployment)
	if err := q.check(); err != nil {
		return err
	}
	tokens := 0
	for _, in := range q.Input {
		tokens += in.tokens
	}
	if err := x.admit(tokens, 0); err != nil {
		return err
	}
	if err := x.hold(); err != nil {
		return err
	}
	dimensions := defaultDimensions
	if q.Dimensions != nil {
		dimensions = *q.Dimensions
	}
	x.w.Header()["Content-Type"] = contentJSON
	vector, sent := make([]float32, dimensions), false
	b := append(x.out[:0], `{"object":"list","data":[`...)
	for i, in := range q.Input {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendInt(append(b, `{"object":"embedding","index":`...), int64(i), 10)
		b = append(b, `,"embedding":`...)
		fill(vector, in.hash)
		if q.EncodingFormat == "base64" {
			b = appendBase64(b, vector)
		} else {
			b = appendFloats(b, vector)
		}
		b = append(b, '}')
		if len(b) >= writeSize {
			if x.r.Context().Err() != nil {
				return errGone
			}
			if x.fault != noFault && !sent {
				x.frame(0)
			}
			if err := x.write(b); err != nil {
				return err
			}
			b, sent = b[:0], true
		}
	}
	b = appendString(append(b, `],"model":`...), q.Model)
	b = strconv.AppendInt(append(b, `,"usage":{"prompt_tokens":`...), int64(tokens), 10)
	b = strconv.AppendInt(append(b, `,"total_tokens":`...), int64(tokens), 10)
	x.out = append(b, "}}\n"...)
	if !sent {
		return x.reply(http.StatusOK, x.out)
	}
	if x.fault == noFault || x.fault == trickle {
		x.leave()
	}
	x.untilFault = 0 // now or never
	return x.write(x.out)
}

func (q *embeddingRequest) check() error {
	if err := checkFallbacks(q.Fallbacks); err != nil {
		return err
	}
	if err := checkModel(q.Model); err != nil {
		return err
	}
	if q.Input == nil {
		return missing("input")
	}
	if n := len(q.Input); n == 0 || n > maxInputs {
		return badValue("input", "invalid_array_length", "expected 1 to %d inputs, but got %d instead.", maxInputs, n)
	}
	for i, in := range q.Input {
		if in.tokens == 0 {
			return badValue("input", "empty_input", "input %d is empty.", i)
		}
	}
	switch q.EncodingFormat {
	case "", "float", "base64":
	default:
		return badValue("encoding_format", "invalid_value",
			"got %.64q. Supported values are: float, base64.", q.EncodingFormat)
	}
	return checkCount("dimensions", q.Dimensions, maxDimensions)
}

// input is one thing to embed.
type input struct {
	hash   uint64
	tokens int
}

// inputs reads a string, an array of strings, an array of tokens or an array of arrays of tokens.
type inputs []input

// UnmarshalJSON reads valid JSON, as encoding/json promises.
func (in *inputs) UnmarshalJSON(b []byte) error {
	switch b[0] {
	case 'n':
		return nil
	case '"':
		var text string
		err := json.Unmarshal(b, &text)
		*in = inputs{ofText(text)}
		return err
	case '[':
	default:
		return typeError(b[0], reflect.TypeFor[string]())
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(b, &elements); err != nil {
		return err
	}
	if len(elements) > 0 && elements[0][0] != '"' && elements[0][0] != '[' {
		var tokens []int64
		err := json.Unmarshal(b, &tokens)
		*in = inputs{ofTokens(tokens)}
		return err
	}
	list := make(inputs, len(elements))
	for i, element := range elements {
		if elements[0][0] == '"' {
			var text string
			if err := json.Unmarshal(element, &text); err != nil {
				return err
			}
			list[i] = ofText(text)
			continue
		}
		var tokens []int64
		if err := json.Unmarshal(element, &tokens); err != nil {
			return err
		}
		list[i] = ofTokens(tokens)
	}
	*in = list
	return nil
}

// FNV-1a (RFC 9923), the same in every process.
const (
	fnvOffset = 14695981039346656037
	fnvPrime  = 1099511628211
)

func ofText(text string) input {
	h := uint64(fnvOffset)
	for i := range len(text) {
		h = (h ^ uint64(text[i])) * fnvPrime
	}
	return input{hash: h, tokens: textTokens(text)}
}

func ofTokens(tokens []int64) input {
	h := uint64(fnvOffset)
	for _, token := range tokens {
		h = mix(h ^ uint64(token))
	}
	return input{hash: h, tokens: len(tokens)}
}

// fill sets v to the unit vector of hash. A shorter vector is the head of a longer one, scaled.
func fill(v []float32, hash uint64) {
	sum, from := 0.0, mix(hash)
	for i := range v {
		f := float64(int64(mix(from+uint64(i)))) / (1 << 63)
		v[i] = float32(f)
		sum += f * f
	}
	scale := float32(1 / math.Sqrt(sum))
	for i := range v {
		v[i] *= scale
	}
}

func appendFloats(b []byte, v []float32) []byte {
	b = append(b, '[')
	for i, f := range v {
		if i > 0 {
			b = append(b, ',')
		}
		b = strconv.AppendFloat(b, float64(f), 'g', -1, 32)
	}
	return append(b, ']')
}

// appendBase64 appends the little-endian floats that OpenAI's SDKs ask for.
func appendBase64(b []byte, v []float32) []byte {
	raw := make([]byte, 0, 4*len(v))
	for _, f := range v {
		raw = binary.LittleEndian.AppendUint32(raw, math.Float32bits(f))
	}
	return append(base64.StdEncoding.AppendEncode(append(b, '"'), raw), '"')
}
